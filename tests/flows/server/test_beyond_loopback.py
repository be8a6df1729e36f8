"""Our server when compute nodes have to reach it: with a password, and closed without."""

from __future__ import annotations

import base64
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from flows import server
from flows.server import Server, ServerError, own
from flows.server.password import CHOICE
from tests.conftest import forget_prefect_settings, free_port
from tests.prefect_api import call

HOST = "127.0.0.2"  # reaches who listens on all interfaces, but not who listens on 127.0.0.1
ELSEWHERE = """
import json, os
from dataclasses import asdict
from flows import server
print(json.dumps(asdict(server.ensure())))
from prefect import flow, get_run_logger
@flow(name="hello")
def hello():
    get_run_logger().info("hello")
hello()
"""
SOCKETS = (
    "/events/in",
    "/events/out",
    "/logs/out",
    "/task_runs/subscriptions/scheduled",
    "/work_pools/none/workers/connect",
)
CREDENTIALS = [None, ":", "aimspax:", "aimspax:wrong"]

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Site:
    """A server that listened on loopback, was used by a flow run, and then had to be reachable."""

    local: Server
    refusal: str
    found: Server
    run: str
    home: Path
    password: str
    other: dict[str, Any]

    def api(self, method: str, path: str, body: Any = None) -> Any:
        auth = base64.b64encode(self.password.encode()).decode()
        answer = httpx.request(
            *(method, f"{self.found.api_url}{path}"),
            json=body,
            headers={"Authorization": f"Basic {auth}"},
            timeout=20,
        )
        answer.raise_for_status()
        return answer.json()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("site") / "prefect"
    with pytest.MonkeyPatch.context() as patch:
        forget_prefect_settings(patch)
        patch.setenv("PREFECT_HOME", str(home))
        patch.setenv("PREFECT_SERVER_API_PORT", str(free_port()))
        patch.setenv(CHOICE, "never")  # on loopback: whoever else can log in where the tests run
        for name in (*server.CLIENT_VARIABLES, "DO_NOT_TRACK"):
            patch.setenv(name, "")  # so that what `ensure` sets is put back
        umask = os.umask(0o022)
        try:
            local = server.ensure()
            run = running_flow(local)
            with pytest.raises(ServerError) as refused:
                server.ensure(HOST)
            ended = {"state": {"type": "COMPLETED"}, "force": True}
            post(f"{local.api_url}/flow_runs/{run}/set_state", ended)
            running_flow(local, "PENDING")
            with pytest.raises(ServerError):
                server.ensure(HOST)
            with pytest.MonkeyPatch.context() as later:
                later.setattr(own, "BEGINS_WITHIN_S", 0.0)
                found = server.ensure(HOST)
            password = os.environ["PREFECT_API_AUTH_STRING"]
            other = used_elsewhere()
            yield Site(local, str(refused.value), found, run, home, password, other)
        finally:
            os.umask(umask)
            server.stop()


def test_server_in_use_is_not_started_again(site: Site) -> None:
    assert "cannot be started again" in site.refusal
    assert "busy-heron" in site.refusal


@pytest.mark.parametrize(
    ("state", "age_s", "uses"),
    [
        ("RUNNING", 1e6, True),
        ("CANCELLING", 1e6, True),
        ("PENDING", 20, True),
        ("PENDING", 301, False),  # of a call that was made again, since nothing answered it
    ],
)
def test_a_run_uses_a_server_unless_it_never_begins(state: str, age_s: float, uses: bool) -> None:
    now = datetime.now(UTC)
    since = (now - timedelta(seconds=age_s)).isoformat().replace("+00:00", "Z")
    run = {"name": "busy-heron", "state": {"type": state, "timestamp": since}}
    assert own.in_use([run], now) == ["busy-heron"] * uses


def test_server_on_loopback_is_started_again_on_the_same_port(site: Site) -> None:
    assert site.found.started
    assert site.found.pid != site.local.pid
    assert site.found.url == site.local.url


def test_its_database_is_still_there(site: Site) -> None:
    assert site.api("GET", f"/flow_runs/{site.run}")["name"] == "busy-heron"


def test_api_has_the_name_that_compute_nodes_use(site: Site) -> None:
    port = site.local.url.rpartition(":")[2]
    assert site.found.api_url == f"http://{HOST}:{port}/api"
    assert os.environ["PREFECT_API_URL"] == site.found.api_url


def test_it_is_found_again_under_that_name(site: Site) -> None:
    again = server.ensure(HOST)
    assert not again.started
    assert (again.pid, again.api_url) == (site.found.pid, site.found.api_url)


def test_name_that_does_not_lead_here_is_an_error(site: Site) -> None:
    with pytest.raises(ServerError, match=r"cannot be reached as nowhere\.invalid"):
        server.ensure("nowhere.invalid")


