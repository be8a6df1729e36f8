"""What all tests share: how Hypothesis behaves, one real Prefect server, one real Slurm."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from flows import server as prefect_servers
from flows.server.password import CHOICE
from tests.disks import mounted
from tests.settings_files import SettingsFiles
from tests.slurm.machine import NotPossible, Slurm, running

# Cores may be shared: a slow example is no failure. On CI the same examples are tried each time.
settings.register_profile("aimspax", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("aimspax")

if os.environ.get("AIMSPAX_TEST_QUICK"):  # `make quick`: a test that needs torch fails there
    sys.modules["torch"] = None  # type: ignore[assignment]

KEYS = pytest.StashKey[dict[str, set[str]]]()
"""Keys of the settings that the collected tests show, by section: `@pytest.mark.key`."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Note which keys the tests show, before any test is deselected."""
    shown = config.stash.setdefault(KEYS, {})
    for item in items:
        for mark in item.iter_markers("key"):
            section, *keys = mark.args
            shown.setdefault(section, set()).update(keys)


@pytest.fixture(scope="session")
def prefect_server(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[prefect_servers.Server]:
    """A real server with a database of its own; `PREFECT_API_URL` and `PREFECT_HOME` point to it.

    Flows may be run in the test's own process or in a subprocess.
    """
    with pytest.MonkeyPatch.context() as patch:
        forget_prefect_settings(patch)
        patch.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect-home")))
        patch.setenv("PREFECT_SERVER_API_PORT", str(free_port()))
        patch.setenv(CHOICE, "never")  # whoever else can log in where the tests run
        # `ensure` sets these itself: have them put back at the end.
        for name in ("PREFECT_API_URL", "AIMSPAX_SERVER_URL", "DO_NOT_TRACK"):
            patch.setenv(name, "")
        server = prefect_servers.ensure()
        try:
            with prefect_pointed_at(server):
                yield server
        finally:
            prefect_servers.stop()


@pytest.fixture(scope="session")
def slurm_machine() -> Iterator[Slurm]:
    """A real Slurm on this machine; `SLURM_CONF` points to it.

    Where it cannot run, its tests are skipped; but they fail if nothing may be skipped.
    """
    with contextlib.ExitStack() as stack:
        # Not pytest's own folder: the path of a socket is short.
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp"))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name in [*os.environ]:
            if name.startswith(("SLURM_", "SBATCH_", "SQUEUE_")):
                patch.delenv(name)
        try:
            slurm = stack.enter_context(running(Path(folder) / "run"))
        except NotPossible as reason:
            if os.environ.get("AIMSPAX_TEST_ALL"):
                pytest.fail(str(reason))
            pytest.skip(str(reason))
        patch.setenv("SLURM_CONF", str(slurm.conf))
        yield slurm


@pytest.fixture
def slurm(slurm_machine: Slurm) -> Iterator[Slurm]:
    """The session's Slurm, with no jobs in it and both nodes up, before and after the test."""
    slurm_machine.clear()
    yield slurm_machine
    slurm_machine.clear()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB of its own."""
    with mounted(tmp_path / "disk", "256k") as disk:
        yield disk


@contextlib.contextmanager
def prefect_pointed_at(server: prefect_servers.Server) -> Iterator[None]:
    """Tell Prefect too: a test module may have imported it before the environment was set."""
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

    home = os.environ["PREFECT_HOME"]
    with temporary_settings({PREFECT_API_URL: server.api_url, PREFECT_HOME: home}):
        yield


def forget_prefect_settings(patch: pytest.MonkeyPatch) -> None:
    """Hide what the developer's own environment says about Prefect."""
    for name in [*os.environ]:
        if name.startswith("PREFECT_"):
            patch.delenv(name)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def inputs(tmp_path: Path) -> SettingsFiles:
    return SettingsFiles(tmp_path)
