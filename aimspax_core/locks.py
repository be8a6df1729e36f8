"""Locks between processes: who holds the lock of a file is alone until the block ends.

Where the file system has locks (`flock`), the operating system's word is the first one: a lock ends
with the process that holds it, however that process ends, and a copy of the file is not locked.
Some mounts lock among the processes of one machine only (Lustre with `-o localflock`, NFS with
`local_lock`), which cannot be seen: the record of a holder on another machine, that did not let go
of the lock, counts as that of one which may live.

Some file systems have none (Lustre that is mounted without `-o flock`, some network file systems).
There the file itself is the lock: who makes it holds it, removes it at the end, and is dead or
alive as `lock_records` tells. The file of a dead holder is renamed away before a new one is made;
who finds that it was another's by then puts it back. Records and heartbeats are written in both
cases, since a directory may be seen from machines with locks and from machines without.

Whoever cannot do without the operating system's locks asks for `required` ones, and takes its word
alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

from aimspax_core.errors import AimspaxError
from aimspax_core.hidden_files import beside
from aimspax_core.lock_records import HEART, Holder, LockRecord, Verdict, Watch, named

__all__ = ["WAIT_S", "Holder", "NoLocksError", "held", "holder", "remove_if_free"]

WAIT_S = 0.3
"""Longer than `holder` takes to see whether a lock is free, for which it needs the lock itself."""

_POLL_S = 0.05


class NoLocksError(AimspaxError):
    """The file system has no locks."""


@contextlib.contextmanager
def held(
    path: Path, wait_s: float = WAIT_S, *, required: bool = False, mode: int = 0o666
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
        file = _locked(path, wait_s, mode, word_alone=required)
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
        record = LockRecord.new(os.fstat(file.fileno()).st_ino, flock=True)
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
    watch = Watch(path)
    try:
        file = path.open(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    with file:
        try:
            free = _lock(file, path, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except NoLocksError:
            if required:
                raise
            return _watched(watch, patient)
        if not free:
            return named(file.read())
        if required or _beside(watch, file) is Verdict.FREE:
            return None
    return _watched(watch, patient)


def remove_if_free(path: Path) -> bool:
    """Remove the file of a lock that nobody holds; return whether nobody did.

    A holder on another machine, of which nothing can be seen from here, counts as one.
    """
    watch = Watch(path)
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(_opened(path, 0o666, make=False))
            free = _lock(file, path, fcntl.LOCK_EX | fcntl.LOCK_NB) and _is_at(file, path)
            if free and _beside(watch, file) is Verdict.FREE:
                path.unlink(missing_ok=True)
                return True
        except FileNotFoundError:
            return True
        except NoLocksError:
            if watch.look() is Verdict.FREE:
                _rename_away(path, watch.text)
                return True
    return False


def _locked(path: Path, wait_s: float, mode: int, word_alone: bool) -> IO[str] | None:
    """Open a file and lock it; None if another process still holds its lock after the wait.

    Args:
        path: The file, which is made if it is not there.
        wait_s: See `held`.
        mode: See `held`.
        word_alone: Whether the operating system's word is taken, whatever the file says.
    """
    end = time.monotonic() + wait_s
    operation = fcntl.LOCK_EX | (0 if wait_s == math.inf else fcntl.LOCK_NB)
    watch = Watch(path)
    with contextlib.ExitStack() as stack:
        while True:
            file = stack.enter_context(_opened(path, mode, make=True))
            free = _lock(file, path, operation)
            if free and _is_at(file, path):
                verdict = Verdict.FREE if word_alone else _beside(watch, file)
                if verdict is Verdict.FREE:
                    break
                free = False
                if verdict is Verdict.UNKNOWN:
                    watch.tell()
                    end = max(end, time.monotonic() + _POLL_S)
            stack.pop_all().close()  # held, or a former holder has removed the file
            if not free:
                if time.monotonic() >= end:
                    return None
                time.sleep(_POLL_S)
        stack.pop_all()
    return file


def _beside(watch: Watch, file: IO[str]) -> Verdict:
    """Return whether another machine holds a lock that the operating system calls free here."""
    file.seek(0)
    record = LockRecord.read(file.read())
    return Verdict.FREE if record is None or record.is_known_to_flock() else watch.look()


def _watched(watch: Watch, patient: bool) -> Holder | None:
    """Return who holds a lock that the operating system does not know of; see `holder`."""
    while True:
        verdict = watch.look()
        if verdict is not Verdict.UNKNOWN or not patient:
            nobody = verdict is Verdict.FREE or not watch.text
            return None if nobody else replace(named(watch.text), certain=verdict is Verdict.HELD)
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
        if (left := LockRecord.read(found.text)) is not None and left.token == record.token:
            path.unlink(missing_ok=True)
        HEART.remove(record)


def _make_patiently(path: Path, wait_s: float, mode: int) -> LockRecord | None:
    end, watch = time.monotonic() + wait_s, Watch(path)
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
        if verdict is Verdict.UNKNOWN:
            watch.tell()
        time.sleep(_POLL_S)


def _make(path: Path, mode: int) -> LockRecord | None:
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


def _written(file: Path, mode: int, path: Path) -> LockRecord:
    """Write a record of this process to a new file; the heart beats for it before others see it."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        record = LockRecord.new(os.fstat(descriptor).st_ino, flock=False)
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
