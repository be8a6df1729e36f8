"""For how long a campaign has run."""

from __future__ import annotations

from aimspax_core.campaign.events import (
    ExplorationAsked,
    Paused,
    Resumed,
    Started,
    TimePassed,
    Unpaused,
)
from aimspax_core.campaign.journal_lines import Entry
from aimspax_core.campaign.running_time import RunningTime
from tests.campaign.test_rules import make_rules


def ran(*events: tuple[float, object]) -> RunningTime:
    return RunningTime.of(
        Entry(seq=seq, time=time, event=event) for seq, (time, event) in enumerate(events, start=1)
    )


BEGAN = (0.0, Started(rules=make_rules()))


def test_time_counts_while_a_process_runs_the_campaign() -> None:
    found = ran(BEGAN, (50.0, ExplorationAsked()))
    assert (found.seconds, found.at(70.0)) == (50.0, 70.0)


def test_time_between_two_processes_does_not_count() -> None:
    found = ran(BEGAN, (50.0, ExplorationAsked()), (950.0, Resumed(rules=make_rules())))
    assert (found.seconds, found.at(960.0)) == (50.0, 60.0)


def test_a_pause_does_not_count() -> None:
    pause = (10.0, Paused(time=10.0, by="me"))
    assert ran(BEGAN, pause, (20.0, ExplorationAsked())).at(30.0) == 10.0
    end = (100.0, Unpaused(time=100.0, by="me"))
    assert ran(BEGAN, pause, end, (105.0, ExplorationAsked())).seconds == 15.0


def test_a_pause_that_outlasts_a_process_does_not_count() -> None:
    pause = (10.0, Paused(time=10.0, by="me"))
    taken_up = (500.0, Resumed(rules=make_rules()))
    assert ran(BEGAN, pause, taken_up, (510.0, TimePassed(seconds=10.0))).seconds == 10.0


def test_a_clock_that_was_set_back_takes_nothing_away() -> None:
    assert ran((100.0, BEGAN[1]), (40.0, ExplorationAsked())).seconds == 0.0
