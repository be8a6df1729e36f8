"""The tasks of a pool, without a pool."""

from __future__ import annotations

import pytest

from flows.pools.jobs.ledger import Demand
from flows.pools.line import Line
from flows.pools.ticket import Ticket
from flows.pools.workers import WorkerLostError


def _ticket(seconds: float | None = None) -> Ticket:
    return Ticket(None, None, seconds=lambda: seconds)  # type: ignore[arg-type]


def _first(waiting: list[Ticket]) -> tuple[Ticket, str] | None:
    return (waiting[0], "tcp://a") if waiting else None


@pytest.fixture
def line() -> Line:
    found = Line()
    for seconds in (1.0, None, 3.0):
        found.add(_ticket(seconds))
    return found


def test_the_demand_is_what_waits_runs_and_was_lost(line: Line) -> None:
    assert line.demand() == Demand(3, (1.0, None, 3.0))
    ticket = line.begin(_first)
    assert ticket is not None
    assert line.demand() == Demand(3, (None, 3.0))
    line.lose(ticket, 5.0)
    assert line.demand() == Demand(3, (None, 3.0))
    line.end(ticket)
    assert line.demand() == Demand(2, (None, 3.0))


def test_a_worker_is_busy_while_it_has_a_task(line: Line) -> None:
    ticket = line.begin(_first)
    assert ticket is not None
    assert ticket.address == "tcp://a"
    assert line.busy("tcp://a")
    line.end(ticket)
    assert not line.busy("tcp://a")


def test_nothing_begins_that_is_not_chosen(line: Line) -> None:
    assert line.begin(lambda _: None) is None
    assert len(line.waiting) == 3


def test_only_what_runs_can_be_lost(line: Line) -> None:
    waiting = line.waiting[0]
    assert not line.lose(waiting, 5.0)
    assert line.begin(_first) is waiting
    assert line.lose(waiting, 5.0)
    assert not line.lose(waiting, 6.0)
    assert line.lost == {waiting: 5.0}


def test_what_is_dropped_is_not_outstanding(line: Line) -> None:
    assert len(line.drop_waiting()) == 3
    assert line.outstanding == 0


def test_a_ticket_has_the_error_that_its_outcome_has() -> None:
    ticket = _ticket()
    ticket.outcome.set_exception(WorkerLostError("gone"))
    assert isinstance(ticket.exception(), WorkerLostError)
    with pytest.raises(WorkerLostError, match="gone"):
        ticket.result()
