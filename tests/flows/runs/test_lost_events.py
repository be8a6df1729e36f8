"""Lines of Prefect's log about events that it could not send."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from prefect._internal.concurrency.services import QueueService
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_LOGGING_INTERNAL_LEVEL, temporary_settings
from prefect.states import Completed

from flows.deployments.profile import ProfileName, read_profile
from flows.runs import failures
from flows.runs.api_health import Answer, Found
from flows.runs.api_watch import ApiWatch
from flows.runs.failures import plain_failures
from flows.runs.lost_events import keep_out_lost_events
from flows.runs.outcome import UntoldError

LOGGER = "prefect._internal.concurrency"


class EventsWorker(QueueService[int]):
    """Prefect's thread that sends events, and cannot."""

    async def _handle(self, item: int) -> None:
        raise ConnectionRefusedError


class AnotherWorker(EventsWorker):
    """Something else of Prefect's."""


@pytest.fixture
def printed() -> Iterator[list[str]]:
    """What Prefect prints about itself."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger(LOGGER).addHandler(handler)
    with temporary_settings({PREFECT_LOGGING_INTERNAL_LEVEL: "ERROR"}):  # our commands raise it
        yield lines
    logging.getLogger(LOGGER).removeHandler(handler)
    keep_out_lost_events(ApiWatch())


def fails_to_send(worker: type[EventsWorker]) -> None:
    service = worker.instance()
    service.send(1)
    service.drain()


@pytest.mark.parametrize(
    ("answer", "worker", "told"),
    [
        (Answer.FINE, EventsWorker, True),
        (Answer.REFUSED, EventsWorker, False),
        (Answer.SILENT, EventsWorker, False),
        (Answer.REFUSED, AnotherWorker, True),
    ],
)
def test_a_lost_event_is_told_by_prefect_only_while_the_api_answers(
    printed: list[str], answer: Answer, worker: type[EventsWorker], told: bool
) -> None:
    keep_out_lost_events(ApiWatch(lambda: Found(answer)))
    fails_to_send(worker)
    assert any(worker.__name__ in line and "failed" in line for line in printed) is told


def test_a_flow_leaves_them_to_its_watch_also_after_its_end(
    printed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    away = ApiWatch(lambda: Found(Answer.REFUSED))
    monkeypatch.setattr(failures, "on_its_own", lambda: contextlib.nullcontext(away))

    @plain_failures
    def flow() -> State[Any]:
        fails_to_send(EventsWorker)
        return Completed()

    with pytest.raises(UntoldError):
        flow()
    fails_to_send(EventsWorker)
    assert not printed


@pytest.mark.parametrize("name", ProfileName)
def test_deployed_runs_hide_nothing_else_that_prefect_says_of_itself(name: ProfileName) -> None:
    for plan in read_profile(name).deployments:
        assert "PREFECT_LOGGING_INTERNAL_LEVEL" not in plan.work_pool.job_variables["env"]
