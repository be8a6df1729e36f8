"""How flows and tasks that did not end well are shown in Prefect."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Collection, Iterable
from functools import partial, wraps
from pathlib import Path
from typing import Any, ParamSpec, Protocol
from uuid import UUID

import httpx
import prefect
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.exceptions import CancelledRun, FailedRun
from prefect.logging import get_run_logger
from prefect.states import Completed, Crashed, Failed

from aimspax_core.errors import AimspaxError, HeldError, StalledError
from aimspax_core.storage import text
from flows.runs.best_effort import best_effort
from flows.runs.lost_events import keep_out_lost_events
from flows.runs.outcome import hand_back, on_its_own
from flows.runs.over_already import over_already
from flows.runs.teller import tell

P = ParamSpec("P")

_PREFECT = str(Path(prefect.__file__).parent)

_ENDED = "Finished in state "
"""How Prefect's last line of a run begins; its name and message follow, line breaks escaped."""

_told: set[str] = set()
"""Flow runs in whose logs stands how they ended."""

_LATE = "it ended while the Prefect API was away"


class TaskFuture(Protocol):
    """A task that was given to Dask."""

    @property
    def task_run_id(self) -> UUID | None:
        """What Prefect knows it by; None if it runs without Prefect."""
        ...

    @property
    def wrapped_future(self) -> Any:
        """What Dask knows it by."""
        ...


_LAST_REPORT_S = 10.0
"""For so long the worker of a lost task may still report to Prefect how the task ended."""

_NAMES: dict[type[AimspaxError], str] = {HeldError: "AlreadyRunning", StalledError: "Stalled"}
"""Names of failed states that automations tell apart: their event is `prefect.flow-run.NAME`."""


def plain_failures(flow: Callable[P, State[Any]]) -> Callable[P, State[Any]]:
    """Turn an `AimspaxError` that a flow raises into its failed state, without a traceback.

    So are errors of the operating system that name a file: it is full, read-only, or not ours.
    The run's page and log show the error's text alone. Who calls the flow from Python gets the
    error all the same. The flow goes on without the Prefect API while that is away.
    """
    logging.getLogger("prefect.flow_runs").addFilter(_is_news)

    @wraps(flow)
    def failing_plainly(*args: P.args, **kwargs: P.kwargs) -> State[Any]:
        with on_its_own() as watch:
            keep_out_lost_events(watch)
            try:
                outcome = over_already() or flow(*args, **kwargs)
            except AimspaxError as error:
                name = _NAMES.get(type(error), "Failed")
                outcome = Failed(name=name, message=str(error), data=error)
            except OSError as error:
                if error.filename is None:
                    raise
                logging.getLogger("aimspax").debug("the run ends", exc_info=True)
                outcome = Failed(message=text(error), data=error)
            _tell_end(outcome)
        return hand_back(outcome, watch)

    # Prefect evaluates annotations where the function that it is given was written: here.
    failing_plainly.__signature__ = inspect.signature(flow, eval_str=True)  # type: ignore[attr-defined]
    return failing_plainly


def _tell_end(outcome: State[Any]) -> None:
    """Write into the run's log why it has not ended well, as an error; it is read there first.

    That somebody has stopped it is no error.
    """
    context = FlowRunContext.get()
    if outcome.is_completed() or context is None or context.flow_run is None:
        return
    level = logging.INFO if outcome.is_cancelled() else logging.ERROR
    get_run_logger().log(level, "%s: %s", outcome.name, outcome.message)
    _told.add(str(context.flow_run.id))


def _is_news(record: logging.LogRecord) -> bool:
    """Keep out what Prefect says of each run, and tracebacks where the state says the same.

    The log of a run is ours; that it has begun, or ended well, its state says. Why it has not ended
    well stays, once. What somebody's own flow logs, of which ours is a part, is let through.
    """
    if record.levelno < logging.WARNING and record.pathname.startswith(_PREFECT):
        end = record.getMessage().partition(_ENDED)[2]
        told = getattr(record, "flow_run_id", "") in _told
        return bool(end) and not told and not end.startswith("Completed(")
    error = record.exc_info[1] if record.exc_info else None
    told = isinstance(error, OSError) and error.filename is not None
    return not (told or isinstance(error, AimspaxError | FailedRun | CancelledRun))


def cancel_tasks(client: SyncPrefectClient, futures: Collection[TaskFuture]) -> None:
    """Cancel the tasks of a run that is stopped, and show them as crashed."""
    for future in futures:
        future.wrapped_future.cancel()
    tell(partial(mark_crashed, client, futures, "the run was stopped"))


def mark_crashed(
    client: SyncPrefectClient, futures: Iterable[TaskFuture], why: str, tries: int = 6
) -> None:
    """Show tasks as crashed that do not run any more; no worker is left that would.

    Args:
        client: The Prefect API.
        futures: The tasks.
        why: The message of their state.
        tries: How often to look for a task that the server does not know, half a second apart: one
            that has just started is known a moment later, one that never started never is.
    """
    left = [future.task_run_id for future in futures if future.task_run_id is not None]
    with best_effort("setting the state of tasks"):
        for number in range(tries):
            if number:
                time.sleep(0.5)
            left = [id_ for id_ in left if not _set_state(client, id_, Crashed(message=why))]
            if not left:
                return


def set_ended(tasks: Iterable[tuple[UUID, str]]) -> None:
    """Show how tasks ended that Prefect has seen begin, and whose end it was not told.

    Args:
        tasks: Each with why it failed; empty if it did not.
    """
    client = get_client(sync_client=True)
    for id_, why in tasks:
        _set_state(client, id_, Failed(message=why) if why else Completed(message=_LATE))


class LostTasks:
    """Tasks whose worker is gone: shown as crashed at once, and once more a little later.

    In its last moment the worker may still have reported that the task failed, which reaches
    Prefect later and would hide that it was lost.
    """

    def __init__(self, client: SyncPrefectClient) -> None:
        self._client = client
        self._again: list[tuple[float, TaskFuture, str]] = []

    def add(self, future: TaskFuture | None, why: str) -> None:
        """Show a lost task as crashed; None stands for one that had not begun."""
        if future is not None:
            tell(partial(mark_crashed, self._client, [future], why, tries=1))
            self._again.append((time.monotonic() + _LAST_REPORT_S, future, why))

    def settle(self, everything: bool = False) -> None:
        """Show tasks as crashed once more whose time has come, or all of them."""
        now = time.monotonic()
        for entry in [entry for entry in self._again if everything or entry[0] <= now]:
            self._again.remove(entry)
            tries = 6 if everything else 1
            tell(partial(mark_crashed, self._client, [entry[1]], entry[2], tries=tries))


def _set_state(client: SyncPrefectClient, task_run_id: UUID, state: State[Any]) -> bool:
    """Set a task run's state; return False if the server does not know the task run (yet)."""
    try:
        client.set_task_run_state(task_run_id, state, force=True)
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.NOT_FOUND:
            raise
        return False
    return True
