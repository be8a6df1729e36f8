"""What follows from a loss to the storage: who waits, and what counts as a try."""

from __future__ import annotations

import errno

import pytest

from aimspax_core.labels.storage_losses import MAX_IN_A_ROW, StorageLoss, Verdict, verdict
from aimspax_core.labels.tries import Fate

OFTEN = MAX_IN_A_ROW + 1
WAIT, ELSEWHERE = Verdict(Fate.STORAGE, pause=True), Verdict(Fate.STORAGE)


@pytest.mark.parametrize(
    ("what", "number", "room_here", "in_a_row", "workers", "follows"),
    [
        ("a shared disk is full", errno.ENOSPC, False, 1, 1, WAIT),
        ("it stays full", errno.ENOSPC, False, 1000, 9, WAIT),
        ("it is remounted read-only", errno.EROFS, False, OFTEN, 3, WAIT),
        ("its device fails", errno.EIO, False, OFTEN, 3, WAIT),
        ("one node is full", errno.ENOSPC, True, 1, 1, ELSEWHERE),
        ("there is no other node", errno.ENOSPC, True, 2, 1, WAIT),
        ("all nodes are full", errno.ENOSPC, True, 1, 2, WAIT),
        ("they stay full", errno.ENOSPC, True, 1000, 9, WAIT),
        ("the nodes' mount is stale", errno.ESTALE, True, OFTEN, 2, WAIT),
        ("an engine's place is read-only", errno.EROFS, True, OFTEN, 2, Verdict(Fate.DIED)),
        ("it may be mounted again", errno.EROFS, True, MAX_IN_A_ROW, 2, WAIT),
        ("a sector is bad", errno.EIO, True, OFTEN, 1, Verdict(Fate.DIED, suspect=True)),
        ("it may have been a cable", errno.EIO, True, MAX_IN_A_ROW, 1, WAIT),
    ],
)
def test_what_follows(
    what: str, number: int, room_here: bool, in_a_row: int, workers: int, follows: Verdict
) -> None:
    assert verdict(StorageLoss(number, room_here, in_a_row, workers)) == follows, what
