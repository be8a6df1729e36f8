"""How often a run may be started again by itself."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

import numpy as np
import pytest

from aimspax_core.campaign.actions import Label
from aimspax_core.campaign.events import (
    Event,
    LabelArrived,
    Launched,
    Resumed,
    Sampled,
    SegmentFinished,
    TaskLost,
    TrainingFinished,
)
from aimspax_core.campaign.restarts import STOPS, Restarts, counted, mark_of
from aimspax_core.campaign.rules import apply
from aimspax_core.campaign.state import CampaignState
from tests.campaign.test_rules import make_rules
from tests.campaign.virtual import VirtualShell, World


def attempts(*tries: tuple[str, int, str], stopped: Collection[int] = ()) -> Restarts:
    """Count attempts (flow run, number, mark) one after the other; return the last.

    Attempts of some numbers are stopped, all others die.
    """
    noted = None
    for flow_run, number, mark in tries:
        noted = counted(noted, Restarts(flow_run=flow_run, attempt=number, mark=mark))
        noted = noted.but(stopped=number in stopped)
    assert noted is not None
    return noted


def test_restarts_in_vain_are_counted() -> None:
    assert attempts(("a", 1, "x")).in_a_row == 0
    assert attempts(("a", 1, "x"), ("a", 2, "x"), ("a", 3, "x")).in_a_row == 2


def test_the_limit_itself_is_allowed() -> None:
    third = attempts(("a", 1, "x"), ("a", 2, "x"), ("a", 3, "x"))
    assert not third.too_many(2)
    assert third.too_many(1)


def test_progress_begins_a_new_count() -> None:
    assert attempts(("a", 1, "x"), ("a", 2, "x"), ("a", 3, "y")).in_a_row == 0
    assert attempts(("a", 1, "x"), ("a", 2, "x"), ("a", 3, "y"), ("a", 4, "y")).in_a_row == 1


def test_another_flow_run_begins_a_new_count() -> None:
    assert attempts(("a", 1, "x"), ("a", 2, "x"), ("b", 1, "x")).in_a_row == 0


def test_what_was_stopped_and_goes_on_has_not_died() -> None:
    tries = [("a", number, "x") for number in range(1, 9)]
    last = attempts(*tries, stopped=range(1, 8))
    assert last.in_a_row == 0
    assert not last.too_many(0)


def stopped_always(often: int) -> Restarts:
    """Return the attempt after so many that were stopped without progress."""
    tries = [("a", number, "x") for number in range(1, often + 2)]
    return attempts(*tries, stopped=range(1, often + 1))


def test_what_is_stopped_each_time_does_not_go_on_without_end() -> None:
    assert not stopped_always(STOPS).too_many(3)
    assert stopped_always(STOPS + 1).too_many(3)
    assert not stopped_always(STOPS + 1).forgiven().too_many(3)


def test_progress_begins_a_new_count_of_stops() -> None:
    progress = Restarts(flow_run="a", attempt=STOPS + 2, mark="y")
    assert counted(stopped_always(STOPS).but(stopped=True), progress).stops == 0


def test_a_stop_hides_no_restarts() -> None:
    tries = [("a", number, "x") for number in range(1, 5)]
    assert attempts(*tries, stopped=[2]).in_a_row == 2


def test_a_note_of_a_release_that_knew_no_stops_is_read() -> None:
    noted = '{"flow_run": "a", "attempt": 2, "mark": "x", "in_a_row": 1}'
    before = Restarts.model_validate_json(noted)
    assert counted(before, Restarts(flow_run="a", attempt=3, mark="x")).in_a_row == 2


def test_numbers_that_a_second_process_has_used_up_do_not_count() -> None:
    assert attempts(("a", 1, "x"), ("a", 4, "x")).in_a_row == 1


def test_who_was_refused_may_try_again() -> None:
    refused = attempts(("a", 1, "x"), ("a", 2, "x")).forgiven()
    assert counted(refused, Restarts(flow_run="a", attempt=3, mark="x")).in_a_row == 1


@pytest.fixture
def state() -> CampaignState:
    """A campaign that waits for its first label."""
    shell = VirtualShell(make_rules(), World(), np.random.default_rng(3))
    while not shell.state.open_points:
        shell.advance()
    return shell.state


def test_what_was_asked_for_and_lost_is_no_progress(state: CampaignState) -> None:
    key = next(k for k in state.open_points if f"label-{k}" not in state.in_flight)
    again = apply(state, Resumed(rules=state.rules))
    action = Label(key=key)
    launched = apply(again, Launched(action=action))
    lost = apply(launched, TaskLost(action_id=action.id, reason="killed"))
    assert mark_of(state) == mark_of(again) == mark_of(launched) == mark_of(lost)


def test_a_label_is_progress(state: CampaignState) -> None:
    arrived = apply(state, LabelArrived(key=state.open_points[0], wall_s=1.0))
    assert mark_of(arrived) != mark_of(state) != mark_of(None)


def test_every_result_is_progress() -> None:
    marks: list[tuple[Event, str]] = []
    shell = VirtualShell(
        make_rules(),
        World(),
        np.random.default_rng(3),
        watch=lambda state, event: marks.append((event, mark_of(state))),
    )
    shell.run()
    for (_, before), (event, after) in pairwise(marks):
        if isinstance(event, Sampled | LabelArrived | SegmentFinished | TrainingFinished):
            assert before != after, event.kind
        elif isinstance(event, Launched):
            assert before == after
