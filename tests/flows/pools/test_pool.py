"""The line before a pool of workers, and what becomes of tasks whose worker dies."""

from __future__ import annotations

import errno
import logging
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextvars import Context
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from distributed import Client
from distributed.security import Security

from aimspax_core.errors import EngineError, LabelError
from aimspax_core.labels.tries import Fate
from aimspax_core.settings.settings import Settings
from flows.pools import pool as pool_module
from flows.pools import ticket as tickets
from flows.pools.local import local_pool
from flows.pools.pool import Pool
from flows.pools.ticket import Ticket
from flows.pools.workers import Steady, WorkerLostError, Workforce
from flows.runs.api_health import Answer, Found
from flows.runs.api_watch import ApiWatch
from flows.server import Server
from tests.flows.hosting import (
    Landed,
    Nap,
    evaluate,
    in_a_flow,
    inside,
    kill_worker,
    lines,
    nap,
    throw,
    wait_for,
)
from tests.settings_files import SettingsFiles

WORKERS = 4


@dataclass
class Crew(Steady):
    """Workers of which a test says what is known.

    Attributes:
        told: What became of one that is gone.
        room_at: Where there is room; everywhere if it is None.
        well: Whether all was well.
        asked: The times for which there had to be room.
    """

    told: Callable[[str], WorkerLostError | None] | None = None
    room_at: Collection[str] | None = None
    well: Callable[[], bool | None] = lambda: True
    asked: list[float | None] = field(default_factory=list)

    def explain(self, address: str) -> WorkerLostError | None:
        return super().explain(address) if self.told is None else self.told(address)

    def room(self, address: str, seconds: float | None) -> bool:
        self.asked.append(seconds)
        return self.room_at is None or address in self.room_at

    def sound(self, address: str, since: float) -> bool | None:
        return self.well()


@dataclass
class Place:
    """Workers of this machine, and pools before them."""

    context: Context
    own: Pool

    def line(self, workforce: Workforce | None = None) -> Pool:
        """Another line before the same workers."""
        return self.context.run(Pool, "test", self.own.runner, WORKERS, workforce)

    @property
    def workers(self) -> list[str]:
        """Addresses of the workers, all of them there."""
        self.own.runner.client.wait_for_workers(WORKERS, timeout=120)
        return list(self.pids)

    @property
    def pids(self) -> dict[str, int]:
        """The workers' processes."""
        scheduler = self.own._scheduler
        return {address: state.pid for address, state in scheduler.workers.items()}


@pytest.fixture(scope="module")
def place(prefect_server: Server) -> Iterator[Place]:
    with in_a_flow() as context, inside(context, local_pool("reference", WORKERS)) as pool:
        found = Place(context, pool)
        assert len(found.workers) == WORKERS
        yield found


@pytest.fixture
def crew() -> Crew:
    return Crew()


@pytest.fixture
def pool(place: Place, crew: Crew) -> Iterator[Pool]:
    """A line of the test's own before four workers."""
    assert place.workers
    line = place.line(crew)
    yield line
    line.hold()
    line.close()


@pytest.fixture
def settings(inputs: SettingsFiles) -> Settings:
    return inputs.load()


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def landed() -> Landed:
    return Landed()


def _lost(ticket: Ticket) -> WorkerLostError:
    with pytest.raises(WorkerLostError) as caught:
        ticket.result()
    return caught.value


# The line


def test_a_worker_never_has_two_tasks(pool: Pool, journal: Path, landed: Landed) -> None:
    for number in range(20):
        pool.submit(nap, Nap(journal, str(number), 0.1), landed)
    landed.wait(20)
    at_work: Counter[str] = Counter()
    for line in journal.read_text().splitlines():
        what, _, address = line.split()
        at_work[address] += 1 if what == "begin" else -1
        assert at_work[address] in (0, 1)


def test_all_workers_are_used(pool: Pool, tmp_path: Path, journal: Path, landed: Landed) -> None:
    for number in range(WORKERS):  # none ends before all have begun
        pool.submit(nap, Nap(journal, str(number), until=tmp_path / "go"), landed)
    wait_for(lambda: len(lines(journal, "begin")) == WORKERS, "all run")
    (tmp_path / "go").touch()
    landed.wait(WORKERS)


def test_a_smaller_capacity_lets_fewer_tasks_begin(
    place: Place, journal: Path, landed: Landed, settings: Settings
) -> None:
    assert place.workers
    line = place.context.run(Pool, "test", place.own.runner, WORKERS, None, None, "", lambda new: 1)
    line.follow(settings)
    for number in range(4):
        line.submit(nap, Nap(journal, str(number), 0.2), landed)
    landed.wait(4)
    line.close()
    told = [line.split()[0] for line in journal.read_text().splitlines()]
    assert told == ["begin", "end"] * 4


