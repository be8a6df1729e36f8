"""How flows and tasks that did not end well are shown in Prefect."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Collection, Iterable
from functools import wraps
from typing import Any, ParamSpec
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State
from prefect.exceptions import CancelledRun, FailedRun
from prefect.states import Crashed, Failed
from prefect_dask.task_runners import PrefectDaskFuture

from aimspax_core.errors import AimspaxError, HeldError, StalledError
from flows.runs.best_effort import best_effort

P = ParamSpec("P")

_LAST_REPORT_S = 10.0
"""For so long the worker of a lost task may still report to Prefect how the task ended."""

_NAMES: dict[type[AimspaxError], str] = {HeldError: "AlreadyRunning", StalledError: "Stalled"}
"""Names of failed states that automations tell apart: their event is `prefect.flow-run.NAME`."""


def plain_failures(flow: Callable[P, State[Any]]) -> Callable[P, State[Any]]:
    """Turn an `AimspaxError` that a flow raises into its failed state, without a traceback.

    The run's page and log show the error's text alone. Who calls the flow from Python gets the
    error all the same.
    """

    @wraps(flow)
    def failing_plainly(*args: P.args, **kwargs: P.kwargs) -> State[Any]:
        logging.getLogger("prefect.flow_runs").addFilter(_is_news)
        try:
            return flow(*args, **kwargs)
        except AimspaxError as error:
            name = _NAMES.get(type(error), "Failed")
            return Failed(name=name, message=str(error), data=error)

    # Prefect evaluates annotations where the function that it is given was written: here.
    failing_plainly.__signature__ = inspect.signature(flow, eval_str=True)  # type: ignore[attr-defined]
    return failing_plainly


def _is_news(record: logging.LogRecord) -> bool:
    """Keep out the traceback that Prefect adds to a deployed run whose state says the same."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, AimspaxError | FailedRun | CancelledRun)


def cancel_tasks(client: SyncPrefectClient, futures: Collection[PrefectDaskFuture[Any]]) -> None:
    """Cancel the tasks of a run that is stopped, and show them as crashed."""
    for future in futures:
        future.wrapped_future.cancel()
    mark_crashed(client, futures, "the run was stopped")


def mark_crashed(
    client: SyncPrefectClient, futures: Iterable[PrefectDaskFuture[Any]], why: str, tries: int = 6
) -> None:
    """Show tasks as crashed that do not run any more; no worker is left that would.

    Args:
        client: The Prefect API.
        futures: The tasks.
        why: The message of their state.
        tries: How often to look for a task that the server does not know, half a second apart: one
            that has just started is known a moment later, one that never started never is.
    """
    left = [future.task_run_id for future in futures]
    with best_effort("setting the state of tasks"):
        for number in range(tries):
            if number:
                time.sleep(0.5)
            left = [id_ for id_ in left if not _set_crashed(client, id_, why)]
            if not left:
                return


class LostTasks:
    """Tasks whose worker is gone: shown as crashed at once, and once more a little later.

    In its last moment the worker may still have reported that the task failed, which reaches
    Prefect later and would hide that it was lost.
    """

    def __init__(self, client: SyncPrefectClient) -> None:
        self._client = client
        self._again: list[tuple[float, PrefectDaskFuture[Any], str]] = []

    def add(self, future: PrefectDaskFuture[Any] | None, why: str) -> None:
        """Show a lost task as crashed; None stands for one that had not begun."""
        if future is not None:
            mark_crashed(self._client, [future], why, tries=1)
            self._again.append((time.monotonic() + _LAST_REPORT_S, future, why))

    def settle(self, everything: bool = False) -> None:
        """Show tasks as crashed once more whose time has come, or all of them."""
        now = time.monotonic()
        for entry in [entry for entry in self._again if everything or entry[0] <= now]:
            self._again.remove(entry)
            mark_crashed(self._client, [entry[1]], entry[2], tries=6 if everything else 1)


def _set_crashed(client: SyncPrefectClient, task_run_id: UUID, why: str) -> bool:
    """Set a task run's state; return False if the server does not know the task run (yet)."""
    try:
        client.set_task_run_state(task_run_id, Crashed(message=why), force=True)
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.NOT_FOUND:
            raise
        return False
    return True
