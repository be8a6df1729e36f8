"""A pool of Dask workers, and the line of tasks that wait for one of them.

A task is given to Dask only when a worker is free for it, and to that worker alone. So a worker
that dies takes nothing along but what it was computing, a task that would not fit into the time
that a worker has left is not begun there, and what Prefect shows as running does run.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from distributed import KilledWorker, Scheduler
from distributed.core import Status
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.http.routing import DirectoryHandler
from prefect.context import SettingsContext, get_settings_context
from prefect.tasks import Task
from prefect_dask.task_runners import DaskTaskRunner, PrefectDaskFuture
from pydantic import PrivateAttr
from tornado.routing import Rule, RuleRouter
from tornado.web import Application

from aimspax_core.errors import LabelError
from flows.workforce import Fate, Steady, WorkerLostError, Workforce

EXPLAIN_S = 90.0
"""How long a lost task waits to be told what became of its worker."""

GATHER_S = 30.0
"""How long a small result may take from its worker to here."""

_FAILURES = 5
"""So many passes in a row that fail are no accident: workers come and go meanwhile."""

_TICK_S = 0.5
"""From one look at what was lost, or waits, to the next."""

log = logging.getLogger(__name__)
_submitting = threading.Lock()  # Prefect counts the task runs of a flow without one


@dataclass(eq=False)
class Ticket:
    """A task that was handed to a pool.

    Attributes:
        task: The Prefect task.
        request: Its only parameter.
        avoid: Addresses of workers where it should not run if there are others.
        seconds: Says what it takes, if that is known when it could begin; where there is less
            time it does not.
        address: The worker that has it; empty while it waits.
        future: What Prefect knows it by; None while it waits.
    """

    task: Task[Any, Any]
    request: Any
    avoid: Collection[str] = ()
    seconds: Callable[[], float | None] = lambda: None
    address: str = ""
    future: PrefectDaskFuture[Any] | None = None
    _done: Callable[[Ticket], None] | None = None
    _value: Any = None
    _error: BaseException | None = None
    _lost: float = field(default=0.0)  # since when its worker has been gone

    def result(self) -> Any:
        """Return what the task returned, once it is over.

        Raises:
            WorkerLostError: Its worker is gone.
            Exception: What the task raised.
        """
        if self._error is not None:
            raise self._error
        return self._value


class Pool:
    """A started task runner, the line before it, and where it can be watched.

    Args:
        name: `ml` or `reference`.
        runner: The started runner.
        capacity: How many tasks can run at once, at most.
        workforce: What is known of its workers.
        prefix: Of the paths of its Dask dashboard.
    """

    def __init__(
        self,
        name: str,
        runner: DaskTaskRunner,
        capacity: int,
        workforce: Workforce | None = None,
        prefix: str = "",
    ) -> None:
        self.name, self.runner, self.capacity = name, runner, capacity
        self.trouble = ""
        self._workforce = workforce or Steady()
        self._line: deque[Ticket] = deque()
        self._running: dict[Ticket, str] = {}
        self._landed: deque[Ticket] = deque()
        self._lost: list[Ticket] = []
        self._doubtful: list[tuple[float, Ticket, LabelError]] = []
        self._closed = False
        self._lock, self._wake = threading.Lock(), threading.Event()
        self._prefix = prefix
        cluster = runner.client.cluster
        assert cluster is not None
        self._scheduler: Scheduler = cluster.scheduler
        self._watch = _Watch(self._wake.set)
        cluster.sync(self._attach)
        # Tasks are runs of the flow that this thread belongs to, as contexts know it.
        target = contextvars.copy_context().run
        self._thread = threading.Thread(
            target=target, args=(self._serve,), name=f"{name}-pool", daemon=True
        )
        self._thread.start()

    @property
    def dashboard(self) -> str:
        """Address of the pool's Dask dashboard, which only this machine can open."""
        port = self._scheduler.services["dashboard"].port
        return f"http://127.0.0.1:{port}{self._prefix}/status"

    @property
    def outstanding(self) -> int:
        """How many tasks wait or run."""
        return len(self._line) + len(self._running) + len(self._lost)

    def waiting(self) -> list[Ticket]:
        """Return the tasks that wait."""
        with self._lock:
            return list(self._line)

    @property
    def rows(self) -> list[dict[str, str]]:
        """The Slurm jobs, in words; none for a pool of this machine."""
        return self._workforce.rows()

    def busy(self, address: str) -> int:
        """Return how many tasks a worker has."""
        with self._lock:
            return sum(there == address for there in self._running.values())

    def submit(
        self,
        task: Task[Any, Any],
        request: Any,
        done: Callable[[Ticket], None],
        avoid: Collection[str] = (),
        seconds: Callable[[], float | None] = lambda: None,
    ) -> Ticket:
        """Put a task into the line.

        Args:
            task: The Prefect task; its only parameter is called `request`.
            request: What it is asked to do.
            done: Called with the ticket in another thread when the task is over.
            avoid: Addresses of workers where it should not run if there are others.
            seconds: Says what it takes, if that is known when it could begin.
        """
        ticket = Ticket(task, request, avoid, seconds, _done=done)
        with self._lock:
            self._line.append(ticket)
        self._wake.set()
        return ticket

    def hold(self) -> list[Ticket]:
        """Begin nothing more; return the tasks that waited, which are dropped."""
        with self._lock:
            dropped, self._line = list(self._line), deque()
        return dropped

    def dismiss(self) -> None:
        """Have the workers leave; the run is over."""
        self._workforce.dismiss()

    def close(self) -> None:
        """End the pool's thread; the runner and its workers are others' to close."""
        self._closed = True
        self._wake.set()
        self._thread.join(GATHER_S)

    async def _attach(self) -> None:
        self._scheduler.add_plugin(self._watch)
        _hide_paths(self._scheduler.http_application)

    def _serve(self) -> None:
        now = get_settings_context()
        with _Remembered(profile=now.profile, settings=now.settings):
            self._serve_line()

    def _serve_line(self) -> None:
        failures = 0
        while not self._closed:
            self._wake.wait(_TICK_S if self._lost or self._line or self._doubtful else 60.0)
            self._wake.clear()
            try:
                self._settle()
                self._dispatch()
                failures = 0
            # A pool that stands still would let the run wait for ever: it is told instead.
            except Exception as error:
                log.debug("the %s pool", self.name, exc_info=True)
                failures += 1
                if failures >= _FAILURES:
                    self.trouble = f"the {self.name} pool: {type(error).__name__}: {error}"
                self._wake.set()

    def _settle(self) -> None:
        """Take in what is over, and what was lost."""
        while self._landed:
            self._take_in(self._landed.popleft())
        # In this order: what failed because its worker goes is lost, not failed.
        with self._lock:
            gone = [t for t, there in self._running.items() if there not in self._scheduler.workers]
        for ticket in gone:
            self._lose(ticket)
        for entry in list(self._doubtful):
            self._judge(*entry)
        for ticket in list(self._lost):
            told = self._workforce.explain(ticket.address)
            if told is None and time.monotonic() - ticket._lost > EXPLAIN_S:
                told = WorkerLostError("its worker is gone", Fate.DIED)
            if told is not None:
                self._lost.remove(ticket)
                self._finish(ticket, error=told)

    def _take_in(self, ticket: Ticket) -> None:
        """Get what a task returned or raised; its worker may be gone."""
        assert ticket.future is not None
        if ticket not in self._running:
            return  # it was lost, and that has been told
        try:
            value = ticket.future.result(timeout=GATHER_S)
        except KilledWorker:
            self._lose(ticket)
        except LabelError as error:
            if error.transient:
                self._doubtful.append((time.monotonic(), ticket, error))
            else:
                self._finish(ticket, error=error)
        # Whatever a task raises is for whoever asked for it.
        except BaseException as error:
            if ticket.address not in self._scheduler.workers and _torn(error):
                self._lose(ticket)
            else:
                self._finish(ticket, error=error)
        else:
            self._finish(ticket, value)

    def _judge(self, since: float, ticket: Ticket, error: LabelError) -> None:
        """Tell what failed from what was lost: a job that ends takes its engine along first."""
        sound: bool | None = True
        if ticket in self._running:
            sound = self._workforce.sound(ticket.address, since)
            if sound is None and time.monotonic() - since < EXPLAIN_S:
                return
        self._doubtful.remove((since, ticket, error))
        if ticket not in self._running:
            return  # its worker has gone meanwhile
        if sound is False:
            reason = f"{error} (while its worker, or Slurm, was going)"
            self._finish(ticket, error=WorkerLostError(reason, Fate.INTERRUPTED))
        else:
            self._finish(ticket, error=error)

    def _lose(self, ticket: Ticket) -> None:
        """Take a task back from a worker that is gone; nobody else may take it up."""
        with self._lock:
            if self._running.pop(ticket, None) is None:
                return
        ticket._lost = time.monotonic()
        self._lost.append(ticket)
        assert ticket.future is not None
        ticket.future.wrapped_future.cancel()

    def _finish(
        self, ticket: Ticket, value: Any = None, error: BaseException | None = None
    ) -> None:
        with self._lock:
            self._running.pop(ticket, None)
        ticket._value, ticket._error = value, error
        if ticket.future is not None:
            # Dask computes a finished task again when its worker dies, as long as it is held.
            ticket.future.wrapped_future.release()
        assert ticket._done is not None
        ticket._done(ticket)

    def _dispatch(self) -> None:
        """Give tasks to free workers, in the order of the line."""
        free = self._free()
        while free:
            with self._lock:
                chosen = next(self._matches(free), None)
                if chosen is None:
                    return
                ticket, address = chosen
                self._line.remove(ticket)
                ticket.address = address
                self._running[ticket] = address
            free[address] -= 1
            if not free[address]:
                del free[address]
            self._begin(ticket)

    def _begin(self, ticket: Ticket) -> None:
        try:
            with _submitting:
                future = self._submitted(ticket)
        # Also what cannot be sent is for whoever asked for it.
        except Exception as error:
            self._finish(ticket, error=error)
            return
        ticket.future = future
        future.add_done_callback(lambda _: self._land(ticket))

    def _submitted(self, ticket: Ticket) -> PrefectDaskFuture[Any]:
        """Submit a task as the runner does, but to one worker, and without Dask's look into it.

        Dask makes a name of what a task is given, so that the same is computed once; that takes
        longer than all the rest, and each of our tasks is another one.
        """
        future = self.runner.client.submit(
            ticket.task,
            parameters={"request": ticket.request},
            return_type="state",
            pure=False,
            workers=[ticket.address],
            allow_other_workers=False,
        )
        return PrefectDaskFuture(wrapped_future=future, task_run_id=future.task_run_id)

    def _land(self, ticket: Ticket) -> None:
        self._landed.append(ticket)
        self._wake.set()

    def _free(self) -> dict[str, int]:
        """Return how many more tasks each worker can take, if any."""
        with self._lock:
            taken = Counter(self._running.values())
        free = {}
        for address in list(self._scheduler.workers):
            worker = self._scheduler.workers.get(address)
            if worker is None:
                continue  # it has just left
            places = worker.nthreads - taken[worker.address]
            if places > 0 and worker.status is Status.running:
                free[worker.address] = places
        return free

    def _matches(self, free: Collection[str]) -> Iterator[tuple[Ticket, str]]:
        """Yield the tasks that can begin now, and where."""
        for ticket in self._line:
            alone = all(address in ticket.avoid for address in list(self._scheduler.workers))
            for address in free:
                welcome = alone or address not in ticket.avoid
                if welcome and self._workforce.room(address, ticket.seconds()):
                    yield ticket, address
                    break


def _hide_paths(application: Application) -> None:
    """Take away the page that lists all pages, the secret name of the dashboard among them."""
    router = application.default_router
    router.rules[:] = [rule for rule in router.rules if not _lists_paths(rule)]


def _lists_paths(rule: Rule) -> bool:
    inner = rule.target.rules if isinstance(rule.target, RuleRouter) else []
    return any(one.target is DirectoryHandler for one in inner)


class _Remembered(SettingsContext):
    """Prefect's settings, written out once: for each task anew, that is most of what it costs."""

    _written: dict[str, Any] | None = PrivateAttr(default=None)

    def serialize(self, include_secrets: bool = True) -> dict[str, Any]:
        """See `ContextModel.serialize`."""
        if self._written is None:
            self._written = super().serialize(include_secrets)
        return self._written


class _Watch(SchedulerPlugin):
    """Tells the pool that a worker has come or gone."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        self._wake()

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:
        self._wake()


def _torn(error: BaseException) -> bool:
    """Tell what Dask raises about a worker that left from what a task raises."""
    modules = {"distributed", "asyncio", "concurrent"}
    return isinstance(error, TimeoutError) or type(error).__module__.split(".")[0] in modules
