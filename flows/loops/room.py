"""What a run does while the storage cannot take what it writes: it waits, says so, and goes on."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection
from pathlib import Path
from time import monotonic, sleep
from typing import TypeVar

from aimspax_core.run_directory import RunDir
from aimspax_core.storage import (
    PROBE_BYTES,
    bytes_text,
    cannot_take,
    require_room,
    room_text,
    text,
)
from aimspax_core.text import duration_text

T = TypeVar("T")

LOOK_S = 2.0
"""From one look for room to the next (s)."""

_TICK_S = 0.2
"""From one look for a stop to the next (s)."""

_MOST_S = 60.0
"""Nothing is launched for so long (s) at most after work was lost although there is room here."""

log = logging.getLogger("aimspax")


class StoppedWaitingError(Exception):
    """A stop came while the run waited for room: nothing more can be written down."""


class Room:
    """The room that a run has for what it writes.

    Work that a worker could not write down is lost; then nothing is launched until there is room.
    What the run itself has to write down is tried until it succeeds.

    Args:
        look: Raises an `OSError` where there is no room.
        show: Shows that the run waits, and for what; with an empty text, that it goes on.
        stopped: Returns whether the run should stop.
    """

    def __init__(
        self, look: Callable[[], None], show: Callable[[str], None], stopped: Callable[[], bool]
    ) -> None:
        self._look, self._show, self._stopped = look, show, stopped
        self._waits = False
        self._since = self._next = self._pause_s = 0.0

    def lost(self, why: str) -> None:
        """Note that work was lost to the storage: each time in a row a longer pause follows.

        A worker may see another storage than this process, and lose it again.
        """
        self._pause_s = min(_MOST_S, max(LOOK_S, 2 * self._pause_s))
        self._begin(why)
        self._next = monotonic() + self._pause_s

    def there(self) -> bool:
        """Return whether there is room for what this process writes."""
        try:
            self._look()
        except OSError as error:
            if not cannot_take(error):
                raise
            return False
        return True

    def done(self) -> None:
        """Note that work came back: what was lost next is not in a row with what was lost last."""
        self._pause_s = 0.0

    def free(self) -> bool:
        """Return whether something may be launched; while the run waits, look for room."""
        if not self._waits:
            return True
        if monotonic() < self._next:
            return False
        if not self.there():
            self._next = monotonic() + LOOK_S
            return False
        self._end()
        return True

    def wait(self) -> None:
        """Wait until something may be launched.

        Raises:
            StoppedWaitingError: A stop came.
        """
        while not self.free():
            self._sleep()

    def insist(self, write: Callable[[], T]) -> T:
        """Write something, however long that takes; return what `write` returned.

        Args:
            write: Is called again until it succeeds; what failed has left nothing.

        Raises:
            StoppedWaitingError: There is no room, and a stop came.
            OSError: It failed for another reason.
        """
        while True:
            try:
                return write()
            except OSError as error:
                if not cannot_take(error):
                    raise
                self._begin(text(error))
            self._sleep()

    def _sleep(self) -> None:
        end = monotonic() + LOOK_S
        while monotonic() < end:
            if self._stopped():
                raise StoppedWaitingError
            sleep(_TICK_S)

    def _begin(self, why: str) -> None:
        if self._waits:
            return
        self._waits, self._since = True, monotonic()
        try:
            self._look()
            here = "this process has room"
        except OSError as error:
            here = text(error)
        log.warning("waiting for the disk: %s; %s; goes on by itself when it can", why, here)
        self._show(f"{why}; {here}")

    def _end(self) -> None:
        self._waits = False
        lasted = duration_text(monotonic() - self._since)
        log.info("the disk takes files again, after %s; going on", lasted)
        self._show("")


def look_for_campaigns_room(run: RunDir) -> None:
    """See whether there is room for a checkpoint of each member, and for what is small beside.

    Raises:
        OSError: There is none; it names the folder, and says how much is free and needed.
    """
    folders = (run.checkpoints_dir, run.state, run.labels, run.models)
    look_for_room(folders, PROBE_BYTES + _checkpoints(run.checkpoints_dir))


def look_for_room(folders: Collection[Path], needed: int = PROBE_BYTES) -> None:
    """See whether there is room in folders, which are made if they are not there.

    Raises:
        OSError: There is none; it names the folder, and says how much is free and needed.
    """
    for folder in _different(folders):
        try:
            require_room(folder, needed)
        except OSError as error:
            more = f"{room_text(folder)}, {bytes_text(needed)} needed"
            raise OSError(error.errno, f"{error.strerror} ({more})", error.filename) from error


def _checkpoints(folder: Path) -> int:
    """Return how much (bytes) the largest checkpoints of all members take."""
    found = 0
    with contextlib.suppress(OSError):  # it may be out of reach
        for member in folder.iterdir():
            sizes = [path.stat().st_size for path in member.glob("*.pt")]
            found += max(sizes, default=0)
    return found


def _different(folders: Collection[Path]) -> list[Path]:
    """Return one folder of each file system; those that cannot be told apart are all returned."""
    found: dict[object, Path] = {}
    for folder in folders:
        there = next((path for path in (folder, *folder.parents) if path.exists()), folder)
        found.setdefault(there.stat().st_dev if there.exists() else folder, folder)
    return list(found.values())
