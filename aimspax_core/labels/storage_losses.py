"""What follows from work that was lost to the storage of the worker that had it.

A full or absent file system passes, and what it takes along is no try. But work that finds the
same place read-only again and again, where all others have room, will always do so, and a file
that the device cannot read is damaged. The rule is pure: no clock and no files.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from aimspax_core.labels.tries import Fate

MAX_IN_A_ROW = 6
"""How often the same work may be lost to what may last until that counts; with the pauses between
them a minute and more."""

_MAY_LAST = frozenset({errno.EROFS, errno.EIO})
"""Read-only, as in a container; a bad sector. All else ends with somebody's doing."""


@dataclass(frozen=True)
class StorageLoss:
    """How work was lost.

    Attributes:
        number: What the operating system said, as `errno`.
        room_here: Whether the campaign's own process can write its files.
        in_a_row: How often that was so, with this time: for the same work since it last came back,
            or on reading or writing the same file.
        workers: How many workers have lost work to their storage, with this one, since one of
            them has last brought something back.
    """

    number: int | None
    room_here: bool
    in_a_row: int
    workers: int


@dataclass(frozen=True)
class Verdict:
    """What follows.

    Attributes:
        fate: How the loss counts.
        pause: Whether nothing is launched for a while: not only this work, or this worker, has no
            room.
        suspect: Whether the file that the system names may be damaged.
    """

    fate: Fate
    pause: bool = False
    suspect: bool = False


def verdict(loss: StorageLoss) -> Verdict:
    """Return what follows from a loss."""
    if loss.room_here and loss.number in _MAY_LAST and loss.in_a_row > MAX_IN_A_ROW:
        return Verdict(Fate.DIED, suspect=loss.number == errno.EIO)
    elsewhere = loss.room_here and loss.workers == 1 and loss.in_a_row == 1
    return Verdict(Fate.STORAGE, pause=not elsewhere)
