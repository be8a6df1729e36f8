from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest

from flows import server
from flows.server import ServerError, api, coming_up, own, own_files
from flows.server.coming_up import LONGEST_S, STARTUP_S, Patience
from flows.server.password import CHOICE, Need, password_for
from tests.flows.busy_api import RESET, busy_at_first

WANTED = Need(password=True, why="it can be reached from other machines")

ENSURE = """
import json, sys
from dataclasses import asdict
from flows import server
found = server.ensure()
assert "prefect" not in sys.modules
print(json.dumps(asdict(found)))
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty PREFECT_HOME and an environment that says nothing else about Prefect."""
    for name in [*os.environ]:
        if name.startswith(("PREFECT_", "AIMSPAX_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name in ("PREFECT_API_URL", "AIMSPAX_SERVER_URL", "PREFECT_API_AUTH_STRING", "NO_PROXY"):
        monkeypatch.setenv(name, "")  # so that what `ensure` sets is put back
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv(CHOICE, "never")  # whoever else can log in where the tests run
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.setenv("PREFECT_SERVER_API_PORT", str(free_port()))
    (tmp_path / "prefect").mkdir()
    yield tmp_path / "prefect"
    server.stop()


def test_started_server_answers(prefect_server: server.Server) -> None:
    assert prefect_server.started
    assert prefect_server.ours
    assert json.loads(fetch(f"{prefect_server.api_url}/health")) is True


def test_environment_points_at_the_server(prefect_server: server.Server) -> None:
    assert os.environ["PREFECT_API_URL"] == prefect_server.api_url
    assert os.environ["DO_NOT_TRACK"] == "1"


def test_second_ensure_uses_the_running_server(prefect_server: server.Server) -> None:
    again = server.ensure()
    assert not again.started
    assert again.ours
    assert (again.pid, again.api_url) == (prefect_server.pid, prefect_server.api_url)


def test_another_process_uses_the_running_server(
    prefect_server: server.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL")
    found = ensure_elsewhere()
    assert found["pid"] == prefect_server.pid
    assert not found["started"]


def test_prefect_that_was_imported_before_is_pointed_at_the_server(
    prefect_server: server.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL")
    code = (
        "from prefect.settings import PREFECT_API_URL\n"
        "assert PREFECT_API_URL.value() is None\n"
        "from flows import server\n"
        "server.ensure()\n"
        "print(PREFECT_API_URL.value())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip() == prefect_server.api_url, done.stderr


def test_dashboard_is_served(prefect_server: server.Server) -> None:
    page = fetch(f"{prefect_server.url}/v2/dashboard", accept="text/html")
    assert b"<title>Prefect" in page


def test_dashboard_finds_its_api_on_any_port(prefect_server: server.Server) -> None:
    # Relative to the page, thus right on this port and at the far end of an SSH tunnel.
    settings = json.loads(fetch(f"{prefect_server.url}/ui-settings"))
    assert settings["api_url"] == "/api"
    assert prefect_server.api_url == f"{prefect_server.url}/api"


def test_prefect_itself_takes_the_settings(prefect_server: server.Server) -> None:
    settings = json.loads(fetch(f"{prefect_server.api_url}/admin/settings"))["server"]
    assert set(settings["services"]["db_vacuum"]["enabled"]) == {"events", "flow_runs"}
    assert settings["analytics_enabled"] is False


def test_state_file_is_private(prefect_server: server.Server) -> None:
    state = Path(os.environ["PREFECT_HOME"]) / "aimspax-server.json"
    assert state.stat().st_mode & 0o777 == 0o600
    assert json.loads(state.read_text())["pid"] == prefect_server.pid


def test_status_describes_the_running_server(prefect_server: server.Server) -> None:
    found = server.status()
    assert found is not None
    assert found.problem is None
    assert found.server.api_url == prefect_server.api_url
    assert found.log is not None
    assert found.log.is_file()


@dataclass(frozen=True)
class Race:
    """What two processes got that asked for a server with a password at the same time."""

    first: dict[str, object]
    second: dict[str, object]
    home: Path


@pytest.fixture
def race(home: Path, monkeypatch: pytest.MonkeyPatch) -> Race:
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "someone:secret")
    write_state(home)  # stale, and not to be believed
    racers = [start_ensuring() for _ in range(2)]
    first, second = (json.loads(racer.communicate(timeout=150)[0]) for racer in racers)
    return Race(first, second, home)


@pytest.mark.slow
def test_two_processes_start_one_server_and_stop_ends_it(race: Race) -> None:
    assert sorted([race.first["started"], race.second["started"]]) == [False, True]
    assert race.first["pid"] == race.second["pid"]
    pid, api_url = race.first["pid"], race.first["api_url"]
    assert isinstance(pid, int)

    with pytest.raises(urllib.error.HTTPError, match="401"):
        fetch(f"{api_url}/admin/version")

    group = os.getpgid(pid)
    assert group == pid  # a session of its own: it outlives who started it
    assert living_members(group)
    assert server.stop()
    assert living_members(group) == []
    assert not (race.home / "aimspax-server.json").exists()
    with pytest.raises(OSError, match="refused"):
        fetch(f"{api_url}/health")
    assert not server.stop()


@pytest.mark.slow
def test_servers_of_two_folders_that_start_at_once_have_ports_of_their_own(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = (home, home.with_name("other"))
    racers = []
    for one in homes:
        monkeypatch.setenv("PREFECT_HOME", str(one))
        racers.append(start_ensuring())
        wait_until((one / "aimspax-server.json").exists)  # it has chosen its port, and starts
    try:
        found = [json.loads(racer.communicate(timeout=300)[0]) for racer in racers]
        urls = [f"{one['api_url']}/admin/settings" for one in found]
        settings = [api.ask(url, timeout_s=60.0, patience_s=60.0) for url in urls]
        assert [Path(one["home"]) for one in settings] == [*homes]
    finally:
        for one in homes:
            monkeypatch.setenv("PREFECT_HOME", str(one))
            server.stop()


def test_stale_state_of_a_reused_process_number_is_not_believed_nor_killed(home: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        write_state(home, pid=bystander.pid)
        assert server.status() is None
        assert not server.stop()
        assert bystander.poll() is None
    assert not (home / "aimspax-server.json").exists()


@pytest.mark.parametrize(
    ("cpu_share", "longest_s"),
    [(0.0, STARTUP_S), (0.001, STARTUP_S), (0.05, LONGEST_S), (1.0, LONGEST_S)],
)
def test_a_server_is_waited_for_as_long_as_it_gets_on(cpu_share: float, longest_s: float) -> None:
    waited_s = 0.0
    patience = Patience(lambda: cpu_share * waited_s)
    while patience.left(waited_s):
        waited_s += 0.5
    assert waited_s == longest_s


def test_a_server_that_computes_no_more_is_given_up() -> None:
    waited_s = 0.0
    patience = Patience(lambda: 0.05 * min(waited_s, 500.0))
    while patience.left(waited_s):
        waited_s += 0.5
    assert STARTUP_S < waited_s <= LONGEST_S / 2


def test_starting_and_stopping_wait_for_each_other(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(own_files, "_TOLD_AFTER_S", 0.1)
    caplog.set_level("INFO", logger="aimspax")
    with (home / "aimspax-server.lock").open("a") as lock, ThreadPoolExecutor() as other:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stopping = other.submit(server.stop)
        with pytest.raises(TimeoutError):
            stopping.result(timeout=0.3)
        wait_until(lambda: "another process" in caplog.text)
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert stopping.result(timeout=60) is False


def test_server_that_ignores_the_first_signal_is_killed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "SHUTDOWN_S", 0.3)
    with alive_lock_held(home, "signal.signal(signal.SIGTERM, signal.SIG_IGN)") as deaf:
        write_state(home, pid=deaf.pid)
        assert server.stop()
        assert deaf.wait(timeout=60) == -signal.SIGKILL


def test_a_server_whose_sockets_nobody_shows_is_taken_to_listen(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(self: psutil.Process, kind: str) -> None:
        raise psutil.AccessDenied(self.pid)

    monkeypatch.setattr(psutil.Process, "net_connections", denied)
    with answering("application/json", b"true") as url, alive_lock_held(home) as holder:
        for module in (own, coming_up):
            monkeypatch.setattr(module, "alive", lambda _: holder.poll() is None)
        monkeypatch.setattr(own, "running", lambda _: None)
        monkeypatch.setattr(own, "free_port", lambda _: int(url.rpartition(":")[2]))
        monkeypatch.setattr(own, "_spawn", lambda *_: holder)
        assert server.ensure().url == url


def test_a_server_that_was_there_is_used_whoever_of_its_processes_listens(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(coming_up, "STARTUP_S", 1.0)
    monkeypatch.setattr(coming_up, "_SLOW_S", 0.0)
    with answering("application/json", b"true") as url, alive_lock_held(home) as holder:
        write_state(home, pid=holder.pid, url=url, port=int(url.rpartition(":")[2]))
        assert server.ensure().url == url
    assert "has not answered" not in caplog.text


def test_server_on_another_host_is_named(home: Path) -> None:
    write_state(home, host="login7")
    with alive_lock_held(home), pytest.raises(ServerError, match="runs on login7"):
        server.ensure()


def test_unreadable_state_of_a_living_server_is_an_error(home: Path) -> None:
    (home / "aimspax-server.json").write_text("{")
    with alive_lock_held(home), pytest.raises(ServerError, match="cannot be read"):
        server.ensure()


def test_failed_start_shows_the_log(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_SERVER_LOGGING_LEVEL", "nonsense")
    with pytest.raises(ServerError, match=r"ended at once(?s:.*)NONSENSE"):
        server.ensure()
    assert server.status() is None


def test_a_server_that_is_killed_while_it_starts_is_started_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'prefect' in sys.orig_argv:\n"
        "    print('killed', file=open(os.environ['PREFECT_HOME'] + '/starts', 'a'), flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{home}:{os.environ.get('PYTHONPATH', '')}")
    with pytest.raises(ServerError, match="ended at once"):
        server.ensure()
    assert (home / "starts").read_text().split() == 3 * ["killed"]
    assert server.status() is None


def test_a_home_in_which_nothing_can_be_written_is_told_with_its_remedy(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_HOME", "/proc/no-such-folder/prefect")  # not even root can
    with pytest.raises(ServerError, match="Set PREFECT_HOME"):
        server.ensure()


def test_named_server_that_does_not_answer_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{free_port()}/api"
    monkeypatch.setenv("PREFECT_API_URL", url)
    with pytest.raises(ServerError, match="PREFECT_API_URL in the environment") as caught:
        server.ensure()
    assert url in str(caught.value)
    assert os.environ["PREFECT_API_URL"] == url


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_certificates_that_cannot_be_read_are_told_plainly(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    file = tmp_path / "certificates.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("PREFECT_API_SSL_CERT_FILE", str(file))
    assert "does not answer" in str(api.silence("https://127.0.0.1:1/api"))


def test_profile_names_the_server(home: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/api"
    (home / "profiles.toml").write_text(
        f'active = "lab"\n[profiles.lab]\nPREFECT_API_URL = "{url}"\n[profiles.other]\n'
    )
    with pytest.raises(ServerError, match=f"(?s){url}.*the profile 'lab'"):
        server.ensure()


def test_named_server_is_used_and_left_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering("application/json", b"true") as url:
        monkeypatch.setenv("PREFECT_API_URL", f"{url}/api/")
        found = server.ensure()
        assert found == server.Server(url, f"{url}/api", None, started=False, ours=False)
        assert not server.stop()
        assert os.environ["PREFECT_API_URL"] == found.api_url


def test_compute_nodes_cannot_reach_a_named_server_on_loopback(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering("application/json", b"true") as url:
        monkeypatch.setenv("PREFECT_API_URL", f"{url}/api")
        with pytest.raises(ServerError, match=r"cannot reach(?s:.*)PREFECT_API_URL in the env"):
            server.ensure("login7")
        assert not server.ensure("127.0.0.1").ours  # where this machine is the compute node


def test_where_the_password_of_a_named_server_comes_from_is_told(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering("application/json", b"true") as url:
        monkeypatch.setenv("PREFECT_API_URL", f"{url}/api")
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", "someone:secret")
        assert server.ensure().password == "PREFECT_API_AUTH_STRING in the environment"


@pytest.mark.parametrize("name", ["PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"])
def test_the_users_own_password_is_taken_before_one_of_ours(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "someone:secret")
    chosen = password_for(home, WANTED)
    assert chosen is not None
    assert (chosen.value, chosen.source) == ("someone:secret", f"{name} in the environment")
    assert not (home / "aimspax-server.key").exists()


def test_password_is_made_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = password_for(home, WANTED)
    assert first is not None
    assert len(first.value) > 40
    assert password_for(home, WANTED) == first
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", first.value)  # as `ensure` leaves it
    assert password_for(home, WANTED) == first


def test_no_password_is_made_where_none_is_wanted(home: Path) -> None:
    assert password_for(home, Need(password=False, why="nobody else can log in here")) is None
    assert not (home / "aimspax-server.key").exists()


def test_an_open_server_is_told_where_it_would_be_closed_today(
    prefect_server: server.Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "")
    again = server.ensure(password="always")
    assert again.pid == prefect_server.pid
    assert not again.started
    (warning,) = [
        r.getMessage() for r in caplog.records if "asks for no password" in r.getMessage()
    ]
    assert "MISC.server_password is always" in warning


def test_status_tells_why_there_is_no_password(
    prefect_server: server.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "")
    found = server.status()
    assert found is not None
    assert found.server.password is None
    assert found.server.why == "MISC.server_password is never"
    monkeypatch.setenv(CHOICE, "always")
    now = server.status()
    assert now is not None
    assert now.open_to == ""  # it was meant


def test_status_tells_of_a_server_that_would_be_closed_today(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CHOICE, "always")
    with alive_lock_held(home) as holder:
        write_state(home, pid=holder.pid)
        found = server.status()
    assert found is not None
    assert found.open_to


def test_password_that_others_can_read_is_not_used(home: Path) -> None:
    (home / "aimspax-server.key").write_text("aimspax:secret")
    (home / "aimspax-server.key").chmod(0o640)
    write_state(home, password="aimspax-server.key")
    with alive_lock_held(home), pytest.raises(ServerError, match="can be read by others"):
        server.status()


def test_stop_needs_no_password_and_forgets_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREFECT_API_URL", "AIMSPAX_SERVER_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:1/api")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "aimspax:secret")
    with alive_lock_held(home) as holder:
        write_state(home, pid=holder.pid, password="aimspax-server.key")
        assert server.stop()
    assert "PREFECT_API_AUTH_STRING" not in os.environ


def test_password_goes_before_a_key_of_prefect_cloud(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in Prefect's own client.
    monkeypatch.setenv("PREFECT_API_KEY", "pnu_1")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "a:b")
    with answering("application/json") as url:
        assert api.ask(url) == "Basic YTpi"


def test_something_else_at_the_named_address_is_no_server(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering("text/html", b"<html>hello</html>") as url:
        monkeypatch.setenv("PREFECT_API_URL", url)
        with pytest.raises(ServerError, match="is not a Prefect API"):
            server.ensure()


@pytest.mark.parametrize("code", [503, 500, RESET])
def test_a_server_that_is_busy_for_a_moment_is_asked_again(
    prefect_server: server.Server, code: int
) -> None:
    with busy_at_first(prefect_server.api_url, times=3, code=code) as url:
        assert api.silence(url) is not None
        assert api.problem(url) is None


def test_a_wrong_address_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked_again(_: float) -> None:
        raise AssertionError

    monkeypatch.setattr(time, "sleep", asked_again)
    assert api.problem(f"http://127.0.0.1:{free_port()}/api") is not None
    with answering("text/html", b"<html>hello</html>") as url:
        assert api.problem(url) is not None


def test_taken_port_is_avoided(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering("application/json", b"true") as url:
        monkeypatch.setenv("PREFECT_SERVER_API_PORT", url.rpartition(":")[2])
        assert own.free_port("127.0.0.1") != int(url.rpartition(":")[2])


def test_proxies_are_kept_off_the_local_server(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with answering("application/json", b"true") as url:
        monkeypatch.setenv("PREFECT_API_URL", f"{url}/api")
        server.ensure()
    assert urllib.request.proxy_bypass_environment("127.0.0.1")
    assert not urllib.request.proxy_bypass_environment("prefect.example.org")


def test_error_survives_pickling() -> None:
    copy = pickle.loads(pickle.dumps(ServerError("no server")))
    assert isinstance(copy, ServerError)
    assert str(copy) == "no server"


def fetch(url: str, accept: str = "*/*") -> bytes:
    with urllib.request.urlopen(
        urllib.request.Request(url, headers={"Accept": accept}), timeout=10
    ) as answer:
        return bytes(answer.read())


def start_ensuring() -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", ENSURE], stdout=subprocess.PIPE, text=True)


def ensure_elsewhere() -> dict[str, object]:
    with start_ensuring() as process:
        found: dict[str, object] = json.loads(process.communicate(timeout=120)[0])
    return found


def wait_until(true: Callable[[], bool], patience_s: float = 60.0) -> None:
    end = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def living_members(group: int) -> list[str]:
    """Command lines of the processes in a process group, the dead and unburied left out."""
    members = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                members.append(" ".join(process.cmdline()))
    return members


def write_state(home: Path, **changes: object) -> None:
    state = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "port": 1,
        "url": "http://127.0.0.1:1",
        "version": "3.8.8",
        "started": "2026-01-01T00:00:00+00:00",
    }
    (home / "aimspax-server.json").write_text(json.dumps({**state, **changes}))


@contextlib.contextmanager
def alive_lock_held(home: Path, first: str = "pass") -> Iterator[subprocess.Popen[bytes]]:
    """Hold the lock that a living server holds, from a process in a session of its own."""
    code = (
        f"import fcntl, signal, sys; {first}; lock = open(sys.argv[1], 'a');"
        "fcntl.flock(lock, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(home / "aimspax-server.alive")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, start_new_session=True, **pipes) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        try:
            yield holder
        finally:
            holder.kill()


@contextlib.contextmanager
def answering(content_type: str, body: bytes | None = None) -> Iterator[str]:
    """A web server that answers everything with `body`, or with the credentials that it is sent."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.end_headers()
            sent = json.dumps(self.headers.get("Authorization")).encode()
            self.wfile.write(sent if body is None else body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_port}"
        finally:
            httpd.shutdown()
            thread.join()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
