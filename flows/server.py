"""The Prefect server of a run: the one that is configured, or a local one that outlives the run.

Prefect reads `PREFECT_API_URL` when it is imported, so `ensure` has to be called before that; this
module therefore does not import Prefect.

What the local server keeps, all of it in `PREFECT_HOME` (default `~/.prefect`):

    prefect.db             Prefect's own database
    aimspax-server.json    where it listens, and its process
    aimspax-server.log     what it printed
    aimspax-server.lock    held by whoever starts or stops it
    aimspax-server.alive   locked by the server for as long as it lives: a process number can be
                           used again, a lock cannot be forged by accident
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import importlib.metadata
import json
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aimspax_core.errors import AimspaxError

logger = logging.getLogger(__name__)

STARTUP_S = 90.0
SHUTDOWN_S = 10.0
_LOOPBACK = "127.0.0.1"
_AUTH = "PREFECT_API_AUTH_STRING"
_OURS = "AIMSPAX_SERVER_URL"  # beside an equal PREFECT_API_URL: set by `ensure`, not by the user

CLIENT_VARIABLES = ("PREFECT_API_URL", _OURS, _AUTH)
"""What `ensure` sets in the environment for whoever talks to the server."""


class ServerError(AimspaxError):
    """There is no Prefect server that a run could use."""


@dataclass(frozen=True)
class Server:
    """A Prefect server that answers.

    Attributes:
        url: The dashboard.
        api_url: The API, as in `PREFECT_API_URL`.
        pid: Its process if it is ours, else None.
        started: True if this call started it.
        ours: True if aimspax started it, now or earlier.
    """

    url: str
    api_url: str
    pid: int | None
    started: bool
    ours: bool


@dataclass(frozen=True)
class ServerStatus:
    """What there is to know about the server that a run would use.

    Attributes:
        server: The server that a run would use.
        problem: Why it cannot be used, or None if it answers.
        version: The Prefect that a server of ours runs.
        started: When a server of ours was started (ISO 8601).
        log: What a server of ours printed.
    """

    server: Server
    problem: str | None
    version: str | None = None
    started: str | None = None
    log: Path | None = None


@dataclass(frozen=True)
class _State:
    """The contents of `aimspax-server.json`."""

    pid: int
    host: str
    port: int
    url: str
    version: str
    started: str

    def server(self, started: bool) -> Server:
        return Server(self.url, f"{self.url}/api", self.pid, started=started, ours=True)


def ensure() -> Server:
    """Find the Prefect server, or start the local one; point this process and its children at it.

    A server that the user named (`PREFECT_API_URL` in the environment, or in the active Prefect
    profile) is used and never started. Any number of processes may call this at once.

    Returns:
        The server, which answers. `PREFECT_API_URL` is set to it.

    Raises:
        ServerError: The named server does not answer, or ours does not come up within 90 s.
    """
    os.environ["DO_NOT_TRACK"] = os.environ.get("DO_NOT_TRACK") or "1"
    if (auth := _setting("PREFECT_SERVER_API_AUTH_STRING")) and not _setting(_AUTH):
        os.environ[_AUTH] = auth.value
    server = _configured() or _own()
    os.environ["PREFECT_API_URL"] = server.api_url
    if server.ours:
        os.environ[_OURS] = server.api_url
    if urllib.parse.urlsplit(server.api_url).hostname in {_LOOPBACK, "localhost", "::1"}:
        _keep_loopback_off_proxies()
    return server


def status() -> ServerStatus | None:
    """Describe the server that a run would use; None if that would have to be started first.

    Raises:
        ServerError: Our server runs on another host.
    """
    if named := _named_by_user():
        server = Server(_dashboard(named.value), named.value, None, started=False, ours=False)
        return ServerStatus(server, _problem(named.value))
    home = _home()
    if not home.is_dir() or (state := _running(home)) is None:
        return None
    server = state.server(started=False)
    problem = _problem(server.api_url)
    return ServerStatus(server, problem, state.version, state.started, _log(home))


def stop() -> bool:
    """End the local server that aimspax started; any other is left alone.

    Returns:
        True if there was one.

    Raises:
        ServerError: Our server runs on another host.
    """
    home = _home()
    if not home.is_dir():
        return False
    with _starting_or_stopping(home):
        state = _running(home)
        if state is not None:
            _end(home, state.pid)
        _state_file(home).unlink(missing_ok=True)
    if os.environ.get("PREFECT_API_URL") == os.environ.pop(_OURS, None):
        os.environ.pop("PREFECT_API_URL", None)
    return state is not None


# --- the server that the user named


@dataclass(frozen=True)
class _Setting:
    value: str
    source: str


def _setting(name: str) -> _Setting | None:
    """Read one of Prefect's settings as Prefect would: the environment first, then the profile."""
    if value := os.environ.get(name):
        return _Setting(value, f"{name} in the environment")
    path = Path(os.environ.get("PREFECT_PROFILES_PATH") or _home() / "profiles.toml")
    try:
        profiles = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return None
    except tomllib.TOMLDecodeError as error:
        logger.warning("%s is not valid TOML and is ignored: %s", path, error)
        return None
    active = os.environ.get("PREFECT_PROFILE") or profiles.get("active")
    value = profiles.get("profiles", {}).get(active, {}).get(name)
    return _Setting(str(value), f"{name} in the profile '{active}' of {path}") if value else None


