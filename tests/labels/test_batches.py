"""How labels that wait are dealt to workers."""

from __future__ import annotations

import math

from aimspax_core.labels.batches import Batches
from aimspax_core.labels.tries import BACKOFF_S, LABEL, Fate, GiveUp, Retry


def batches(count: int, workers: int = 4, seconds: float | None = None) -> Batches:
    made = Batches([f"{number}" for number in range(count)], workers)
    for _ in range(3 if seconds is not None else 0):
        made.took(seconds or 0.0)
    return made


def sizes(made: Batches) -> list[int]:
    found = []
    while made:
        found.append(len(made.next(0.0)))
    return found


def test_until_the_time_is_known_each_structure_is_a_task() -> None:
    made = batches(1000)
    made.took(0.01)
    made.took(0.01)
    assert [len(made.next(0.0)) for _ in range(5)] == [1] * 5


def test_a_task_takes_ten_seconds() -> None:
    assert len(batches(10_000, seconds=0.1).next(0.0)) == 100


def test_slow_labels_are_one_a_task() -> None:
    assert sizes(batches(5, seconds=30.0)) == [1] * 5


def test_no_task_has_more_than_a_thousand() -> None:
    assert len(batches(100_000, seconds=1e-6).next(0.0)) == 1000


def test_towards_the_end_every_worker_gets_some() -> None:
    found = sizes(batches(40, workers=4, seconds=0.5))
    assert max(found) == 10
    assert len(found) >= 4


def test_what_takes_less_than_a_second_is_not_split() -> None:
    assert sizes(batches(90, workers=4, seconds=0.01)) == [90]


def test_batches_are_in_order_and_none_is_left_out() -> None:
    made = batches(57, seconds=0.5)
    assert [key for _ in range(57) for key in made.next(0.0)] == [f"{n}" for n in range(57)]


def test_what_was_not_begun_comes_next() -> None:
    made = batches(10, seconds=5.0)
    first = made.next(0.0)
    made.give_back(first)
    assert made.next(0.0) == first


def test_what_was_lost_comes_alone_and_later() -> None:
    made = batches(10, seconds=5.0)
    made.next(0.0)
    assert made.lost("0", Fate.DIED, now=100.0) == Retry(BACKOFF_S[0])
    assert "0" not in made.next(100.0)
    assert made.due_in(100.0) == BACKOFF_S[0]
    assert made.next(100.0 + BACKOFF_S[0]) == ("0",)


def test_nothing_is_due_for_ever_where_nothing_was_put_off() -> None:
    assert batches(3).due_in(0.0) == math.inf


def test_a_label_whose_worker_was_interrupted_comes_next_and_with_others() -> None:
    made = batches(10, seconds=5.0)
    first = made.next(0.0)
    made.give_back(first[1:])
    assert made.lost(first[0], Fate.INTERRUPTED, now=0.0) == Retry(0.0)
    assert made.next(0.0) == first


def test_a_label_that_outlasted_a_job_comes_alone_and_at_once() -> None:
    made = batches(10, seconds=5.0)
    made.next(0.0)
    made.lost("1", Fate.OUT_OF_TIME, now=0.0)
    assert made.next(0.0) == ("1",)
    assert made.tries("1").out_of_time == 1


def test_a_label_is_given_up_as_the_rules_say() -> None:
    made = batches(0)
    *earlier, last = [made.lost("0", Fate.DIED, 0.0) for _ in range(LABEL.died)]
    assert all(isinstance(verdict, Retry) for verdict in earlier)
    assert isinstance(last, GiveUp)
    assert len(made) == LABEL.died - 1
