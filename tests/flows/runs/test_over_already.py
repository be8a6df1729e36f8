"""Runs that are started again though they were over."""

from __future__ import annotations

from typing import Any

import pytest
from prefect.client.schemas.objects import State, StateType
from prefect.states import (
    AwaitingRetry,
    Cancelled,
    Cancelling,
    Completed,
    Crashed,
    Failed,
    Paused,
    Pending,
    Running,
)

from flows.deployments.profile import read_automations
from flows.runs.over_already import MISSED, end_before

AGAIN: list[State[Any]] = [AwaitingRetry(), Pending(), Running()]
"""What follows when a run is started again."""


def missed() -> State[Any]:
    return Crashed(message=f"{MISSED} for 240 s.")


@pytest.mark.parametrize(
    "end", [Completed(message="done"), Cancelled(message="by me"), Failed(name="AlreadyRunning")]
)
def test_a_run_whose_end_was_not_heard_of_ends_again_as_it_did(end: State[Any]) -> None:
    found = end_before([Pending(), Running(), end, missed(), *AGAIN])
    assert found is not None
    assert (found.type, found.name, found.message) == (end.type, end.name, end.message)


def test_a_run_that_died_while_it_was_cancelled_is_cancelled() -> None:
    found = end_before([Running(), Cancelling(), missed(), *AGAIN])
    assert found is not None
    assert found.type is StateType.CANCELLED


@pytest.mark.parametrize("end", [Completed(message="done"), Cancelled(message="by me")])
def test_an_end_holds_though_the_attempts_that_were_to_repeat_it_died(end: State[Any]) -> None:
    died = Crashed(message="its worker said so")
    for deaths in ([missed()], [died], [missed(), missed()], [Crashed(name="Interrupted")]):
        found = end_before([Running(), end, missed(), *AGAIN, *deaths, *AGAIN])
        assert found is not None
        assert (found.type, found.message) == (end.type, end.message)


def test_a_cancel_holds_though_the_run_lived_and_died_later() -> None:
    shown_as_living = [Running(), Crashed(message="its worker said so")]
    found = end_before([Running(), Cancelling(), missed(), *shown_as_living, *AGAIN])
    assert found is not None
    assert found.type is StateType.CANCELLED


def test_a_run_that_died_before_it_began_once_more_is_over() -> None:
    found = end_before([Running(), Cancelled(), missed(), *AGAIN[:2], missed(), *AGAIN])
    assert found is not None
    assert found.type is StateType.CANCELLED


@pytest.mark.parametrize(
    "states",
    [
        [Running()],
        [Running(), missed(), *AGAIN],
        [Running(), Crashed(message="its worker said so"), missed(), *AGAIN],
        [Running(), Crashed(name="Interrupted"), missed(), *AGAIN],
        [Running(), Failed(), *AGAIN],  # Retry on the page
        [Running(), Completed(), missed(), *AGAIN, Completed(), *AGAIN],  # the same, later
        [Running(), Failed(), *AGAIN, missed(), *AGAIN],  # the same, and then it died
        [Running(), Cancelled(), missed(), *AGAIN, Cancelled(), *AGAIN, missed(), *AGAIN],
        [Running(), Cancelled(), missed(), *AGAIN, Paused(), Running(), missed(), *AGAIN],
    ],
)
def test_what_died_or_somebody_wants_again_goes_on(states: list[State[Any]]) -> None:
    assert end_before(states) is None


def test_who_was_missed_is_known_by_the_message_of_the_automation() -> None:
    (dead,) = [one for one in read_automations() if one.name == "aimspax notices the dead"]
    assert str(dead.actions[0]["message"]).startswith(MISSED)
