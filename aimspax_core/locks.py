"""Locks between processes: who holds the lock of a file is alone until the file is closed.

A lock ends with the process that holds it, however that process ends. Some file systems have no
locks (Lustre that is mounted without `-o flock`, some network file systems). There, everything goes
on without, and a warning says so once: two processes are not kept apart then. Whoever cannot go on
without locks asks for `required` ones.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import math
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from aimspax_core.errors import AimspaxError

LOOK_S = 0.3
"""Longer than `holder` takes to see whether a lock is free, for which it needs the lock itself."""

_POLL_S = 0.05

warned: set[int] = set()
"""File systems (their device numbers) whose lack of locks this process has warned of."""

log = logging.getLogger("aimspax.locks")


class NoLocksError(AimspaxError):
    """The file system has no locks."""


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock; "?" where the lock's file does not say.

    Attributes:
        pid: Its number.
        host: The machine that it runs on.
        since: When it took the lock (local time).
    """

    pid: int | str = "?"
    host: str = "?"
    since: str = "?"

    def __str__(self) -> str:
        """Return the process, its machine and the time."""
        return f"process {self.pid} on {self.host}, since {self.since}"


@contextlib.contextmanager
def held(
    path: Path, wait_s: float = LOOK_S, *, required: bool = False, mode: int = 0o666
) -> Iterator[IO[str] | None]:
    """Hold the lock of a file, which is made if it is not there, for the length of a block.

    The holder may remove the file. A child process that inherits the file's descriptor goes on
    holding the lock after the block.

    Args:
        path: The file; it says who holds the lock.
        wait_s: How long to wait for another holder (s); `math.inf` waits for ever.
        required: Do not go on where the file system has no locks.
        mode: Permissions of a file that is made, less those of the umask.

    Yields:
        The open file; None if another process still holds its lock after the wait.

    Raises:
        NoLocksError: The file system has no locks, and they are `required`.
    """
    file = _locked(path, wait_s, required, mode)
    if file is None:
        yield None
        return
    with file:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        file.truncate(0)
        file.write(json.dumps(asdict(Holder(os.getpid(), socket.gethostname(), since))))
        file.flush()
        try:
            yield file
        finally:
            with contextlib.suppress(OSError):  # the file may be gone with its folder
                file.truncate(0)


def holder(path: Path, *, required: bool = False) -> Holder | None:
    """Return who holds the lock of a file; None if nobody does.

    Where the file system has no locks, nobody is known to hold one.

    Args:
        path: The file; it need not be there.
        required: Do not go on where the file system has no locks.

    Raises:
        NoLocksError: The file system has no locks, and they are `required`.
    """
    try:
        file = path.open(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    with file:
        try:
            free = _lock(file, path, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except NoLocksError as error:
            _go_on_without(file, error, required)
            return None
        return None if free else _named(file.read())


def _locked(path: Path, wait_s: float, required: bool, mode: int) -> IO[str] | None:
    """Open a file and lock it; None if another process still holds its lock after the wait."""
    end = time.monotonic() + wait_s
    operation = fcntl.LOCK_EX | (0 if wait_s == math.inf else fcntl.LOCK_NB)
    with contextlib.ExitStack() as stack:
        while True:
            file = stack.enter_context(_opened(path, mode))
            try:
                free = _lock(file, path, operation)
            except NoLocksError as error:
                _go_on_without(file, error, required)
                break
            if free and _is_at(file, path):
                break
            stack.pop_all().close()  # held, or a former holder has removed the file
            if not free:
                if time.monotonic() >= end:
                    return None
                time.sleep(_POLL_S)
        stack.pop_all()
    return file


def _opened(path: Path, mode: int) -> IO[str]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, mode)
    return os.fdopen(descriptor, "a+", encoding="utf-8")


def _lock(file: IO[str], path: Path, operation: int) -> bool:
    """Lock an open file; False if another process holds its lock.

    Raises:
        NoLocksError: The file system has no locks.
    """
    try:
        fcntl.flock(file, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        raise NoLocksError(
            f"the file system of {path.parent} has no locks ({error.strerror})"
        ) from error
    return True


def _go_on_without(file: IO[str], error: NoLocksError, required: bool) -> None:
    if required:
        raise error
    system = os.fstat(file.fileno()).st_dev
    if system not in warned:
        warned.add(system)
        log.warning("%s: see to it that no two processes work on the same there", error)


def _is_at(file: IO[str], path: Path) -> bool:
    """Return whether an open file is the one that has this name now."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _named(text: str) -> Holder:
    """Return the holder that a lock's file names."""
    try:
        return Holder(**json.loads(text))
    except (ValueError, TypeError):
        return Holder()