def test_local_run_of_another_process_uses_it_through_loopback(site: Site) -> None:
    assert not site.other["started"]
    assert site.other["pid"] == site.found.pid
    assert site.other["api_url"] == f"{site.local.url}/api"


def test_flow_run_of_another_process_is_in_its_database(site: Site) -> None:
    flows = site.api("POST", "/flows/filter", {"flows": {"name": {"any_": ["hello"]}}})
    (run,) = site.api("POST", "/flow_runs/filter", {"flows": {"id": {"any_": [flows[0]["id"]]}}})
    assert run["state"]["type"] == "COMPLETED"


def test_status_says_where_the_password_is(site: Site) -> None:
    found = server.status()
    assert found is not None
    assert found.problem is None
    assert found.server.password == str(site.home / "aimspax-server.key")


@pytest.mark.parametrize("password", CREDENTIALS)
def test_without_the_password_the_api_answers_401_everywhere(
    site: Site, password: str | None
) -> None:
    headers = {}
    if password is not None:
        headers["Authorization"] = f"Basic {base64.b64encode(password.encode()).decode()}"
    paths = site.api("GET", "/openapi.json")["paths"]
    answered = set()
    with httpx.Client(base_url=site.found.api_url, headers=headers) as client:
        for path, methods in paths.items():
            there = re.sub(r"\{[^}]*\}", site.run, path)
            for method in methods:
                answer = client.request(method, there, json={} if method != "get" else None)
                if answer.status_code != httpx.codes.UNAUTHORIZED:
                    answered.add((method, path))
    assert len(paths) > 100
    assert answered == {("get", "/health"), ("get", "/ready")}


@pytest.mark.parametrize("path", SOCKETS)
@pytest.mark.parametrize("password", CREDENTIALS)
def test_without_the_password_no_websocket_is_served(
    site: Site, path: str, password: str | None
) -> None:
    assert "auth_success" not in said_by_socket(site, path, password)


@pytest.mark.parametrize("path", SOCKETS)
def test_with_the_password_websockets_are_served(site: Site, path: str) -> None:
    assert "auth_success" in said_by_socket(site, path, site.password)


@pytest.mark.parametrize("path", SOCKETS)
def test_websocket_of_old_clients_that_never_log_in_is_refused(site: Site, path: str) -> None:
    with pytest.raises(InvalidStatus, match="403"), connect(socket_url(site, path)):
        pass


def test_password_is_in_no_file_but_its_own(site: Site) -> None:
    forms = [site.password.encode(), base64.b64encode(site.password.encode())]
    forms += [site.password.partition(":")[2].encode()]
    files = [file for file in site.home.rglob("*") if file.is_file()]
    holding = [file for file in files if any(form in file.read_bytes() for form in forms)]
    assert {"prefect.db", "aimspax-server.log", "aimspax-server.json"} <= {f.name for f in files}
    assert holding == [site.home / "aimspax-server.key"]


def test_password_is_on_no_command_line(site: Site) -> None:
    assert site.found.pid is not None
    process = psutil.Process(site.found.pid)
    for member in (process, *process.children(recursive=True)):
        assert site.password.partition(":")[2] not in " ".join(member.cmdline())


def test_api_does_not_tell_its_own_password(site: Site) -> None:
    assert site.password.partition(":")[2] not in json.dumps(site.api("GET", "/admin/settings"))


def test_only_the_owner_can_read_what_the_server_writes(site: Site) -> None:
    paths = [site.home, *site.home.rglob("*")]
    page = site.home / "aimspax-server-ui"  # copied from the installed package with its modes
    secret = [path for path in paths if page not in path.parents]
    assert [path for path in secret if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


def running_flow(local: Server, state: str = "RUNNING") -> str:
    """Tell the server of a flow run that runs, or is to run; return its id."""
    flow = post(f"{local.api_url}/flows/", {"name": "busy"})["id"]
    body = {"flow_id": flow, "name": "busy-heron", "state": {"type": state}}
    return str(post(f"{local.api_url}/flow_runs/", body)["id"])


def post(url: str, body: Any) -> Any:
    return call("POST", url, body)


def used_elsewhere() -> dict[str, Any]:
    """Run a flow in a process that knows nothing but PREFECT_HOME; return what it found."""
    known = {k: v for k, v in os.environ.items() if k not in server.CLIENT_VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        capture_output=True, text=True, timeout=120, check=False, env=known,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[0])
    return found


def socket_url(site: Site, path: str) -> str:
    return f"ws{site.found.api_url.removeprefix('http')}{path}"


def said_by_socket(site: Site, path: str, password: str | None) -> str:
    """Log in as Prefect's clients do, and ask for everything; return what is sent."""
    with connect(socket_url(site, path), subprotocols=["prefect"]) as socket:  # type: ignore[list-item]
        try:
            socket.send(json.dumps({"type": "auth", "token": password}))
            socket.send(json.dumps({"type": "filter", "filter": {}}))
            return str(socket.recv(timeout=10))
        except ConnectionClosed:
            return ""
