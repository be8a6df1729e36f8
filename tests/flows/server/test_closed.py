"""A server on loopback that asks for a password, as another user of the machine finds it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aimspax_core.campaign.requests import PauseRequest, ask
from aimspax_core.run_directory import RunDir
from flows import server
from flows.server.password import CHOICE
from tests.conftest import forget_prefect_settings, free_port

NOBODY = 65534
ROOT = Path(__file__).parents[3]

SITE = """
import json, os, sys
from flows import server
found = server.ensure()
from prefect import flow
from flows.pools.local import local_pool
@flow(name="busy")
def busy():
    with local_pool("ml", 1) as pool:
        info = pool.runner.client.scheduler_info()
        addresses = [info["address"], *info["workers"]]
        print(json.dumps([found.url, addresses, pool.dashboard]), flush=True)
        sys.stdin.read()
busy()
"""
"""A flow that has a pool of workers, as long as its input is open."""

PROBE = """
import json, os, socket, ssl, sys, urllib.error, urllib.request
asked = json.load(sys.stdin)
def get(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    kind = {"Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, kind), timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
def said(host, port, tls):
    with socket.create_connection((host, port), timeout=10) as plain:
        try:
            stream = plain
            if tls:
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                stream = context.wrap_socket(plain)
            stream.sendall(b"\\0" * 64)
            stream.settimeout(3)
            return len(stream.recv(1000))
        except OSError:
            return 0
def readable(path):
    try:
        os.listdir(path) if os.path.isdir(path) else open(path, "rb").close()
    except PermissionError:
        return False
    return True
def writable(path):
    try:
        open(os.path.join(path, "0-mine.json"), "w").close()
    except PermissionError:
        return False
    return True
print(json.dumps({
    "uid": os.getuid(),
    "answers": [get(url, body) for url, body in asked["calls"]],
    "dask": [said(h, p, tls) for h, p in asked["dask"] for tls in (False, True)],
    "pages": [get(url) for url in asked["pages"]],
    "readable": [path for path in asked["read"] if readable(path)],
    "writable": [path for path in asked["write"] if writable(path)],
    "open": readable(asked["open"]),
}))
"""
"""What somebody tries who is logged in here too; standard library only."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.getuid() != 0 or shutil.which("setpriv") is None, reason="only root can be another user"
    ),
]


@dataclass(frozen=True)
class Neighbour:
    """What the other user got.

    Attributes:
        got: By what was tried.
        files: What the owner's server wrote.
        own: What its owner's clients are told: exit code 0 if they are let in.
    """

    got: dict[str, Any]
    files: list[Path]
    own: int


@pytest.fixture(scope="module")
def neighbour() -> Iterator[Neighbour]:
    umask = os.umask(0o022)
    # Not pytest's own folder, which others cannot enter: here the files themselves have to tell.
    with tempfile.TemporaryDirectory(prefix="closed-") as name, pytest.MonkeyPatch.context() as env:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "open").touch()
        forget_prefect_settings(env)
        env.setenv("PREFECT_HOME", str(folder / "prefect"))
        env.setenv("PREFECT_SERVER_API_PORT", str(free_port()))
        env.setenv(CHOICE, "always")
        env.setenv("PYTHONPATH", str(ROOT))
        for variable in server.CLIENT_VARIABLES:
            env.delenv(variable, raising=False)
        process = subprocess.Popen(
            [sys.executable, "-c", SITE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            yield visit(folder, process)
        finally:
            process.communicate("")
            for variable in server.CLIENT_VARIABLES:
                env.setenv(variable, "")
            server.stop()
            os.umask(umask)


def visit(folder: Path, process: subprocess.Popen[str]) -> Neighbour:
    """Look around as another user, while the flow runs."""
    assert process.stdout is not None
    url, addresses, dashboard = json.loads(process.stdout.readline())
    page = dashboard.split("/")[2]
    run = RunDir(*(folder / part for part in ("run", "data", "logs", "losses", "models", "check")))
    ask(run, PauseRequest(time=0.0, by="me"))
    home = folder / "prefect"
    files = [path for path in home.glob("*") if path.name != "aimspax-server-ui"]
    calls = [
        ("flow_runs/filter", {}), ("logs/filter", {}), ("flows/", {"name": "mine"}),
        ("deployments/filter", {}), ("admin/settings", None), ("artifacts/filter", {}),
        ("work_pools/", {"name": "mine", "type": "process"}), ("block_documents/filter", {}),
    ]  # fmt: skip
    asked = {
        "calls": [(f"{url}/api/{path}", body) for path, body in calls],
        "dask": [
            (a.split("//")[1].rpartition(":")[0], int(a.rpartition(":")[2])) for a in addresses
        ],
        "pages": [
            f"http://{page}/{path}" for path in ("status", "info/main/workers.html", "json/")
        ],
        "read": [str(home), *map(str, files)],
        "write": [str(home), str(run.requests), str(run.state)],
        "open": str(folder / "open"),
    }
    done = subprocess.run(
        ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
         sys.executable, "-S", "-c", PROBE],
        input=json.dumps(asked), capture_output=True, text=True, timeout=120, check=False,
        cwd="/", env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    own = subprocess.run(
        [sys.executable, "-c", "from flows.commands.app import main; main()", "server", "status"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return Neighbour(json.loads(done.stdout), files, own.returncode)


def test_the_neighbour_is_another_user_who_sees_what_is_open(neighbour: Neighbour) -> None:
    assert neighbour.got["uid"] == NOBODY
    assert neighbour.got["open"]


def test_the_owner_is_let_in(neighbour: Neighbour) -> None:
    assert neighbour.own == 0


def test_the_api_gives_and_does_nothing(neighbour: Neighbour) -> None:
    assert set(neighbour.got["answers"]) == {401}


def test_dask_answers_nothing(neighbour: Neighbour) -> None:
    assert len(neighbour.got["dask"]) == 4
    assert set(neighbour.got["dask"]) == {0}


def test_the_dashboards_of_dask_show_nothing(neighbour: Neighbour) -> None:
    assert set(neighbour.got["pages"]) == {404}


def test_key_database_and_logs_cannot_be_read(neighbour: Neighbour) -> None:
    assert {"prefect.db", "aimspax-server.key"} <= {file.name for file in neighbour.files}
    assert neighbour.got["readable"] == []


def test_no_request_can_be_left_for_a_campaign(neighbour: Neighbour) -> None:
    assert neighbour.got["writable"] == []
