"""What the local Prefect server of aimspax keeps in `PREFECT_HOME` (default `~/.prefect`).

All of it can be read by its owner only, as long as the database was not there before:

    prefect.db             Prefect's own database
    aimspax-server.json    where it listens, and its process
    aimspax-server.key     its password, if it asks for one: see `password`
    aimspax-server.log     what it printed
    aimspax-server.lock    held by whoever starts or stops it
    aimspax-server.alive   locked by the server for as long as it lives: a process number can be
                           used again, a lock cannot be forged by accident
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import secrets
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from aimspax_core.locks import NoLocksError, held, holder
from aimspax_core.safe_files import write_text
from flows.server.api import ServerError

KEY = "aimspax-server.key"
"""The file with the password."""

_TOLD_AFTER_S = 3.0
"""When it is told that another process starts or stops the server (s)."""

logger = logging.getLogger(f"aimspax.{__name__}")


@dataclass(frozen=True)
class Server:
    """A Prefect server that answers.

    Attributes:
        url: The dashboard.
        api_url: The API, as in `PREFECT_API_URL`.
        pid: Its process if it is ours, else None.
        started: True if this call started it.
        ours: True if aimspax started it, now or earlier.
        password: Where its password is (a file or a setting); None if it is used without.
        why: Why it has a password, or none; empty if that is not known.
    """

    url: str
    api_url: str
    pid: int | None
    started: bool
    ours: bool
    password: str | None = None
    why: str = ""

    @property
    def password_file(self) -> bool:
        """Whether its password is in a file of ours."""
        return self.password is not None and Path(self.password).name == KEY


@dataclass(frozen=True)
class State:
    """The contents of `aimspax-server.json`.

    Attributes:
        pid: Its process.
        host: The machine that it runs on.
        port: Where it listens.
        url: Its address on loopback.
        version: The Prefect that it runs.
        started: When (ISO 8601).
        everywhere: True if it listens on all interfaces, not on loopback only.
        password: Where its password is: the name of the key file, or a setting of the user's.
        why: Why it has a password, or none; empty if an earlier release started it.
    """

    pid: int
    host: str
    port: int
    url: str
    version: str
    started: str
    everywhere: bool = False
    password: str | None = None
    why: str = ""

    @property
    def has_key(self) -> bool:
        """True if its password is the one in the key file."""
        return self.password == KEY

    def key(self, home: Path) -> str | None:
        """Return the password in the key file; None if a setting of the user's has it, or none."""
        return read_key(home) if self.has_key else None

    def server(self, home: Path, started: bool, host: str | None = None) -> Server:
        """Return the server with the API's address as seen from clients that reach it as `host`."""
        address = f"http://{host}:{self.port}" if host else self.url
        where = str(home / KEY) if self.has_key else self.password
        return Server(
            self.url, f"{address}/api", self.pid, started, ours=True, password=where, why=self.why
        )


def write_state(home: Path, state: State) -> None:
    """Write down where the server listens."""
    write_text(_state_file(home), json.dumps(asdict(state), indent=2), private=True)


def forget_state(home: Path) -> None:
    """Remove what was written about a server that has ended."""
    _state_file(home).unlink(missing_ok=True)


def _state_file(home: Path) -> Path:
    return home / "aimspax-server.json"


def log_file(home: Path) -> Path:
    """Return the file with what the server printed."""
    return home / "aimspax-server.log"


def running(home: Path) -> State | None:
    """Return the state of our server; None if it does not run, whatever the file says.

    Raises:
        ServerError: The server runs on another host, or its state cannot be read.
    """
    if not alive(home):
        return None
    try:
        state = State(**json.loads(_state_file(home).read_text()))
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


def last_state(home: Path) -> State | None:
    """Return the state of our server on this host, also if it died; None if it was stopped."""
    try:
        state = State(**json.loads(_state_file(home).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return state if state.host == socket.gethostname() else None


@contextlib.contextmanager
def starting_or_stopping(home: Path) -> Iterator[None]:
    """Let one process at a time start or stop the server, which does not inherit this lock."""
    with _locks_required(), contextlib.ExitStack() as stack:
        lock = _lock(home)
        if stack.enter_context(held(lock, _TOLD_AFTER_S, required=True, mode=0o600)) is None:
            logger.info("waiting: another process is starting or stopping the local Prefect server")
            stack.enter_context(held(lock, math.inf, required=True, mode=0o600))
        yield


@contextlib.contextmanager
def held_by_server(home: Path) -> Iterator[IO[str]]:
    """Hold the lock that says that a server lives; a server that inherits the file keeps it.

    Raises:
        ServerError: The file system has no locks.
    """
    with (
        _locks_required(),
        held(_alive_lock(home), math.inf, required=True, mode=0o600) as file,
    ):
        assert file is not None  # it was waited for
        yield file


def alive(home: Path) -> bool:
    """True while a server of ours, on whatever host, holds its lock.

    Raises:
        ServerError: The file system has no locks.
    """
    with _locks_required():
        return holder(_alive_lock(home), required=True) is not None


def _lock(home: Path) -> Path:
    return home / "aimspax-server.lock"


def _alive_lock(home: Path) -> Path:
    return home / "aimspax-server.alive"


@contextlib.contextmanager
def _locks_required() -> Iterator[None]:
    """Advise on file systems without locks, where two servers could share a database."""
    try:
        yield
    except NoLocksError as error:
        raise ServerError(f"{error}: set PREFECT_HOME to a folder on a local disk") from error


def make_home(home: Path) -> None:
    """Make the folder of Prefect's files, unless it is there.

    Raises:
        ServerError: It cannot be made, or nothing can be written there.
    """
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        why = None if os.access(home, os.W_OK) else "nothing can be written there"
    except OSError as error:
        why = error.strerror
    if why is not None:
        raise ServerError(
            f"{home}, the folder of the local Prefect server: {why}. "
            "Set PREFECT_HOME to a folder in which you can write."
        )


def make_key(home: Path) -> str:
    """Return the password in the key file; make one if there is no key file."""
    if not (home / KEY).exists():
        # A name before the colon, as HTTP wants it: `curl --user` takes it, too.
        write_text(home / KEY, f"aimspax:{secrets.token_urlsafe(32)}\n", private=True)
    return read_key(home)


def read_key(home: Path) -> str:
    """Return the password in the key file.

    Raises:
        ServerError: The file cannot be read, is empty, or can be read by others.
    """
    path = home / KEY
    advice = "End the server with `aimspax server stop` and delete that file: a new one is made."
    try:
        readable, key = path.stat().st_mode & 0o077, path.read_text().strip()
    except OSError as error:
        raise ServerError(
            f"{path}, the password of the local Prefect server, cannot be read: {error.strerror}. "
            f"{advice}"
        ) from error
    if readable or not key:
        what = "can be read by others" if readable else "is empty"
        raise ServerError(f"{path}, the password of the local Prefect server, {what}. {advice}")
    return key
