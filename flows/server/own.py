"""The local Prefect server that aimspax starts, which outlives whoever started it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aimspax_core.versions import version_of
from flows.server.api import (
    AUTH,
    BUSY_S,
    LOOPBACK,
    NO_ANSWER,
    SERVER_AUTH,
    ServerError,
    Setting,
    ask,
    keep_off_proxies,
    prefect_home,
    problem,
    setting,
)
from flows.server.coming_up import busy_text, comes_up
from flows.server.own_files import (
    Server,
    State,
    alive,
    forget_state,
    held_by_server,
    last_state,
    log_file,
    make_home,
    running,
    starting_or_stopping,
    write_state,
)
from flows.server.password import Choice, Need, need, password_for

logger = logging.getLogger(f"aimspax.{__name__}")

_STARTS = 3
"""How often a server is started that is killed while it starts, or whose port was taken."""

SHUTDOWN_S = 10.0

BEGINS_WITHIN_S = 300.0
"""How long a flow run may be pending that is going to begin (s). One that is so for longer is
nobody's: what created it heard no answer, and has created another."""

REMEMBERED = "P7D"
"""How long the server remembers what automations wait for, after its time. Prefect's minute goes by
while the server is away, and a run that died meanwhile would never be missed."""

_EVERYWHERE = "0.0.0.0"


def find_or_start(host: str | None, choice: Choice) -> Server:
    """Return our server on this machine, starting it if it does not run; see `server.ensure`.

    Raises:
        ServerError: The server cannot be used, or cannot be started.
    """
    home = prefect_home()
    make_home(home)
    port = None
    with starting_or_stopping(home):
        found = running(home)
        # The server may still be starting, also if the process that started it has died.
        if found is not None and not (comes_up(home, found, spawned=False) or alive(home)):
            found = None
        if found is not None:
            _insist(home, found)
            if host and not found.everywhere:
                _end_unused(home, found)
                port, found = found.port, None
            else:
                _tell_if_open(found, choice)
        state = found or _start(home, need(choice, host is not None), host is not None, port)
    server = state.server(home, state is not found, host)
    key = state.key(home)
    if host:
        keep_off_proxies(host)
        if wrong := problem(server.api_url, key):
            raise ServerError(f"this machine cannot be reached as {host}: {wrong}")
    if key:
        os.environ[AUTH] = key
    return server


def start_again(api_url: str) -> State | None:
    """Start our server again where it was, if it died there; None if there is nothing to do.

    Raises:
        ServerError: It does not come up, or cannot listen there.
    """
    home = prefect_home()
    with starting_or_stopping(home):
        before = last_state(home)
        if before is None or alive(home) or urlsplit(api_url).port != before.port:
            return None
        as_before = Need(before.password is not None, before.why)
        return _start(home, as_before, before.everywhere, before.port, moves=False)


def own_problem(home: Path, state: State) -> str | None:
    """Return why our server cannot be used; None if it answers and accepts our credentials."""
    return problem(f"{state.url}/api", state.key(home))


def end() -> State | None:
    """End our server; return its state before, or None if there was no server."""
    home = prefect_home()
    if not home.is_dir():
        return None
    with starting_or_stopping(home):
        state = running(home)
        if state is not None:
            _end(home, state.pid)
        forget_state(home)
    return state


def _insist(home: Path, state: State) -> None:
    """Refuse a running server of ours that cannot be used; warn if its Prefect is another one."""
    if wrong := own_problem(home, state):
        there = f" (its password: {state.password})" if state.password else ""
        raise ServerError(_failure(home, f"lives, but cannot be used: {wrong}{there}", state))
    installed = version_of("prefect")
    if state.version != installed:
        logger.warning(
            "The server at %s runs Prefect %s, but %s is installed: `aimspax server stop` ends it.",
            *(state.url, state.version, installed),
        )


def _tell_if_open(state: State, choice: Choice) -> None:
    """Warn of a server that runs without a password where it would be started with one today."""
    if state.password is None and (today := need(choice, state.everywhere)).password:
        logger.warning(
            "The Prefect server at %s asks for no password, though %s: whoever reaches it can run "
            "code as you. When no run uses it, `aimspax server stop` ends it; the next start gives "
            "it one.",
            *(state.url, today.why),
        )


def in_use(runs: list[dict[str, Any]], now: datetime) -> list[str]:
    """Return the names of the flow runs that use a server.

    Args:
        runs: Those under way or pending, as Prefect's API tells of them.
        now: The time.
    """
    return [
        run["name"]
        for run in runs
        if run["state"]["type"] != "PENDING"
        or (now - datetime.fromisoformat(run["state"]["timestamp"])).total_seconds()
        < BEGINS_WITHIN_S
    ]


def _end_unused(home: Path, state: State) -> None:
    """End our server on loopback, which is then started for compute nodes; not while in use."""
    active = {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}}
    question = {"flow_runs": active, "sort": "EXPECTED_START_TIME_DESC"}
    url = f"{state.url}/api/flow_runs/filter"
    try:
        runs = ask(url, state.key(home), question, BUSY_S, BUSY_S)
    except NO_ANSWER as error:
        raise ServerError(_failure(home, f"does not tell what it runs: {error}", state)) from error
    if names := in_use(runs, datetime.now(UTC)):
        raise ServerError(
            f"the local Prefect server at {state.url} cannot be reached from compute nodes, and "
            "cannot be started again for them while flow runs use it "
            f"({', '.join(names[:5])}): wait until they have ended or, if they "
            "are dead, end the server with `aimspax server stop`"
        )
    logger.warning(
        "The local Prefect server is started again, with a password, for compute nodes to reach "
        'it: in shells and for workers that use it, do eval "$(aimspax server env)" again.'
    )
    _end(home, state.pid)