def test_tasks_begin_in_the_order_of_the_line(
    pool: Pool, place: Place, crew: Crew, journal: Path, landed: Landed
) -> None:
    crew.room_at = place.workers[:1]
    names = [str(number) for number in range(8)]
    for name in names:
        pool.submit(nap, Nap(journal, name), landed)
    landed.wait(8)
    assert lines(journal, "begin") == names


def test_each_task_comes_back_with_its_own_value(pool: Pool, journal: Path, landed: Landed) -> None:
    for number in range(12):
        pool.submit(nap, Nap(journal, str(number)), landed)
    tickets = landed.wait(12)
    assert {ticket.result() for ticket in tickets} == {str(number) for number in range(12)}
    assert all(ticket.result() == ticket.request.name for ticket in tickets)


def test_nothing_is_outstanding_when_all_is_over(
    pool: Pool, tmp_path: Path, journal: Path, landed: Landed
) -> None:
    for number in range(6):
        pool.submit(nap, Nap(journal, str(number), until=tmp_path / "go"), landed)
    wait_for(lambda: len(lines(journal, "begin")) == WORKERS, "as many run as can")
    assert (pool.outstanding, len(pool.waiting())) == (6, 2)
    (tmp_path / "go").touch()
    landed.wait(6)
    assert (pool.outstanding, pool.waiting()) == (0, [])


def test_after_hold_nothing_begins(
    pool: Pool, tmp_path: Path, journal: Path, landed: Landed
) -> None:
    for number in range(7):
        pool.submit(nap, Nap(journal, str(number), until=tmp_path / "go"), landed)
    wait_for(lambda: len(lines(journal, "begin")) == WORKERS, "as many run as can")
    assert [ticket.request.name for ticket in pool.hold()] == ["4", "5", "6"]
    (tmp_path / "go").touch()
    landed.wait(WORKERS)
    wait_for(lambda: pool.outstanding == 0, "nothing is left")
    assert {*lines(journal, "begin")} == {"0", "1", "2", "3"}


# Where there is room


def test_a_task_waits_until_there_is_room(
    pool: Pool, place: Place, crew: Crew, journal: Path, landed: Landed
) -> None:
    crew.room_at = ()
    pool.submit(nap, Nap(journal, "long"), landed, seconds=lambda: 77.0)
    wait_for(lambda: len(crew.asked) > WORKERS, "room is looked for again")
    assert not lines(journal, "begin")
    crew.room_at = place.workers[2:3]
    (ticket,) = landed.wait(1)
    assert ticket.result() == "long"
    assert ticket.address == place.workers[2]


def test_room_is_asked_for_what_the_task_takes(
    pool: Pool, crew: Crew, journal: Path, landed: Landed
) -> None:
    pool.submit(nap, Nap(journal, "long"), landed, seconds=lambda: 77.0)
    pool.submit(nap, Nap(journal, "new"), landed)
    landed.wait(2)
    assert {*crew.asked} == {77.0, None}


def test_what_has_room_overtakes_what_has_none(place: Place, journal: Path, landed: Landed) -> None:
    class Short(Crew):
        def room(self, address: str, seconds: float | None) -> bool:
            return (seconds or 0.0) < 10.0

    pool = place.line(Short())
    pool.submit(nap, Nap(journal, "long"), landed, seconds=lambda: 77.0)
    pool.submit(nap, Nap(journal, "short"), landed, seconds=lambda: 1.0)
    (ticket,) = landed.wait(1)
    assert ticket.result() == "short"
    assert [one.request.name for one in pool.hold()] == ["long"]
    pool.close()


def test_a_worker_is_avoided_while_there_are_others(
    pool: Pool, place: Place, journal: Path, landed: Landed
) -> None:
    *others, welcome = place.workers
    for number in range(6):
        pool.submit(nap, Nap(journal, str(number)), landed, avoid=others)
    assert {ticket.address for ticket in landed.wait(6)} == {welcome}


def test_workers_are_not_avoided_if_there_are_no_others(
    pool: Pool, place: Place, journal: Path, landed: Landed
) -> None:
    pool.submit(nap, Nap(journal, "any"), landed, avoid=place.workers)
    (ticket,) = landed.wait(1)
    assert ticket.result() == "any"


# What fails


