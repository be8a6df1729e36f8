"""Tasks of commands that somebody waits for: only interruptions are mended."""

from __future__ import annotations

from typing import Any

import pytest

from aimspax_core.errors import CampaignError, LabelError
from aimspax_core.labels.tries import ONCE, Fate
from flows.loops.few_labels import run_all
from flows.pools.workers import WorkerLostError
from tests.flows.loops.fake_pool import FakePool

GONE = WorkerLostError("its job was preempted", Fate.INTERRUPTED)


def outcomes(*given: Any, requests: int = 1) -> tuple[list[Any], FakePool]:
    pool = FakePool([*given])
    tickets: Any = run_all(pool, None, range(requests))  # type: ignore[arg-type]
    return [ticket.outcome for ticket in tickets], pool


def test_an_interrupted_task_is_run_again() -> None:
    found, pool = outcomes(GONE, GONE, "label")
    assert found == ["label"]
    assert [ticket.request for ticket in pool.tickets] == [0, 0, 0]


def test_a_task_is_not_interrupted_for_ever() -> None:
    found, pool = outcomes(*[GONE] * 50)
    assert found == [GONE]
    assert len(pool.tickets) == ONCE.interrupted


@pytest.mark.parametrize(
    "error",
    [
        WorkerLostError("killed", Fate.DIED),
        WorkerLostError("no time left", Fate.OUT_OF_TIME),
        LabelError("no node", transient=True),
        TypeError("a bug of ours"),
        KeyboardInterrupt(),
    ],
)
def test_whatever_else_goes_wrong_is_an_outcome_at_once(error: BaseException) -> None:
    found, pool = outcomes(error)
    assert found == [error]
    assert len(pool.tickets) == 1


def test_outcomes_are_in_the_order_of_the_requests() -> None:
    assert outcomes(GONE, "second", "third", "first", requests=3)[0] == ["first", "second", "third"]


def test_a_pool_without_workers_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(FakePool):
        def submit(self, *_: Any, **__: Any) -> Any:
            return object()

    monkeypatch.setattr("flows.loops.few_labels.LOOK_S", 0.01)
    with pytest.raises(CampaignError, match="no such partition"):
        run_all(Silent(trouble="no such partition"), None, [0])  # type: ignore[arg-type]