def _named_by_user() -> _Setting | None:
    url = _setting("PREFECT_API_URL")
    if url is None or url.value == os.environ.get(_OURS):
        return None
    return _Setting(url.value.rstrip("/"), url.source)


def _configured() -> Server | None:
    """Return the server that the user named, once it has answered; None if none was named."""
    named = _named_by_user()
    if named is None:
        return None
    if problem := _problem(named.value):
        raise ServerError(
            f"the Prefect server at {named.value} cannot be used: {problem}.\n"
            f"It is set by {named.source}. Start that server, correct the address, or remove the "
            "setting: then aimspax starts a local server by itself."
        )
    return Server(_dashboard(named.value), named.value, None, started=False, ours=False)


def _dashboard(api_url: str) -> str:
    ui = _setting("PREFECT_UI_URL")
    return ui.value if ui else api_url.removesuffix("/api")


def _problem(api_url: str) -> str | None:
    """Ask the API whether it is there and takes our credentials; return what is wrong, or None."""
    try:
        json.loads(_get(f"{api_url}/health"))
    except urllib.error.HTTPError as error:
        return f"{api_url}/health answers {error.code} {error.reason}"
    except json.JSONDecodeError:
        return f"what answers at {api_url} is not a Prefect API (does the address end in /api?)"
    except (OSError, ValueError) as error:
        return f"{api_url}/health does not answer ({getattr(error, 'reason', error)})"
    try:
        _get(f"{api_url}/admin/version")
    except urllib.error.HTTPError as error:
        if error.code in {401, 403}:
            return "it wants other credentials than those in PREFECT_API_AUTH_STRING"
    except OSError as error:
        return f"{api_url}/admin/version does not answer ({getattr(error, 'reason', error)})"
    return None


