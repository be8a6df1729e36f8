"""One task that a pool was given: where it is, and what came of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from prefect.tasks import Task
from prefect_dask.task_runners import PrefectDaskFuture

submitting = threading.Lock()  # Prefect counts the task runs of a flow without one


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

    def exception(self) -> BaseException | None:
        """Return what the task raised, or that its worker is gone; None if it has a result."""
        return self._error
