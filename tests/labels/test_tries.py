"""The rules of retries."""

from __future__ import annotations

import pytest

from aimspax_core.labels.tries import (
    BACKOFF_S,
    LABEL,
    MAX_GIVEN_UP_IN_A_ROW,
    NO_TRIES,
    ONCE,
    TASK,
    Fate,
    GiveUp,
    Limits,
    Retry,
    Tries,
    after,
    broken_text,
    from_counts,
    reference_broken,
)

DIED, INTERRUPTED, OUT_OF_TIME = Fate.DIED, Fate.INTERRUPTED, Fate.OUT_OF_TIME
SERVER = Fate.SERVER


@pytest.mark.parametrize(
    ("limits", "before", "fate", "verdict"),
    [
        # A label's backoff grows with each death, up to its limit.
        (LABEL, Tries(), DIED, Retry(2.0)),
        (LABEL, Tries(died=1), DIED, Retry(10.0)),
        (LABEL, Tries(died=2), DIED, Retry(30.0)),
        (LABEL, Tries(died=3), DIED, GiveUp(DIED, 4)),
        # An interruption costs no time, and twenty of them are too many.
        (LABEL, Tries(), INTERRUPTED, Retry(0.0)),
        (LABEL, Tries(interrupted=18), INTERRUPTED, Retry(0.0)),
        (LABEL, Tries(interrupted=19), INTERRUPTED, GiveUp(INTERRUPTED, 20)),
        # A job's time limit, twice.
        (LABEL, Tries(), OUT_OF_TIME, Retry(0.0)),
        (LABEL, Tries(out_of_time=1), OUT_OF_TIME, GiveUp(OUT_OF_TIME, 2)),
        # Each kind of loss has its own limit; deaths of before still delay the next try.
        (LABEL, Tries(died=3, interrupted=18), INTERRUPTED, Retry(30.0)),
        (LABEL, Tries(interrupted=19, out_of_time=1), DIED, Retry(2.0)),
        # Training and MD come back before a job ends: its time limit is no fault of theirs.
        (TASK, Tries(died=3), DIED, GiveUp(DIED, 4)),
        (TASK, Tries(out_of_time=18), OUT_OF_TIME, Retry(0.0)),
        (TASK, Tries(out_of_time=19), OUT_OF_TIME, GiveUp(OUT_OF_TIME, 20)),
        # Somebody waits for a command.
        (ONCE, Tries(), DIED, GiveUp(DIED, 1)),
        (ONCE, Tries(), OUT_OF_TIME, GiveUp(OUT_OF_TIME, 1)),
        (ONCE, Tries(), INTERRUPTED, Retry(0.0)),
        (ONCE, Tries(interrupted=19), INTERRUPTED, GiveUp(INTERRUPTED, 20)),
        # That the Prefect API was away is no try, however often: the work is the cause of nothing.
        (LABEL, Tries(), SERVER, Retry(0.0)),
        (LABEL, Tries(died=3, interrupted=19, out_of_time=1), SERVER, Retry(30.0)),
        (TASK, Tries(died=3), SERVER, Retry(30.0)),
        (ONCE, Tries(), SERVER, Retry(0.0)),
    ],
)
def test_work_is_tried_again_until_its_limit(
    limits: Limits, before: Tries, fate: Fate, verdict: Retry | GiveUp
) -> None:
    assert after(before.lost(fate), fate, limits) == verdict


@pytest.mark.parametrize("fate", Fate)
def test_losses_of_each_kind_are_counted_by_themselves(fate: Fate) -> None:
    once, counts = Tries().lost(fate), int(fate not in NO_TRIES)
    found = {other: once.of(other) for other in Fate}
    assert found == {other: counts if other is fate else 0 for other in Fate}
    assert once.lost(fate).of(fate) == 2 * counts


@pytest.mark.parametrize("fate", sorted(NO_TRIES))
@pytest.mark.parametrize("limits", [LABEL, TASK, ONCE])
def test_losses_that_are_no_tries_have_no_limit(fate: Fate, limits: Limits) -> None:
    tries = Tries()
    for _ in range(1000):
        tries = tries.lost(fate)
    assert after(tries, fate, limits) == Retry(0.0)


def test_the_delay_stays_at_its_longest() -> None:
    assert [Tries(died=n).delay_s for n in range(6)] == [0.0, *BACKOFF_S, BACKOFF_S[-1], 30.0]


def test_all_retries_of_a_label_that_dies_take_less_than_a_minute() -> None:
    assert sum(Tries(died=n).delay_s for n in range(LABEL.died)) < 60


@pytest.mark.parametrize("fate", Fate)
def test_who_gives_up_says_how_often_and_why(fate: Fate) -> None:
    assert GiveUp(fate, 7).text("no node").startswith("lost 7 times; last: no node")


def test_a_label_that_outlasts_its_jobs_is_given_up_with_advice() -> None:
    assert "--time" in GiveUp(OUT_OF_TIME, 2).text("no time left")
    assert "--time" not in GiveUp(DIED, 2).text("killed")


def test_several_labels_given_up_in_a_row_mean_a_broken_reference() -> None:
    found = [reference_broken(count) for count in range(MAX_GIVEN_UP_IN_A_ROW + 2)]
    assert found == [False] * MAX_GIVEN_UP_IN_A_ROW + [True, True]
    assert "3 labels in a row" in broken_text("frame 3: killed")


def test_losses_that_an_earlier_release_wrote_are_read() -> None:
    counts = {
        "label:ab": 2, "label:ab interrupted": 3, "label:ab out-of-time": 1, "propagate": 1,
        "train:my model 4:1": 1, "train:my model 4:1 interrupted": 2,
    }  # fmt: skip
    assert from_counts(counts) == {
        "label:ab": Tries(2, 3, 1),
        "propagate": Tries(died=1),
        "train:my model 4:1": Tries(died=1, interrupted=2),
    }
