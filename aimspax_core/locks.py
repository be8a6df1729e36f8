"""Locks between processes: who holds the lock of a file is alone until the block ends.

Where the file system has locks (`flock`), the operating system's word is the first one: a lock ends
with the process that holds it, however that process ends, and a copy of the file is not locked.

Some file systems have none (Lustre that is mounted without `-o flock`, some network file systems).
There the file itself is the lock: who makes it holds it, removes it at the end, and is dead or
alive as `lock_records` tells. The file of a dead holder is renamed away before a new one is made;
who finds that it was another's by then puts it back. Records and heartbeats are written in both
cases, since a directory may be seen from machines with locks and from machines without.

Whoever cannot do without the operating system's locks asks for `required` ones.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from aimspax_core.errors import AimspaxError
from aimspax_core.lock_records import HEART, SILENT_S, Holder, Record, Verdict, Watch, named
from aimspax_core.safe_files import beside

__all__ = ["LOOK_S", "Holder", "NoLocksError", "held", "holder", "remove_if_free"]

LOOK_S = 0.3
"""Longer than `holder` takes to see whether a lock is free, for which it needs the lock itself."""

_POLL_S = 0.05

log = logging.getLogger("aimspax.locks")


class NoLocksError(AimspaxError):
    """The file system has no locks."""


@contextlib.contextmanager
def held(
    path: Path, wait_s: float = LOOK_S, *, required: bool = False, mode: int = 0o666
) -> Iterator[IO[str] | None]:
    """Hold the lock of a file, which is made if it is not there, for the length of a block.

    The holder may remove the file. A child process that inherits the file's descriptor goes on
    holding the lock after the block, if it is the operating system's.

    Args:
        path: The file; it says who holds the lock.
        wait_s: How long to wait for another holder (s); `math.inf` waits for ever. One that may be
            dead, on another machine, is watched for a minute in any case.
        required: Do not go on where the file system has no locks.
        mode: Permissions of a file that is made, less those of the umask.

    Yields:
        The open file; None if another process still holds its lock after the wait.

    Raises:
        NoLocksError: The file system has no locks, and they are `required`.
    """
    try:
        file = _locked(path, wait_s, mode)
    except NoLocksError:
        if required:
            raise
        with _made(path, wait_s, mode) as made:
            yield made
        return
    if file is None:
        yield None
        return
    with file:
        record = Record.new(os.fstat(file.fileno()).st_ino, flock=True)
        file.truncate(0)
        file.write(record.text())
        file.flush()
        HEART.add(record, path)
        try:
            yield file
        finally:
            HEART.remove(record)
            with contextlib.suppress(OSError):  # the file may be gone with its folder
                file.truncate(0)


def holder(path: Path, *, required: bool = False, patient: bool = False) -> Holder | None:
    """Return who holds the lock of a file; None if nobody does.

    Args:
        path: The file; it need not be there.
        required: Do not go on where the file system has no locks.
        patient: Watch a holder that may be dead, on another machine, until it is known; else it
            counts as one.

    Raises:
        NoLocksError: The file system has no locks, and they are `required`.
    """
    try:
        file = path.open(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    with file:
        try:
            if not _lock(file, path, fcntl.LOCK_SH | fcntl.LOCK_NB):
                return named(file.read())
            text = file.read()
        except NoLocksError:
            if required:
                raise
            text = None
    return _holder_without(path, text, patient)


def remove_if_free(path: Path) -> bool:
    """Remove the file of a lock that nobody holds; return whether nobody did.

    A holder on another machine, of which nothing can be seen from here, counts as one.
    """
    try:
        file = _locked(path, 0.0, 0o666, make=False)
    except FileNotFoundError:
        return True
    except NoLocksError:
        watch = Watch(path)
        if watch.look() is not Verdict.FREE:
            return False
        _rename_away(path, watch.text)
        return True
    if file is None:
        return False
    with file:
        path.unlink(missing_ok=True)
    return True


def _locked(path: Path, wait_s: float, mode: int, make: bool = True) -> IO[str] | None:
    """Open a file and lock it; None if another process still holds its lock after the wait."""
    end = time.monotonic() + wait_s
    operation = fcntl.LOCK_EX | (0 if wait_s == math.inf else fcntl.LOCK_NB)
    watch = Watch(path)
    with contextlib.ExitStack() as stack:
        while True:
            file = stack.enter_context(_opened(path, mode, make))
            free = _lock(file, path, operation)
            if free and _is_at(file, path):
                file.seek(0)
                verdict = _beside(watch, file.read())
                if verdict is Verdict.FREE:
                    break
                free = False
                end = max(end, time.monotonic() + _POLL_S) if verdict is Verdict.UNKNOWN else end
            stack.pop_all().close()  # held, or a former holder has removed the file
            if not free:
                if time.monotonic() >= end:
                    return None
                time.sleep(_POLL_S)
        stack.pop_all()
    return file


def _beside(watch: Watch, text: str) -> Verdict:
    """Return whether a machine without the operating system's locks holds a lock."""
    record = Record.read(text)
    return Verdict.FREE if record is None or record.flock else watch.look()


