"""Flows and tasks that did not end well, as Prefect is told of them."""

from __future__ import annotations

import inspect
import logging
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import prefect
import prefect.flow_engine
import pytest
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed

from aimspax_core.errors import CampaignError, SettingsError
from flows.runs.failures import LostTasks, mark_crashed, plain_failures


class Client:
    """Prefect's API, which does not know a task run at the first looks."""

    def __init__(self, unknown: int = 0) -> None:
        self.unknown, self.asked = unknown, 0
        self.crashed: list[str] = []

    def set_task_run_state(self, id_: uuid.UUID, state: State[Any], force: bool) -> None:
        self.asked += 1
        if self.asked <= self.unknown:
            request = httpx.Request("POST", "http://test")
            raise httpx.HTTPStatusError(
                "not found", request=request, response=httpx.Response(404, request=request)
            )
        self.crashed.append(str(state.message))


def future() -> Any:
    return SimpleNamespace(task_run_id=uuid.uuid4())


@pytest.mark.usefixtures("prefect_server")  # else Prefect starts one of its own
def test_an_error_of_ours_is_the_failed_state_of_its_flow() -> None:
    error = CampaignError("another process runs this campaign")

    @plain_failures
    def flow() -> State[Any]:
        raise error

    state = flow()
    assert state.is_failed()
    assert (state.message, state.data) == (str(error), error)


def test_the_log_of_a_run_has_nothing_of_prefects_but_what_went_wrong(
    caplog: pytest.LogCaptureFixture,
) -> None:
    plain_failures(lambda: Completed())
    prefects = logging.getLogger("prefect.flow_runs")
    engine = prefect.flow_engine.__file__
    wrong = f"Finished in state {Failed(message='did you mean num_trajectories?')}"
    lines = [
        (logging.INFO, "Beginning flow run"),
        (logging.INFO, f"Finished in state {Completed()}"),
        (logging.INFO, wrong),
        (logging.ERROR, "Crash"),
    ]
    with caplog.at_level(logging.DEBUG, logger=prefects.name):
        for level, text in lines:
            told = prefects.makeRecord(prefects.name, level, engine, 1, text, (), None)
            prefects.handle(told)
        prefects.info("a line of somebody's own flow")
    assert [record.getMessage() for record in caplog.records] == [
        wrong,
        "Crash",
        "a line of somebody's own flow",
    ]


@pytest.mark.usefixtures("prefect_server")
def test_why_a_run_failed_is_an_error_in_its_log_once_with_its_line_breaks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    mistakes = "2 mistakes in the settings:\n  aimsPAX.yaml  not found\n  mace.yaml  not found"

    @prefect.flow
    @plain_failures
    def failing() -> State[Any]:
        raise SettingsError(mistakes)

    with caplog.at_level(logging.INFO, logger="prefect.flow_runs"):
        failing(return_state=True)
    told = [one for one in caplog.records if "mace.yaml" in one.getMessage()]
    assert [(one.levelname, one.getMessage()) for one in told] == [("ERROR", f"Failed: {mistakes}")]


@pytest.mark.usefixtures("prefect_server")
def test_that_a_run_was_stopped_is_in_its_log_once_and_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @prefect.flow
    @plain_failures
    def stopped() -> State[Any]:
        return Cancelled(message="SIGINT: stopped after 3 labels")

    with caplog.at_level(logging.INFO, logger="prefect.flow_runs"):
        stopped(return_state=True)
    told = [one for one in caplog.records if "after 3 labels" in one.getMessage()]
    assert [one.levelname for one in told] == ["INFO"]


def test_a_bug_of_ours_is_raised() -> None:
    @plain_failures
    def flow() -> State[Any]:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        flow()


def test_prefect_sees_the_parameters_of_the_flow() -> None:
    @plain_failures
    def flow(directory: Path, start: int = 0) -> State[Any]:
        return Completed()

    parameters = inspect.signature(flow).parameters
    assert [(p.name, p.annotation) for p in parameters.values()] == [
        ("directory", Path),
        ("start", int),
    ]


def test_a_task_that_has_just_started_is_looked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flows.runs.failures.time.sleep", lambda _: None)
    client = Client(unknown=2)
    mark_crashed(client, [future()], "its worker is gone")  # type: ignore[arg-type]
    assert (client.asked, client.crashed) == (3, ["its worker is gone"])


def test_a_task_that_never_started_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.runs.failures.time.sleep", lambda _: None)
    client = Client(unknown=99)
    mark_crashed(client, [future()], "its worker is gone", tries=4)  # type: ignore[arg-type]
    assert (client.asked, client.crashed) == (4, [])


def test_a_lost_task_is_shown_as_crashed_at_once_and_once_more() -> None:
    client = Client()
    lost = LostTasks(client)  # type: ignore[arg-type]
    lost.add(future(), "its worker is gone")
    lost.settle()
    assert len(client.crashed) == 1
    lost.settle(everything=True)
    lost.settle(everything=True)
    assert len(client.crashed) == 2


def test_a_task_that_had_not_begun_has_nothing_to_show() -> None:
    client = Client()
    lost = LostTasks(client)  # type: ignore[arg-type]
    lost.add(None, "its worker is gone")
    lost.settle(everything=True)
    assert client.crashed == []
