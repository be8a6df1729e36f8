"""A pool of Dask workers, which gives them the tasks of its line.

A task is given to Dask only when a worker is free for it, and to that worker alone. So a worker
that dies takes nothing along but what it was computing, a task that would not fit into the time
that a worker has left is not begun there, and what Prefect shows as running does run.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any

from distributed import KilledWorker, Scheduler
from distributed.core import Status
from prefect.tasks import Task
from prefect_dask.task_runners import DaskTaskRunner, PrefectDaskFuture

from aimspax_core.errors import AimspaxError, LabelError
from aimspax_core.labels.tries import Fate
from aimspax_core.settings.settings import Settings
from aimspax_core.storage import cannot_take
from flows.pools.dask_hooks import RememberedSettings, WorkerWatch, forward_logs
from flows.pools.dask_settings import hide_paths
from flows.pools.late import LateEnds
from flows.pools.line import Line
from flows.pools.plain import PlainFuture, begin_plainly
from flows.pools.ticket import GATHER_S, ResultLateError, Ticket, submitting
from flows.pools.warm_up import WarmUp
from flows.pools.workers import Steady, WorkerLostError, Workforce, from_dask, from_outside
from flows.runs.api_watch import api_watch, from_api

EXPLAIN_S = 90.0
"""How long the pool waits to learn what became of the worker of a lost task (s)."""

_FAILURES = 5
"""So many rounds of the pool's thread in a row that fail are no accident."""

_TICK_S = 0.5
"""Time from one round to the next while tasks wait or were lost (s)."""

log = logging.getLogger(f"aimspax.{__name__}")


