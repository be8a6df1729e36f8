"""Storage that cannot take what is written now: no room, a quota, read-only, out of reach.

All of these pass: somebody makes room, the file system is mounted again, its server comes back.
So whoever writes what must not be lost waits and tries again, instead of giving up.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from pathlib import Path
from time import monotonic, sleep
from typing import TypeVar

from aimspax_core.hidden_files import beside

T = TypeVar("T")

PROBE_BYTES = 2**20
"""Room (bytes) that there must be at least before a run that waited for it goes on."""

MOST_PROBED = 2**28
"""Room (bytes) that is reserved at most to see whether it is there."""

DELAYS_S = (1.0, 2.0, 5.0, 10.0)
"""Pauses (s) between tries to write; the last one is repeated."""

_ALWAYS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE, errno.EIO})
"""No room; quota used up; read-only; an NFS server or its export changed; the device fails."""

_OF_A_FILE = frozenset(
    {
        errno.ETIMEDOUT,  # an NFS server that is mounted `soft` does not answer
        errno.ENOTCONN,  # FUSE: the process that serves the file system is gone
        errno.ESHUTDOWN,  # Lustre: the server has thrown this client out
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENOLINK,
        errno.EREMOTEIO,
        errno.ENODEV,  # the device is gone
        errno.ENXIO,
        errno.ENOKEY,  # NFS and AFS with Kerberos: the ticket has expired
        errno.EKEYEXPIRED,
        errno.EKEYREVOKED,
    }
)
"""What connections over a network may end with, too: it counts if the error names a file."""

log = logging.getLogger("aimspax.storage")


def cannot_take(error: BaseException) -> bool:
    """Return whether an error says that the storage cannot take what was written now.

    Args:
        error: Any error; only those of the operating system can.
    """
    if not isinstance(error, OSError):
        return False
    return error.errno in _ALWAYS or (error.errno in _OF_A_FILE and error.filename is not None)


def text(error: OSError) -> str:
    """Return an error of the operating system as `PATH: what is wrong`."""
    what = error.strerror or str(error)
    return what if error.filename is None else f"{os.fsdecode(error.filename)}: {what}"


@contextlib.contextmanager
def naming(path: Path, *aliases: Path) -> Iterator[None]:
    """Have errors of the operating system in the block name a file: those of open files do not.

    Args:
        path: The file.
        aliases: Other names of it that nobody but the block knows.
    """
    try:
        yield
    except OSError as error:
        known = error.filename is not None and error.filename not in map(str, aliases)
        if known or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


class Patience:
    """How long to wait for a storage, for all together that is tried with it.

    Args:
        seconds: How long (s).
    """

    def __init__(self, seconds: float) -> None:
        self._left_s = seconds

    def allows(self, lost_s: float, delay_s: float) -> bool:
        """Return whether there may be a pause after a loss, and count both (s)."""
        self._left_s -= lost_s
        if delay_s > self._left_s:
            return False
        self._left_s -= delay_s
        return True


def patiently(write: Callable[[], T], patience: float | Patience, what: str) -> T:
    """Write something; where the storage cannot take it, try again for a while.

    Args:
        write: Writes it; is called again until it succeeds, so it begins anew each time.
        patience: How long (s) to try; or one that is shared with others.
        what: What is written, for the log.

    Returns:
        What `write` returned.

    Raises:
        OSError: It failed for another reason, or for longer than that.
    """
    shared = patience if isinstance(patience, Patience) else Patience(patience)
    for number, delay_s in enumerate(chain(DELAYS_S, repeat(DELAYS_S[-1]))):
        began = monotonic()
        try:
            return write()
        except OSError as error:
            if not cannot_take(error) or not shared.allows(monotonic() - began, delay_s):
                raise
            if number == 0:
                log.warning("%s waits for the disk: %s", what, text(error))
        sleep(delay_s)
    raise AssertionError("there is always a next pause")


def require_room(folder: Path, needed: int = PROBE_BYTES) -> None:
    """Reserve room in a folder, force it to the disk, and give it back.

    Args:
        folder: Made if it is not there.
        needed: How much (bytes) must be free.

    Raises:
        OSError: There is less, or nothing can be written; it names the folder.
    """
    probe = beside(folder / "room")
    with naming(folder, probe):
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
        try:
            # A quota is not part of what the file system says to be free.
            with probe.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, min(needed, MOST_PROBED))
                os.fsync(file.fileno())
        finally:
            with contextlib.suppress(OSError):
                probe.unlink(missing_ok=True)


def blame(*folders: Path) -> None:
    """Say that there is no room, if so: programs that find none fail with anything.

    Args:
        folders: Where they have written.

    Raises:
        OSError: In one of them nothing can be written now.
    """
    for folder in folders:
        try:
            require_room(folder)
        except OSError as error:
            if cannot_take(error):
                raise


def room_text(path: Path) -> str:
    """Return how much is free on the file system of a path, which need not exist: `3.2 MB free`."""
    with contextlib.suppress(OSError):
        for there in (path, *path.parents):
            if there.exists():
                return f"{bytes_text(shutil.disk_usage(there).free)} free"
    return "how much is free cannot be told"


def bytes_text(count: float) -> str:
    """Return a number of bytes for a reader: `512 B`, `3.2 MB`, `118 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return (
                f"{count:.{0 if unit == 'B' else 2}g} {unit}"
                if count < 9.95
                else f"{count:.0f} {unit}"
            )
        count /= 1000
    return f"{count:.1f} TB"
