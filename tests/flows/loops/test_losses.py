"""What a loop learns from losses: which workers rest, and for how long."""

from __future__ import annotations

import errno

import pytest

from aimspax_core.labels.storage_losses import MAX_IN_A_ROW
from aimspax_core.labels.tries import Fate
from flows.loops.losses import REST_S, Losses

FULL = OSError(errno.ENOSPC, "No space left on device", "/scratch/job")
READ_ONLY = OSError(errno.EROFS, "Read-only file system", "/scratch/job")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def losses(clock: Clock) -> Losses:
    return Losses(now=clock)


def test_a_worker_without_room_rests_for_what_waits_and_what_comes(losses: Losses) -> None:
    waits = losses.avoided("waits")
    losses.unwritten("lost", "tcp://a", FULL)
    assert waits == losses.avoided("lost") == losses.avoided("comes") == {"tcp://a"}


def test_a_worker_rests_for_a_while(losses: Losses, clock: Clock) -> None:
    losses.unwritten("lost", "tcp://a", FULL)
    clock.now = REST_S
    assert losses.avoided("comes") == set()


def test_a_worker_that_brings_something_back_does_not_rest(losses: Losses) -> None:
    losses.unwritten("lost", "tcp://a", FULL)
    losses.done("other", "tcp://a")
    assert losses.avoided("comes") == set()


def test_a_worker_where_a_file_may_not_be_opened_does_not_rest(losses: Losses) -> None:
    losses.unwritten("lost", "tcp://a", PermissionError(errno.EACCES, "Permission denied"))
    assert (losses.avoided("lost"), losses.avoided("comes")) == ({"tcp://a"}, set())


def test_work_that_came_back_begins_to_count_anew(losses: Losses) -> None:
    for _ in range(MAX_IN_A_ROW):
        losses.unwritten("lost", "tcp://a", READ_ONLY)
    losses.done("lost", "tcp://b")
    assert losses.unwritten("lost", "tcp://a", READ_ONLY).fate is Fate.STORAGE


def test_a_disk_that_was_full_before_it_was_read_only_counts_anew(losses: Losses) -> None:
    for _ in range(MAX_IN_A_ROW):
        losses.unwritten("lost", "tcp://a", FULL)
    assert losses.unwritten("lost", "tcp://a", READ_ONLY).fate is Fate.STORAGE


def test_only_work_that_the_api_took_is_done_without_it(losses: Losses) -> None:
    losses.taken("label", Fate.SERVER)
    losses.taken("other", Fate.DIED)
    assert (losses.plainly("label"), losses.plainly("other")) == (True, False)