class Pool:
    """A started task runner, the line of tasks before it, and where it can be watched.

    Args:
        name: `ml` or `reference`.
        runner: The started runner.
        capacity: How many tasks can run at once, at most.
        workforce: What is known of its workers; not given: they are on this machine.
        line: Its tasks, if somebody else has to know of them.
        prefix: First part of the paths of its Dask dashboard.
        follow: Has as many workers as new settings say, and returns the new capacity; not given:
            it stays as it is.
        warm_up: What a worker does when it is idle for the first time.
        settings_known: Whether the workers have Prefect's settings, and are not sent them.
    """

    def __init__(
        self,
        name: str,
        runner: DaskTaskRunner,
        capacity: int,
        workforce: Workforce | None = None,
        line: Line | None = None,
        prefix: str = "",
        follow: Callable[[Settings], int] | None = None,
        warm_up: Callable[[], None] | None = None,
        settings_known: bool = False,
    ) -> None:
        self._follow, self._settings_known = follow, settings_known
        self.name, self.runner, self.capacity = name, runner, capacity
        self._workforce = Steady() if workforce is None else workforce
        self._line = Line() if line is None else line
        self._trouble = ""
        self._landed: deque[Ticket] = deque()
        self._doubtful: list[tuple[float, Ticket, LabelError]] = []
        self._shown: set[str] = set()  # where tasks have failed whose traceback is in the log
        self._closed = False
        self._api = api_watch()
        self._wake = threading.Event()
        self._warm_up = WarmUp(runner.client, warm_up) if warm_up is not None else None
        self._prefix = prefix
        # What is logged on workers is handled here as well, by the log files of the run.
        forward_logs(runner.client)
        cluster = runner.client.cluster
        assert cluster is not None
        self._scheduler: Scheduler = cluster.scheduler
        self._watch = WorkerWatch(self._wake.set)
        cluster.sync(self._attach)
        # Tasks are runs of the flow that this thread belongs to, as contexts know it.
        target = contextvars.copy_context().run
        self._late = LateEnds(self._api)
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
    def trouble(self) -> str:
        """Why the pool cannot go on; empty while it can."""
        return self._trouble or self._workforce.trouble

    @property
    def outstanding(self) -> int:
        """How many tasks wait or run."""
        return self._line.outstanding

    def waiting(self) -> list[Ticket]:
        """Return the tasks that wait."""
        return self._line.waiting

    @property
    def rows(self) -> list[dict[str, str]]:
        """The batch jobs of the pool, as rows of a table; none for a pool of this machine."""
        return self._workforce.rows()

    @property
    def jobs_text(self) -> str:
        """What the batch jobs of the pool do, in a few words; empty for one of this machine."""
        return self._workforce.told()

    def submit(
        self,
        task: Task[Any, Any],
        request: Any,
        done: Callable[[Ticket], None],
        avoid: Collection[str] = (),
        seconds: Callable[[], float | None] = lambda: None,
        plainly: bool = False,
    ) -> Ticket:
        """Put a task into the line.

        Args:
            task: The Prefect task; its only parameter is called `request`.
            request: What it is asked to do.
            done: Called with the ticket in another thread when the task is over.
            avoid: Addresses of workers where the task should not run if there are others.
            seconds: Returns how long it will take (s), if that is known when it could begin.
            plainly: Whether it runs without Prefect, even if the API answers.
        """
        ticket = Ticket(task, request, avoid, seconds, plainly)
        ticket.outcome.add_done_callback(lambda _: done(ticket))
        self._line.add(ticket)
        self._wake.set()
        return ticket

    def follow(self, settings: Settings) -> None:
        """Have as many workers as the settings say from now on; what runs is finished."""
        if self._follow is not None:
            self.capacity = self._follow(settings)
            self._wake.set()

    def hold(self) -> list[Ticket]:
        """Begin nothing more; return the tasks that waited, which are dropped."""
        return self._line.drop_waiting()

    def dismiss(self) -> None:
        """Have the workers leave; the run is over."""
        self._workforce.dismiss()

    def close(self) -> None:
        """End the pool's thread; who has started the runner and its workers ends them."""
        self._closed = True
        self._wake.set()
        self._thread.join(GATHER_S)
        self._late.close()

    async def _attach(self) -> None:
        self._scheduler.add_plugin(self._watch)
        hide_paths(self._scheduler.http_application)

    def _serve(self) -> None:
        with RememberedSettings.of_now(self._settings_known):
            self._serve_line()

    def _serve_line(self) -> None:
        failures = 0
        while not self._closed:
            self._wake.wait(_TICK_S if self._to_look_at() else 60.0)
            self._wake.clear()
            try:
                self._settle()
                self._dispatch()
                self._prepare()
                failures = 0
            # A pool that stands still would let the run wait for ever: `trouble` ends the run.
            except Exception as error:
                failures += 1
                level = logging.ERROR if failures == _FAILURES else logging.DEBUG
                log.log(level, "the %s pool", self.name, exc_info=True)
                if failures >= _FAILURES:
                    self._trouble = f"the {self.name} pool: {type(error).__name__}: {error}"
                self._wake.set()

    def _to_look_at(self) -> bool:
        cold = self._warm_up is not None and self._warm_up.cold
        return bool(self._line.lost or self._line.waiting or self._doubtful or cold)

    def _settle(self) -> None:
        """Finish the tasks that are over, and those whose worker is gone."""
        for _ in range(len(self._landed)):
            self._take_in(self._landed.popleft())
        # Before failures are judged: a task that failed because its worker goes is lost.
        for ticket, address in self._line.running.items():
            if address not in self._scheduler.workers:
                self._lose(ticket)
        for entry in list(self._doubtful):
            self._judge(*entry)
        for ticket, since in self._line.lost.items():
            error = self._workforce.explain(ticket.address)
            if error is None and time.monotonic() - since > EXPLAIN_S:
                error = WorkerLostError("its worker is gone", Fate.DIED)
            if error is not None:
                self._finish(ticket, error=error)

    def _take_in(self, ticket: Ticket) -> None:
        """Finish a task with what it returned or raised, unless its worker is gone."""
        if ticket not in self._line.running:
            return  # its worker is gone, and that is how it ended
        try:
            value = ticket.fetch()
        except ResultLateError:
            self._land(ticket)
        except KilledWorker:
            self._lose(ticket)
        except LabelError as error:
            if error.transient:
                self._doubtful.append((time.monotonic(), ticket, error))
            else:
                self._finish(ticket, error=error)
        # Whatever a task raises is for the caller of `submit`.
        except BaseException as error:
            if ticket.address not in self._scheduler.workers and from_dask(error):
                self._lose(ticket)
            elif from_api(error) and not ticket.plainly:
                self._api.doubt()
                self._finish(ticket, error=WorkerLostError(_one_line(error), Fate.SERVER))
            else:
                self._show(ticket, error)
                self._finish(ticket, error=error)
        else:
            self._finish(ticket, value)

    def _show(self, ticket: Ticket, error: BaseException) -> None:
        """Write the traceback of a bug to the log; of each kind once.

        What we raise on purpose is none, nor is what Dask and Prefect raise about a task that was
        cancelled, a worker that left, or an API that is away, nor a disk that has no room.
        """
        if isinstance(error, AimspaxError) or from_outside(error) or cannot_take(error):
            return
        frames = traceback.extract_tb(error.__traceback__)
        kind = f"{type(error).__name__} {frames[-1] if frames else error}"
        level = logging.DEBUG if kind in self._shown else logging.ERROR
        self._shown.add(kind)
        log.log(
            level, "a task %s of the %s pool failed", ticket.task.name, self.name, exc_info=error
        )

    def _judge(self, since: float, ticket: Ticket, error: LabelError) -> None:
        """Decide whether a task failed or was lost: a job that ends kills its engine first.

        Args:
            since: When the task failed.
            ticket: The task.
            error: What the task raised; another try may help.
        """
        sound: bool | None = True
        runs = ticket in self._line.running
        if runs:
            sound = self._workforce.sound(ticket.address, since)
            if sound is None and time.monotonic() - since < EXPLAIN_S:
                return
        self._doubtful.remove((since, ticket, error))
        if not runs:
            return  # its worker has gone meanwhile
        if sound is False:
            reason = f"{error} (while its worker, or the scheduler of its job, was going)"
            self._finish(ticket, error=WorkerLostError(reason, Fate.INTERRUPTED))
        else:
            self._finish(ticket, error=error)

    def _lose(self, ticket: Ticket) -> None:
        """Take a task back from a worker that is gone; Dask may give it to no other."""
        if self._line.lose(ticket, time.monotonic()) and ticket.future is not None:
            ticket.future.wrapped_future.cancel()

    def _finish(
        self, ticket: Ticket, value: Any = None, error: BaseException | None = None
    ) -> None:
        self._line.end(ticket)
        if ticket.future is not None:
            # Dask computes a finished task again when its worker dies, as long as it is held.
            ticket.future.wrapped_future.release()
        if error is None and ticket.plainly:
            self._api.note(ticket.task.name)
        if isinstance(ticket.future, PrefectDaskFuture):
            self._late.add(ticket.future.task_run_id, "" if error is None else _one_line(error))
        if error is None:
            ticket.outcome.set_result(value)
        else:
            ticket.outcome.set_exception(error)

    def _dispatch(self) -> None:
        """Give tasks to free workers, in the order of the line."""
        if self._api.holds:
            return
        free = self._free()
        while free and sum(self._line.taken().values()) < self.capacity:
            ticket = self._line.begin(lambda waiting: self._match(waiting, free))
            if ticket is None:
                return
            free[ticket.address] -= 1
            if not free[ticket.address]:
                del free[ticket.address]
            self._begin(ticket)

    def _prepare(self) -> None:
        """Have workers warm up that have nothing to do."""
        if self._warm_up is not None:
            self._warm_up.look(self._free(), dict(self._scheduler.workers))

    def _begin(self, ticket: Ticket) -> None:
        try:
            with submitting:
                future = self._submitted(ticket)
        # So is the failure to send a request that cannot be pickled.
        except Exception as error:
            self._show(ticket, error)
            self._finish(ticket, error=error)
            return
        ticket.future = future
        future.add_done_callback(lambda _: self._land(ticket))

    def _submitted(self, ticket: Ticket) -> PrefectDaskFuture[Any] | PlainFuture:
        """Submit a task as the runner does, but to one worker, and without Dask's look into it.

        Dask makes a name of what a task is given, so that the same is computed once; that takes
        longer than all the rest, and each of our tasks is another one.

        While the Prefect API is away, Dask is given the task's plain function.
        """
        ticket.plainly = ticket.plainly or not self._api.answers
        if ticket.plainly:
            client = self.runner.client
            return begin_plainly(client, ticket.task, ticket.request, ticket.address)
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
        taken = self._line.taken()
        free = {}
        addresses = list(self._scheduler.workers)
        for address in addresses if self._warm_up is None else self._warm_up.last(addresses):
            worker = self._scheduler.workers.get(address)
            if worker is None:
                continue  # it has just left
            places = worker.nthreads - taken[worker.address]
            if places > 0 and worker.status is Status.running:
                free[worker.address] = places
        return free

    def _match(self, waiting: Sequence[Ticket], free: Collection[str]) -> tuple[Ticket, str] | None:
        """Return the first task that can begin now, and where; None if there is none."""
        for ticket in waiting:
            alone = all(address in ticket.avoid for address in list(self._scheduler.workers))
            for address in free:
                welcome = alone or address not in ticket.avoid
                if welcome and self._workforce.room(address, ticket.seconds()):
                    return ticket, address
        return None


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]