def _holder_without(path: Path, text: str | None, patient: bool) -> Holder | None:
    """Return who holds a lock that is not the operating system's.

    Args:
        path: The lock's file.
        text: What it says, if the operating system has locks and this one is free there.
        patient: See `holder`.
    """
    watch = Watch(path)
    while True:
        verdict = watch.look() if text is None else _beside(watch, text)
        if verdict is not Verdict.UNKNOWN or not patient:
            nobody = verdict is Verdict.FREE or not watch.text
            return None if nobody else named(watch.text)
        time.sleep(_POLL_S)


@contextlib.contextmanager
def _made(path: Path, wait_s: float, mode: int) -> Iterator[IO[str] | None]:
    """Hold the lock of a file by having made it; None if another process still holds it."""
    record = _make_patiently(path, wait_s, mode)
    if record is None:
        yield None
        return
    try:
        with path.open("r+", encoding="utf-8") as file:
            yield file
    finally:
        found = Watch(path)
        found.look()
        if (left := Record.read(found.text)) is not None and left.token == record.token:
            path.unlink(missing_ok=True)
        HEART.remove(record)


def _make_patiently(path: Path, wait_s: float, mode: int) -> Record | None:
    end, watch, told = time.monotonic() + wait_s, Watch(path), False
    while True:
        record = _make(path, mode)
        if record is not None:
            return record
        verdict = watch.look()
        if verdict is Verdict.FREE:
            _rename_away(path, watch.text)
            continue
        if verdict is Verdict.HELD and time.monotonic() >= end:
            return None
        if verdict is Verdict.UNKNOWN and watch.text and not told:
            told = True
            log.info(
                "%s: %s may hold this; watching for up to %.0f s whether it is still there",
                *(path, named(watch.text), SILENT_S),
            )
        time.sleep(_POLL_S)


def _make(path: Path, mode: int) -> Record | None:
    """Make the file of a lock, complete at once; None if there is one already."""
    aside = beside(path)
    record = _written(aside, mode, path)
    try:
        os.link(aside, path)
        return record
    except FileExistsError:
        HEART.remove(record)
        return None
    except OSError:  # no links here: the file is empty for a moment
        HEART.remove(record)
        with contextlib.suppress(FileExistsError):
            return _written(path, mode, path)
        return None
    finally:
        aside.unlink(missing_ok=True)


def _written(file: Path, mode: int, path: Path) -> Record:
    """Write a record of this process to a new file; the heart beats for it before others see it."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        record = Record.new(os.fstat(descriptor).st_ino, flock=False)
        HEART.add(record, path)
        opened.write(record.text())
        opened.flush()
        os.fsync(descriptor)
    return record


def _rename_away(path: Path, text: str) -> None:
    """Remove the file of a dead holder, and no other."""
    aside = beside(path)
    with contextlib.suppress(FileNotFoundError):  # another was faster
        if path.read_text(encoding="utf-8", errors="replace") != text:
            return
        path.rename(aside)
        if aside.read_text(encoding="utf-8", errors="replace") != text:
            _put_back(aside, path)
        aside.unlink()


def _put_back(aside: Path, path: Path) -> None:
    """Give the file of a lock its name again, if no other has it meanwhile."""
    try:
        os.link(aside, path)
    except FileExistsError:
        return
    except OSError:  # no links here
        if not path.exists():
            aside.rename(path)


def _opened(path: Path, mode: int, make: bool) -> IO[str]:
    flags = os.O_RDWR | os.O_APPEND | (os.O_CREAT if make else 0)
    return os.fdopen(os.open(path, flags, mode), "a+", encoding="utf-8", errors="replace")


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


def _is_at(file: IO[str], path: Path) -> bool:
    """Return whether an open file is the one that has this name now."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
