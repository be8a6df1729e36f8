"""One task that a pool was given: where it is, and what came of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from prefect.tasks import Task
from prefect_dask.task_runners import PrefectDaskFuture

from aimspax_core.errors import AimspaxError
from aimspax_core.labels.tries import Fate
from flows.pools.plain import PlainFuture
from flows.pools.workers import WorkerLostError

GATHER_S = 30.0
"""How long a small result may take from its worker to the flow (s)."""

GATHERS = 10
"""So often it may take longer: the worker's machine, or ours, has no time for it."""

submitting = threading.Lock()  # Prefect counts the task runs of a flow without one


class ResultLateError(AimspaxError):
    """A task is done, and what it returned did not come in time: it can be asked for again."""


@dataclass(eq=False)
class Ticket:
    """A task that was handed to a pool.

    Attributes:
        task: The Prefect task.
        request: The task's only parameter.
        avoid: Addresses of workers where the task should not run if there are others.
        seconds: Returns how long the task will take (s), if that is known when it could begin; on
            a worker with less time it does not begin.
        plainly: Whether it runs, or has to run, without Prefect.
        address: The worker that has the task; empty while it waits.
        future: What Prefect and Dask know the task run by; None while the task waits.
        outcome: Done when the task is over, with what it returned or raised; a `WorkerLostError`
            if its worker is gone, or the Prefect API was.
        late: How often what it returned did not come from its worker in time.
    """

    task: Task[Any, Any]
    request: Any
    avoid: Collection[str] = ()
    seconds: Callable[[], float | None] = lambda: None
    plainly: bool = False
    address: str = ""
    future: PrefectDaskFuture[Any] | PlainFuture | None = None
    outcome: Future[Any] = field(default_factory=Future)
    late: int = 0

    def fetch(self) -> Any:
        """Return what the task returned, from its worker.

        Raises:
            ResultLateError: It did not come in time.
            WorkerLostError: Nor did it before, again and again.
            Exception: What the task raised.
        """
        assert self.future is not None
        try:
            return self.future.result(timeout=GATHER_S)
        except TimeoutError as error:
            # A task that fails so has a number of the system's, or did not finish.
            if error.errno is not None or self.future.wrapped_future.status != "finished":
                raise
            self.late += 1
            if self.late < GATHERS:
                raise ResultLateError(str(error)) from error
            what = f"its result did not come within {GATHERS * GATHER_S:g} s"
            raise WorkerLostError(what, Fate.INTERRUPTED) from error

    def result(self) -> Any:
        """Return what the task returned, once it is over.

        Raises:
            WorkerLostError: Its worker is gone, or the Prefect API was.
            Exception: What the task raised.
        """
        return self.outcome.result()

    def exception(self) -> BaseException | None:
        """Return what the task raised, once it is over; None if it has a result."""
        return self.outcome.exception()
