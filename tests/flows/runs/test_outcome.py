"""How a flow ended is known also if Prefect cannot be told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import prefect
import pytest
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Cancelled, Completed, Failed

from aimspax_core.errors import CampaignError
from flows.commands.status import not_completed
from flows.runs.api_health import Answer, Found
from flows.runs.api_watch import ApiWatch
from flows.runs.outcome import UntoldError, hand_back, on_its_own, outcome_of
from flows.server import Server, ServerError
from tests.flows.busy_api import busy_at_first

GONE = httpx.ConnectError("refused")


def watch_that_finds(*answers: Answer) -> ApiWatch:
    found = iter(answers)
    return ApiWatch(lambda: Found(next(found)))


def test_prefect_is_told_how_a_flow_ended_if_it_answers() -> None:
    outcome = Completed(message="done")
    assert hand_back(outcome, watch_that_finds(Answer.FINE)) is outcome


@pytest.mark.parametrize("answer", [Answer.REFUSED, Answer.SILENT, Answer.UNKNOWN])
def test_prefect_is_not_asked_to_set_a_state_that_its_api_cannot_take(answer: Answer) -> None:
    outcome = Completed(message="done")
    with pytest.raises(UntoldError) as untold:
        hand_back(outcome, watch_that_finds(answer))
    assert untold.value.outcome is outcome


def flow_of(
    outcome: State[Any], watch: ApiWatch, then: Exception | None = None
) -> Callable[..., Any]:
    """A flow as Prefect calls it: its outcome is handed back, and the state is set, or is not."""

    def flow(*, return_state: bool) -> State[Any]:
        hand_back(outcome, watch)
        if then is not None:
            raise then
        return outcome

    return flow


@pytest.mark.parametrize("outcome", [Completed(), Cancelled(), Failed()])
def test_the_outcome_counts_whatever_becomes_of_the_api(outcome: State[Any]) -> None:
    known = flow_of(outcome, watch_that_finds(Answer.FINE))
    away = flow_of(outcome, watch_that_finds(Answer.REFUSED))
    # It went after it was looked at, before the state was set.
    just_gone = flow_of(outcome, watch_that_finds(Answer.FINE), then=GONE)
    assert [outcome_of(flow) for flow in (known, away, just_gone)] == [outcome] * 3


def test_an_api_that_goes_before_a_flow_begins_is_a_reason_to_start_again() -> None:
    def flow(*, return_state: bool) -> None:
        raise GONE

    outcome_of(flow_of(Completed(), watch_that_finds(Answer.FINE)))  # of an earlier flow
    with pytest.raises(ServerError, match="Start again"):
        outcome_of(flow)


def test_a_bug_is_no_api_that_is_away() -> None:
    def flow(*, return_state: bool) -> None:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        outcome_of(flow)


def test_an_error_of_ours_is_raised_from_a_state_that_was_never_told() -> None:
    failed = Failed(message="no", data=CampaignError("no"))
    with pytest.raises(CampaignError):
        not_completed(outcome_of(flow_of(failed, watch_that_finds(Answer.REFUSED))))


def test_a_stop_that_was_never_told_has_its_exit_code() -> None:
    stopped = Cancelled(message="SIGTERM")
    assert not_completed(outcome_of(flow_of(stopped, watch_that_finds(Answer.REFUSED)))) == 130


@pytest.mark.parametrize("code", [503, 500])
def test_a_flow_begins_though_the_server_is_busy(prefect_server: Server, code: int) -> None:
    within = []

    @prefect.flow
    def campaign() -> State[Any]:
        with on_its_own():
            within.append(PREFECT_CLIENT_MAX_RETRIES.value())
        return Completed(message="done")

    with (
        busy_at_first(prefect_server.api_url, times=4, code=code) as url,
        temporary_settings({PREFECT_API_URL: url}),
    ):
        outcome = outcome_of(campaign)
    assert outcome.message == "done"
    assert within == [1], "a call in the middle of a run waits for no server"
