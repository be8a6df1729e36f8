"""One task that a pool was given: where it is, and what came of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from prefect.tasks import Task
from prefect_dask.task_runners import PrefectDaskFuture

from flows.pools.plain import PlainFuture

submitting = threading.Lock()  # Prefect counts the task runs of a flow without one


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
    """

    task: Task[Any, Any]
    request: Any
    avoid: Collection[str] = ()
    seconds: Callable[[], float | None] = lambda: None
    plainly: bool = False
    address: str = ""
    future: PrefectDaskFuture[Any] | PlainFuture | None = None
    outcome: Future[Any] = field(default_factory=Future)

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
