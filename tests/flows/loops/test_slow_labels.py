"""Labels that run unusually long are told of."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from aimspax_core.labels.durations import Durations
from flows.loops.slow_labels import SlowLabels
from flows.pools.ticket import Ticket

GEOMETRIES = {"first-key": 0, "second-key": 0}


@pytest.fixture
def slow() -> SlowLabels:
    durations = Durations()
    durations.note(0, 30.0)
    return SlowLabels(durations)


def ticket(address: str = "tcp://a") -> Ticket:
    task: Any = None
    return Ticket(task, None, address=address)


def told(slow: SlowLabels, labels: dict[str, Ticket], now: float, caplog: Any) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="aimspax"):
        slow.look(labels, GEOMETRIES, now)
    return [record.message for record in caplog.records]


def test_a_label_that_hangs_is_told_of_each_time_it_has_run_twice_as_long(
    slow: SlowLabels, caplog: pytest.LogCaptureFixture
) -> None:
    labels = {"first-key": ticket()}
    times = [now for now in range(0, 1000, 10) if told(slow, labels, float(now), caplog)]
    assert times == [90, 180, 360, 720]


def test_the_line_names_label_worker_and_times(
    slow: SlowLabels, caplog: pytest.LogCaptureFixture
) -> None:
    labels = {"first-key": ticket()}
    told(slow, labels, 0.0, caplog)
    (line,) = told(slow, labels, 600.0, caplog)
    for part in ("first-ke", "tcp://a", "10 min", "30 s"):
        assert part in line


def test_waiting_does_not_count(slow: SlowLabels, caplog: pytest.LogCaptureFixture) -> None:
    waiting = ticket(address="")
    assert not told(slow, {"first-key": waiting}, 0.0, caplog)
    waiting.address = "tcp://a"
    assert not told(slow, {"first-key": waiting}, 1000.0, caplog)
    assert told(slow, {"first-key": waiting}, 2000.0, caplog)


def test_a_label_that_is_tried_again_begins_anew(
    slow: SlowLabels, caplog: pytest.LogCaptureFixture
) -> None:
    assert not told(slow, {"first-key": ticket()}, 0.0, caplog)
    assert not told(slow, {"first-key": ticket()}, 1000.0, caplog)