@pytest.mark.parametrize("error", [ValueError("no", 3), EngineError("no such keyword")])
def test_what_a_task_raises_comes_back_unchanged(
    pool: Pool, landed: Landed, error: Exception
) -> None:
    pool.submit(throw, error, landed)
    (ticket,) = landed.wait(1)
    with pytest.raises(type(error)) as caught:
        ticket.result()
    assert caught.value.args == error.args


def test_a_label_that_cannot_be_had_comes_back_with_all_it_says(pool: Pool, landed: Landed) -> None:
    pool.submit(throw, LabelError("not converged", False, "tcp://a", True), landed)
    (ticket,) = landed.wait(1)
    with pytest.raises(LabelError) as caught:
        ticket.result()
    error = caught.value
    assert (str(error), error.transient, error.worker, error.refused) == (
        "not converged", False, "tcp://a", True,
    )  # fmt: skip


def test_the_traceback_of_a_bug_is_in_the_log_once(
    pool: Pool, landed: Landed, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        pool.submit(throw, ValueError(number), landed)
    landed.wait(3)
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.name.startswith("aimspax")
    assert record.exc_info is not None
    assert record.exc_info[0] is ValueError


def test_a_failure_that_is_expected_has_no_traceback_in_the_log(
    pool: Pool, landed: Landed, caplog: pytest.LogCaptureFixture
) -> None:
    pool.submit(throw, LabelError("not converged"), landed)
    landed.wait(1)
    assert not [record for record in caplog.records if record.exc_info]


def test_a_task_that_is_cancelled_is_no_bug(
    pool: Pool, tmp_path: Path, journal: Path, landed: Landed, caplog: pytest.LogCaptureFixture
) -> None:
    ticket = pool.submit(nap, Nap(journal, "long", until=tmp_path / "go"), landed)
    wait_for(lambda: bool(lines(journal, "begin")), "it runs")
    assert ticket.future is not None
    ticket.future.wrapped_future.cancel()  # as a run that is stopped does
    (tmp_path / "go").touch()
    landed.wait(1)
    assert ticket.exception() is not None
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("plainly", [False, True])
def test_a_result_that_comes_late_is_asked_for_again(
    pool: Pool,
    journal: Path,
    landed: Landed,
    plainly: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tickets, "GATHER_S", 1e-9)
    monkeypatch.setattr(tickets, "GATHERS", 10**9)
    ticket = pool.submit(nap, Nap(journal, "late"), landed, plainly=plainly)
    wait_for(lambda: ticket.late > 1, "its result is late")
    monkeypatch.setattr(tickets, "GATHER_S", 30.0)
    landed.wait(1)
    assert ticket.result() == "late"
    assert len(lines(journal, "begin")) == 1


def test_a_result_that_never_comes_is_no_fault_of_its_work(
    pool: Pool, journal: Path, landed: Landed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tickets, "GATHER_S", 1e-9)
    ticket = pool.submit(nap, Nap(journal, "lost"), landed)
    landed.wait(1)
    assert _lost(ticket).fate is Fate.INTERRUPTED


def test_a_time_out_of_a_tasks_own_is_told_as_it_is(pool: Pool, landed: Landed) -> None:
    ticket = pool.submit(throw, TimeoutError(errno.ETIMEDOUT, "no answer", "a file"), landed)
    landed.wait(1)
    assert isinstance(ticket.exception(), TimeoutError) and ticket.late == 0


def test_what_cannot_be_sent_is_told_to_who_asked(
    pool: Pool, journal: Path, landed: Landed
) -> None:
    pool.submit(nap, threading.Lock(), landed)
    (ticket,) = landed.wait(1)
    with pytest.raises(TypeError, match="serialize"):
        ticket.result()
    pool.submit(nap, Nap(journal, "next"), landed)
    assert landed.wait(2)[1].result() == "next"


def test_a_passing_failure_on_a_sound_worker_is_what_it_says(pool: Pool, landed: Landed) -> None:
    pool.submit(throw, LabelError("srun failed", transient=True), landed)
    (ticket,) = landed.wait(1)
    with pytest.raises(LabelError, match="srun failed") as caught:
        ticket.result()
    assert caught.value.transient


def test_a_passing_failure_on_a_worker_that_was_going_is_its_loss(
    pool: Pool, crew: Crew, landed: Landed
) -> None:
    crew.well = lambda: False
    pool.submit(throw, LabelError("srun failed", transient=True), landed)
    (ticket,) = landed.wait(1)
    error = _lost(ticket)
    assert error.fate is Fate.INTERRUPTED
    assert "srun failed" in str(error)


def test_a_failure_that_stays_is_nobody_elses_fault(pool: Pool, crew: Crew, landed: Landed) -> None:
    crew.well = lambda: False
    pool.submit(throw, LabelError("not converged"), landed)
    (ticket,) = landed.wait(1)
    with pytest.raises(LabelError, match="not converged"):
        ticket.result()


def test_a_passing_failure_waits_until_it_is_known_whose_it_is(
    pool: Pool, crew: Crew, landed: Landed
) -> None:
    asked = []

    def well() -> bool | None:
        asked.append(1)
        return None if len(asked) < 3 else False

    crew.well = well
    pool.submit(throw, LabelError("srun failed", transient=True), landed)
    (ticket,) = landed.wait(1)
    assert _lost(ticket).fate is Fate.INTERRUPTED
    assert len(asked) == 3


def test_a_pool_that_cannot_go_on_says_so(pool: Pool, crew: Crew, journal: Path) -> None:
    def broken(address: str, seconds: float | None) -> bool:
        raise RuntimeError("no such table")

    crew.room = broken  # type: ignore[method-assign]
    pool.submit(nap, Nap(journal, "never"), lambda _: None)
    wait_for(lambda: bool(pool.trouble), "it says so")
    assert "no such table" in pool.trouble


# Workers that die


@pytest.mark.slow
def test_a_killed_worker_costs_only_what_it_was_at(
    pool: Pool, place: Place, tmp_path: Path, journal: Path, landed: Landed
) -> None:
    tickets = [
        pool.submit(nap, Nap(journal, str(number), until=tmp_path / "go"), landed)
        for number in range(10)
    ]
    wait_for(lambda: len(lines(journal, "begin")) == WORKERS, "all run")
    os.kill(place.pids[tickets[1].address], signal.SIGKILL)
    assert landed.wait(1) == [tickets[1]]
    assert _lost(tickets[1]).fate is Fate.DIED
    (tmp_path / "go").touch()
    landed.wait(10)
    assert [t.result() for t in tickets if t is not tickets[1]] == [*"023456789"]
    assert Counter(lines(journal, "begin")) == Counter("0123456789")


@pytest.mark.slow
def test_what_kills_its_worker_does_not_get_another_one(
    pool: Pool, place: Place, journal: Path, landed: Landed
) -> None:
    pool.submit(kill_worker, journal, landed)
    assert _lost(landed.wait(1)[0]).fate is Fate.DIED
    assert len(place.workers) == WORKERS  # a new one has come
    for number in range(8):
        pool.submit(nap, Nap(journal, str(number), 0.1), landed)
    landed.wait(9)
    assert lines(journal, "begin").count("kill") == 1


@pytest.mark.slow
def test_a_finished_task_does_not_run_again_when_its_worker_dies(
    pool: Pool, place: Place, journal: Path, landed: Landed
) -> None:
    ticket = pool.submit(nap, Nap(journal, "done"), landed)
    landed.wait(1)
    os.kill(place.pids[ticket.address], signal.SIGKILL)
    wait_for(lambda: ticket.address not in place.pids, "it is gone")
    assert len(place.workers) == WORKERS
    assert lines(journal, "begin") == ["done"]
    assert ticket.result() == "done"


@pytest.mark.slow
def test_a_lost_task_is_told_when_it_is_known_what_became_of_its_worker(
    pool: Pool, crew: Crew, place: Place, tmp_path: Path, journal: Path, landed: Landed
) -> None:
    known: list[WorkerLostError] = []
    asked: list[str] = []

    def explain(address: str) -> WorkerLostError | None:
        asked.append(address)
        return known[0] if known else None

    crew.told = explain
    ticket = pool.submit(nap, Nap(journal, "lost", until=tmp_path / "never"), landed)
    wait_for(lambda: bool(lines(journal, "begin")), "it runs")
    os.kill(place.pids[ticket.address], signal.SIGKILL)
    wait_for(lambda: len(asked) > 1, "it is asked what became of it")
    assert pool.outstanding == 1
    assert not landed.tickets
    known.append(WorkerLostError("job 7 was preempted", Fate.INTERRUPTED))
    error = _lost(landed.wait(1)[0])
    assert (str(error), error.fate) == ("job 7 was preempted", Fate.INTERRUPTED)
    assert {*asked} == {ticket.address}


@pytest.mark.slow
def test_a_lost_task_does_not_wait_for_ever_to_be_told(
    pool: Pool,
    crew: Crew,
    place: Place,
    tmp_path: Path,
    landed: Landed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool_module, "EXPLAIN_S", 1.0)
    crew.told = lambda _: None
    ticket = pool.submit(nap, Nap(tmp_path / "lost", "lost", until=tmp_path / "never"), landed)
    wait_for(lambda: bool(lines(tmp_path / "lost", "begin")), "it runs")
    os.kill(place.pids[ticket.address], signal.SIGKILL)
    assert _lost(landed.wait(1)[0]).fate is Fate.DIED


@pytest.mark.slow
def test_each_of_many_tasks_comes_back_once_while_workers_are_killed(
    pool: Pool, place: Place, journal: Path, landed: Landed
) -> None:
    chance, killed = random.Random(5), 0
    tickets = [pool.submit(nap, Nap(journal, str(n), 0.05), landed) for n in range(200)]
    while killed < 6 and len(landed.tickets) < 200:
        wait_for(lambda: len(place.pids) > 1, "workers are there")
        os.kill(chance.choice([*place.pids.values()]), signal.SIGKILL)
        killed += 1
        time.sleep(chance.uniform(0.2, 1.5))
    landed.wait(200, 240)
    wait_for(lambda: pool.outstanding == 0, "nothing is left")
    assert Counter(map(id, landed.tickets)) == Counter(map(id, tickets))
    begun = Counter(lines(journal, "begin"))
    assert max(begun.values()) == 1
    lost = [ticket for ticket in tickets if _outcome(ticket) is not None]
    assert len(lost) <= killed
    assert {*lines(journal, "end")} >= {t.request.name for t in tickets if t not in lost}


def _outcome(ticket: Ticket) -> Any:
    try:
        assert ticket.result() == ticket.request.name
    except WorkerLostError as error:
        return error
    return None


# Others on this machine


@pytest.mark.parametrize(
    ("protocol", "security"), [("tcp", Security()), ("tls", Security.temporary())]
)
def test_without_its_key_nobody_talks_to_the_scheduler_of_this_machine(
    place: Place, protocol: str, security: Security
) -> None:
    _, _, address = place.own._scheduler.address.partition("tls://")
    assert address.startswith("127.0.0.1:")
    with pytest.raises(OSError):
        Client(f"{protocol}://{address}", security=security, timeout=3, set_as_default=False)


BY_PREFECT = "__import__('prefect').context.TaskRunContext.get() is not None"
"""Whether a task is one of Prefect's."""


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> ApiWatch:
    """A watch on the API that knows what the test tells it; pools opened from now on have it."""
    found = ApiWatch()
    monkeypatch.setattr("flows.runs.api_watch._current", [found])
    return found


@pytest.fixture
def watched(watch: ApiWatch, pool: Pool) -> Pool:
    return pool


def test_while_the_api_is_away_a_task_runs_as_its_plain_function(
    watched: Pool, watch: ApiWatch
) -> None:
    by_prefect = []
    for answer in (Answer.FINE, Answer.REFUSED, Answer.FINE):
        watch.take(Found(answer))
        done = Landed()
        watched.submit(evaluate, BY_PREFECT, done)
        by_prefect.append(done.wait(1)[0].result())
    assert by_prefect == [True, False, True]
    assert watch.outages[0].sums == "1 evaluate"


def test_what_the_plain_function_raises_is_what_became_of_the_task(
    watched: Pool, watch: ApiWatch
) -> None:
    watch.take(Found(Answer.REFUSED))
    done = Landed()
    watched.submit(throw, EngineError("wrong input"), done)
    assert isinstance(done.wait(1)[0].exception(), EngineError)
    assert watch.outages[0].sums == "nothing"


def test_with_wait_nothing_begins_until_the_api_is_back(watched: Pool, watch: ApiWatch) -> None:
    watch.waits = True
    watch.take(Found(Answer.REFUSED))
    done = Landed()
    watched.submit(evaluate, BY_PREFECT, done)
    time.sleep(1.5)
    assert watched.waiting()
    watch.take(Found(Answer.FINE))
    assert done.wait(1)[0].result() is True


def test_a_task_that_the_api_failed_is_lost_to_the_server_and_not_to_its_work(
    watched: Pool, watch: ApiWatch
) -> None:
    done, error = Landed(), httpx.ConnectError("refused")
    watched.submit(throw, error, done)
    lost = done.wait(1)[0].exception()
    assert isinstance(lost, WorkerLostError)
    assert lost.fate is Fate.SERVER
    # Without Prefect it is the work that failed.
    watched.submit(throw, error, done, plainly=True)
    assert isinstance(done.wait(2)[1].exception(), httpx.ConnectError)
