"""Tasks that run without Prefect, while its API is away: Dask is given their plain functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from distributed import Client
from distributed import Future as DaskFuture
from prefect.tasks import Task


@dataclass(frozen=True)
class PlainFuture:
    """A task that runs without Prefect.

    Attributes:
        wrapped_future: What Dask knows it by.
        task_run_id: What Prefect knows it by: nothing.
    """

    wrapped_future: DaskFuture
    task_run_id: None = None

    def result(self, timeout: float | None = None) -> Any:
        """Return what the function returned, or raise what it raised."""
        return self.wrapped_future.result(timeout)

    def add_done_callback(self, done: Callable[[PlainFuture], None]) -> None:
        """Have a function called in another thread when the task is over."""
        self.wrapped_future.add_done_callback(lambda _: done(self))


def begin_plainly(client: Client, task: Task[Any, Any], request: Any, address: str) -> PlainFuture:
    """Give the plain function of a task to one worker, and to no other."""
    future = client.submit(
        _called,
        task,
        request,
        key=f"{task.name}-{uuid4()}",
        pure=False,
        workers=[address],
        allow_other_workers=False,
    )
    return PlainFuture(future)


def _called(task: Task[Any, Any], request: Any) -> Any:
    return task.fn(request)
