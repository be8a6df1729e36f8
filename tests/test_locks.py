"""Locks between processes, and file systems without."""

from __future__ import annotations

import errno
import fcntl
import logging
import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from aimspax_core import locks
from aimspax_core.locks import Holder, NoLocksError, held, holder

HOLD = """
import sys
from pathlib import Path
from aimspax_core.locks import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.lock"


@pytest.fixture
def other(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until it is killed."""
    command = [sys.executable, "-c", HOLD, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, cwd=Path(__file__).parents[1], **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture(params=["ENOLCK", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"])
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks, as Lustre is when it is mounted without `-o flock`."""
    number = getattr(errno, request.param)

    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(locks, "warned", set())


def test_one_holds_a_lock_and_the_other_is_told_so(path: Path) -> None:
    with held(path) as first, held(path, 0.0) as second:
        assert first is not None
        assert second is None
    with held(path, 0.0) as again:
        assert again is not None


def test_the_holder_of_a_lock_is_known(path: Path, other: subprocess.Popen[str]) -> None:
    found = holder(path)
    assert found is not None
    assert (found.pid, found.host) == (other.pid, os.uname().nodename)
    assert str(found) == f"process {other.pid} on {found.host}, since {found.since}"


def test_nobody_holds_a_lock_that_was_let_go_or_never_taken(path: Path) -> None:
    assert holder(path) is None
    with held(path):
        assert holder(path) is not None
    assert holder(path) is None


def test_a_killed_process_holds_nothing(path: Path, other: subprocess.Popen[str]) -> None:
    other.kill()
    other.wait()
    assert str(other.pid) in path.read_text(encoding="utf-8"), "it had no time to say goodbye"
    assert holder(path) is None


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"pid": 1, "color": "red"}', "\udcff"])
def test_a_holder_that_does_not_name_itself_is_one_all_the_same(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert holder(path) == Holder()


def test_a_lock_is_waited_for(path: Path) -> None:
    path.touch()
    with path.open() as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        threading.Timer(0.05, fcntl.flock, (look, fcntl.LOCK_UN)).start()
        with held(path) as file:
            assert file is not None


@pytest.mark.parametrize("wait_s", [math.inf, 5.0])
def test_who_waited_for_a_file_that_its_holder_removed_holds_the_new_one(
    path: Path, wait_s: float
) -> None:
    path.touch()
    with path.open() as first:
        fcntl.flock(first, fcntl.LOCK_EX)

        def remove() -> None:
            path.unlink()
            fcntl.flock(first, fcntl.LOCK_UN)

        threading.Timer(0.05, remove).start()
        with held(path, wait_s) as file:
            assert file is not None
            assert os.path.samestat(os.fstat(file.fileno()), path.stat())


def test_a_child_that_inherits_the_file_keeps_the_lock(path: Path) -> None:
    with held(path) as file:
        assert file is not None
        command = [sys.executable, "-c", "input()"]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(file.fileno(),))
    assert holder(path) is not None
    child.communicate(b"\n")
    assert holder(path) is None


def test_a_private_lock_cannot_be_read_by_others(path: Path) -> None:
    with held(path, mode=0o600):
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.usefixtures("no_locks")
def test_without_locks_all_goes_on_and_one_warning_says_so(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "aimspax"):
        for _ in range(2):
            with held(path) as file:
                assert file is not None
                assert holder(path) is None
    (warning,) = caplog.records
    assert f"the file system of {path.parent} has no locks" in warning.getMessage()


@pytest.mark.usefixtures("no_locks")
def test_required_locks_are_missed(path: Path) -> None:
    with pytest.raises(NoLocksError), held(path, required=True):
        pass
    with pytest.raises(NoLocksError):
        holder(path, required=True)


@pytest.mark.usefixtures("no_locks")
def test_labels_are_stored_on_a_file_system_without_locks(tmp_path: Path) -> None:
    from aimspax_core.labels.store import LabelStore

    store = LabelStore(tmp_path)
    with store.claim("abcd"), store.claim("abcd"):
        assert store.path("abcd").with_suffix(".lock").exists()
    assert not [*tmp_path.rglob("*.lock")]


@pytest.mark.usefixtures("no_locks")
def test_a_prefect_server_is_not_shared_without_locks(tmp_path: Path) -> None:
    from flows.server import ServerError
    from flows.server.own_files import starting_or_stopping

    with pytest.raises(ServerError, match="PREFECT_HOME"), starting_or_stopping(tmp_path):
        pass


@pytest.mark.usefixtures("no_locks")
def test_without_locks_nobody_cleans_up_behind_a_run_that_may_live(tmp_path: Path) -> None:
    from flows.pools.jobs import cleaner

    (tmp_path / "guard.lock").touch()
    assert cleaner._held(tmp_path)