def _get(url: str, timeout_s: float = 5.0) -> bytes:
    """Fetch `url` with the credentials and certificates that Prefect's client would use."""
    request = urllib.request.Request(url)
    if key := _setting("PREFECT_API_KEY"):
        request.add_header("Authorization", f"Bearer {key.value}")
    elif auth := _setting(_AUTH):
        token = base64.b64encode(auth.value.encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
    handlers: list[urllib.request.BaseHandler] = []
    if url.startswith("https:"):
        certificates = _setting("PREFECT_API_SSL_CERT_FILE")
        context = ssl.create_default_context(cafile=certificates.value if certificates else None)
        insecure = _setting("PREFECT_API_TLS_INSECURE_SKIP_VERIFY")
        if insecure and insecure.value.lower() in {"1", "true", "yes", "on"}:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        handlers.append(urllib.request.HTTPSHandler(context=context))
    if urllib.parse.urlsplit(url).hostname in {_LOOPBACK, "localhost", "::1"}:
        handlers.append(urllib.request.ProxyHandler({}))
    with urllib.request.build_opener(*handlers).open(request, timeout=timeout_s) as answer:
        return bytes(answer.read())


def _keep_loopback_off_proxies() -> None:
    """Let Prefect's client reach a local server on machines that reach the web through a proxy."""
    if not urllib.request.getproxies_environment():
        return
    listed = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = [host for host in listed.split(",") if host]
    hosts += [host for host in (_LOOPBACK, "localhost", "::1") if host not in hosts]
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(hosts)


# --- the server of our own


def _home() -> Path:
    return Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser().absolute()


def _state_file(home: Path) -> Path:
    return home / "aimspax-server.json"


def _log(home: Path) -> Path:
    return home / "aimspax-server.log"


def _own() -> Server:
    """Return our server on this host, starting it if it does not run."""
    home = _home()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _starting_or_stopping(home):
        state = _running(home)
        # It may still be coming up: whoever started it need not have lived to see that.
        if state is None or not (_comes_up(home, state) or _alive(home)):
            return _start(home).server(started=True)
    if problem := _problem(f"{state.url}/api"):
        raise ServerError(_failure(home, f"lives, but cannot be used: {problem}", state))
    installed = importlib.metadata.version("prefect")
    if state.version != installed:
        logger.warning(
            "The server at %s runs Prefect %s, but %s is installed: `aimspax server stop` ends it.",
            *(state.url, state.version, installed),
        )
    return state.server(started=False)


@contextlib.contextmanager
def _starting_or_stopping(home: Path) -> Iterator[None]:
    """Let one process at a time start or stop the server; it does not inherit this lock."""
    with (home / "aimspax-server.lock").open("a") as lock:
        _flock(lock.fileno(), fcntl.LOCK_EX, home)
        yield


def _flock(descriptor: int, operation: int, home: Path) -> None:
    try:
        fcntl.flock(descriptor, operation)
    except BlockingIOError:
        raise
    except OSError as error:
        raise ServerError(
            f"the file system of {home} does not support locks ({error.strerror}): set "
            "PREFECT_HOME to a folder on a local disk"
        ) from error


def _alive(home: Path) -> bool:
    """True while a server of ours, on whatever host, holds its lock."""
    descriptor = os.open(home / "aimspax-server.alive", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, home)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def _running(home: Path) -> _State | None:
    """Return the state of our server if it lives on this host; a stale file does not count."""
    if not _alive(home):
        return None
    try:
        state = _State(**json.loads(_state_file(home).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise ServerError(
            f"a Prefect server of aimspax holds {home / 'aimspax-server.alive'}, but "
            f"{_state_file(home)} cannot be read: end that `prefect server start` process by hand"
        ) from error
    if state.host != socket.gethostname():
        raise ServerError(
            f"the Prefect server of {home} runs on {state.host} since {state.started}, and two "
            "servers must not share a database. Work there, stop it there with `aimspax server "
            "stop`, or set PREFECT_HOME to another folder."
        )
    return state


def _start(home: Path) -> _State:
    """Start the server and wait until it answers; another port if one was taken meanwhile."""
    for _ in range(3):
        port = _free_port()
        process = _spawn(home, port)
        state = _State(
            pid=process.pid,
            host=socket.gethostname(),
            port=port,
            url=f"http://{_LOOPBACK}:{port}",
            version=importlib.metadata.version("prefect"),
            started=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        _write(_state_file(home), asdict(state))
        if _comes_up(home, state):
            logger.info("Started a Prefect server at %s (log: %s).", state.url, _log(home))
            return state
        died = process.poll() is not None
        _end(home, state.pid)
        _state_file(home).unlink(missing_ok=True)
        if not (died and "already in use" in _tail(home)):
            break
    what = "ended at once" if died else f"did not answer within {STARTUP_S:.0f} s"
    raise ServerError(_failure(home, what, state))


def _free_port() -> int:
    """Return the port that Prefect would use (4200) if it is free, else any free one."""
    wanted = _setting("PREFECT_SERVER_API_PORT")
    for port in (int(wanted.value) if wanted else 4200, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((_LOOPBACK, port))
            return int(probe.getsockname()[1])
    raise ServerError("no free port on this host for a Prefect server")


def _spawn(home: Path, port: int) -> subprocess.Popen[bytes]:
    """Start the server in a session of its own, holding the lock that says that it lives."""
    command = [sys.executable, "-m", "prefect", "server", "start"]
    command += ["--host", _LOOPBACK, "--port", str(port)]
    alive = os.open(home / "aimspax-server.alive", os.O_RDWR | os.O_CREAT, 0o600)
    log = os.open(_log(home), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    try:
        _flock(alive, fcntl.LOCK_EX, home)
        process = subprocess.Popen(
            command,
            cwd=home,  # not the run directory, whose prefect.toml or .env are no business of ours
            env=_environment(home, port),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=(alive,),
        )
    finally:
        os.close(alive)
        os.close(log)
    _children[process.pid] = process
    return process


# Servers that this process started: kept so that one that has ended can be reaped.
_children: dict[int, subprocess.Popen[bytes]] = {}


def _environment(home: Path, port: int) -> dict[str, str]:
    """Settings of the server: ours where they must be, the user's own before our defaults."""
    defaults = {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        # Not inside the installed package: it may be read-only, or replaced under the server.
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "aimspax-server-ui"),
    }
    return {
        **os.environ,
        **{name: value for name, value in defaults.items() if _setting(name) is None},
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://{_LOOPBACK}:{port}/api",
        # Relative: the page finds its API on any port, also at the far end of an SSH tunnel.
        "PREFECT_SERVER_UI_API_URL": "/api",
    }


def _comes_up(home: Path, state: _State) -> bool:
    """Wait until the server answers; False if it died or takes longer than it may."""
    deadline = time.monotonic() + STARTUP_S
    while time.monotonic() < deadline:
        if not _alive(home):
            return False
        if _problem(f"{state.url}/api") is None:
            return True
        time.sleep(0.2)
    return False


def _end(home: Path, pid: int) -> None:
    """End the server's whole process group, by force after `SHUTDOWN_S`."""
    for sign, patience_s in ((signal.SIGTERM, SHUTDOWN_S), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, sign)
        deadline = time.monotonic() + patience_s
        while _alive(home) and time.monotonic() < deadline:
            time.sleep(0.05)
    if process := _children.pop(pid, None):
        process.wait()


def _failure(home: Path, what: str, state: _State) -> str:
    return (
        f"the local Prefect server at {state.url} {what}. "
        f"The end of its log, {_log(home)}:\n{_tail(home)}"
    )


def _tail(home: Path, lines: int = 20) -> str:
    try:
        return "\n".join(_log(home).read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(there is no log)"


def _write(path: Path, content: dict[str, Any]) -> None:
    """Replace `path` in one step, readable by its owner only."""
    descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 0600
    with os.fdopen(descriptor, "w") as file:
        json.dump(content, file, indent=2)
    Path(aside).replace(path)