def _start(
    home: Path, wanted: Need, everywhere: bool, port: int | None, moves: bool = True
) -> State:
    """Start the server and wait until it answers.

    Args:
        home: Prefect's folder.
        wanted: Whether it has a password, and why.
        everywhere: Whether it listens on all interfaces.
        port: Where; None for any.
        moves: Whether it takes another port if that one is taken.
    """
    address = _EVERYWHERE if everywhere else LOOPBACK
    password = password_for(home, wanted)
    again = "" if moves else " again"
    logger.info("starting the local Prefect server%s (log: %s)", again, log_file(home))
    for _ in range(_STARTS):
        port = port or free_port(address)
        process = _spawn(home, address, port, password)
        state = State(
            pid=process.pid,
            host=socket.gethostname(),
            port=port,
            url=f"http://{LOOPBACK}:{port}",
            version=str(version_of("prefect")),
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            everywhere=everywhere,
            password=password.source if password else None,
            why=wanted.why if (password is not None) is wanted.password else "you have set one",
        )
        write_state(home, state)
        began = time.monotonic()
        if comes_up(home, state, spawned=True):
            logger.info("the local Prefect server answers at %s", state.url)
            return state
        code = _exit_code(process, home)
        _end(home, state.pid)
        if moves:  # else what is known of the server stays: the next attempt needs it
            forget_state(home)
        if moves and code is not None and _port_was_taken(home):
            port = None
        elif code is None or code >= 0:
            break  # it was not killed by somebody
    late = f"did not answer within {time.monotonic() - began:.0f} s{busy_text()}"
    what = "ended at once" if code is not None else late
    raise ServerError(_failure(home, what, state))


def free_port(address: str) -> int:
    """Return the port that Prefect would use (4200) if it is free, else any free one."""
    wanted = setting("PREFECT_SERVER_API_PORT")
    for port in (int(wanted.value) if wanted else 4200, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
            return int(probe.getsockname()[1])
    raise ServerError("no free port on this host for a Prefect server")


def _spawn(
    home: Path, address: str, port: int, password: Setting | None
) -> subprocess.Popen[bytes]:
    """Start the server in a session of its own; it holds the lock that shows that it lives."""
    command = [sys.executable, "-m", "prefect", "server", "start"]
    command += ["--host", address, "--port", str(port)]
    log = os.open(log_file(home), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    try:
        with held_by_server(home) as lock:
            process = subprocess.Popen(
                command,
                cwd=home,  # not the run directory, whose prefect.toml or .env are not meant here
                env=_environment(home, port, password),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(lock.fileno(),),
                umask=0o077,  # its database holds the parameters and logs of all runs
            )
    finally:
        os.close(log)
    _children[process.pid] = process
    return process


_children: dict[int, subprocess.Popen[bytes]] = {}
"""Servers that this process started; it has to reap those that end."""


def _environment(home: Path, port: int, password: Setting | None) -> dict[str, str]:
    """Return the environment of the server: the user's settings go before our defaults."""
    defaults = {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_EVENTS_EXPIRED_BUCKET_BUFFER": REMEMBERED,
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        # Not inside the installed package: it may be read-only, or replaced under the server.
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "aimspax-server-ui"),
    }
    return {
        **os.environ,
        **{name: value for name, value in defaults.items() if setting(name) is None},
        **({SERVER_AUTH: password.value} if password else {}),
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://{LOOPBACK}:{port}/api",
        # Relative: the page finds its API on any port, also at the far end of an SSH tunnel.
        "PREFECT_SERVER_UI_API_URL": "/api",
    }


def _exit_code(process: subprocess.Popen[bytes], home: Path) -> int | None:
    """Return how a server has ended, negative if by a signal; None if it lives."""
    if alive(home):
        return process.poll()
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(5.0)  # its lock goes a moment before it
    return None


def _end(home: Path, pid: int) -> None:
    """End the server's whole process group, by force after `SHUTDOWN_S`."""
    for sign, patience_s in ((signal.SIGTERM, SHUTDOWN_S), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, sign)
        deadline = time.monotonic() + patience_s
        while alive(home) and time.monotonic() < deadline:
            time.sleep(0.05)
    if process := _children.pop(pid, None):
        process.wait()


def _failure(home: Path, what: str, state: State) -> str:
    return (
        f"the local Prefect server at {state.url} {what}. "
        f"The end of its log, {log_file(home)}:\n{_tail(home)}"
    )


def _port_was_taken(home: Path) -> bool:
    """Return whether the server has ended for that; what its services say as they end follows."""
    return "already in use" in _printed(home)


def _tail(home: Path, lines: int = 20) -> str:
    return "\n".join(_printed(home).splitlines()[-lines:])


def _printed(home: Path) -> str:
    """Return what the server has printed since its start."""
    try:
        return log_file(home).read_text(errors="replace")
    except FileNotFoundError:
        return "(there is no log)"
