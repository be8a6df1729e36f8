"""The previous attempt at a run, whose process is gone: nobody else shows it in Prefect as over."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from aimspax_core.run_directory import RunDir
from aimspax_core.safe_files import write_text
from flows.runs.best_effort import best_effort

_UNDER_WAY = (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING, StateType.PAUSED)
_BEGUN = (StateType.RUNNING, StateType.CANCELLING, StateType.PAUSED)
"""States of an attempt's flow run; one that is to begin has been started again since."""

_PAGE = 200

log = logging.getLogger(f"aimspax.{__name__}")


@dataclass(frozen=True)
class RunAttempt:
    """One process's attempt at a flow run.

    Attributes:
        flow_run: The flow run's id.
        number: Which attempt at this flow run it is, from 1, as Prefect counts them.
    """

    flow_run: str
    number: int


def this_attempt() -> RunAttempt | None:
    """Return the attempt that this process makes; None outside of a flow run."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return None
    return RunAttempt(str(context.flow_run.id), context.flow_run.run_count)


def deployed() -> bool:
    """Return whether this process makes an attempt at a run of a deployment."""
    context = FlowRunContext.get()
    run = None if context is None else context.flow_run
    return run is not None and run.deployment_id is not None


def noted_attempt(file: Path) -> RunAttempt | None:
    """Return the attempt that a file notes; None if it notes none that can be read."""
    content = _noted(file)
    try:
        return RunAttempt(content["flow_run"], content["number"])
    except KeyError:
        return None


def was_copied(file: Path) -> bool:
    """Return whether a file was noted in another folder, of which this one is a copy.

    The attempt that it names may be running there.
    """
    folder = _noted(file).get("folder")
    return folder is not None and folder != file.parent.stat().st_ino


def _noted(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        log.debug("%s: %s", file, error)
        return {}
    return content if isinstance(content, dict) else {}


def note_attempt(file: Path) -> None:
    """Note the attempt that this process makes, if it makes one."""
    if (now := this_attempt()) is not None:
        with best_effort("noting the flow run"):
            _write(file, now)


def _write(file: Path, attempt: RunAttempt) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    folder = file.parent.stat().st_ino  # a copy has another one
    write_text(file, json.dumps({**asdict(attempt), "folder": folder}))


def renew_attempt(client: SyncPrefectClient, file: Path) -> None:
    """Note this process's attempt anew: Prefect counts one more when a paused run goes on."""
    if (now := this_attempt()) is not None:
        number = client.read_flow_run(UUID(now.flow_run)).run_count
        _write(file, replace(now, number=number))


def replace_previous(client: SyncPrefectClient, run: RunDir) -> None:
    """Show the previous attempt at a campaign as crashed, and note this attempt in its place.

    Whoever calls this holds the campaign's lock, so the process of the previous attempt is gone;
    unless the directory was copied, and it runs in the original.
    """
    before, now = noted_attempt(run.flow_run), this_attempt()
    if was_copied(run.flow_run):
        before = None
    why = "its process is gone; the campaign was taken up again"
    if before is not None and now is not None and before.flow_run == now.flow_run:
        with best_effort("closing tasks that are gone"):  # the run itself is ours now
            _mark_tasks_crashed(client, before, why)
    elif before is not None:
        mark_attempt_crashed(client, before, why)
    note_attempt(run.flow_run)


def mark_attempt_crashed(client: SyncPrefectClient, attempt: RunAttempt, why: str) -> None:
    """Show the flow run of an attempt, and its tasks, as crashed if Prefect shows them running.

    Args:
        client: The Prefect API.
        attempt: The attempt; if there was a later one at the same flow run, nothing is done.
        why: The message of their state.
    """
    with best_effort("closing a flow run that is gone"):
        try:
            flow_run = client.read_flow_run(UUID(attempt.flow_run))
        except ObjectNotFound:
            return
        if flow_run.run_count > attempt.number:
            return  # a later attempt looks after it
        _mark_tasks_crashed(client, attempt, why)
        if flow_run.state is not None and flow_run.state.type in _BEGUN:
            client.set_flow_run_state(flow_run.id, Crashed(message=why), force=True)


def _mark_tasks_crashed(client: SyncPrefectClient, attempt: RunAttempt, why: str) -> None:
    of_the_run = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(attempt.flow_run)]))
    under_way = TaskRunFilter(
        state=TaskRunFilterState(type=TaskRunFilterStateType(any_=list(_UNDER_WAY)))
    )
    while True:
        tasks = client.read_task_runs(
            flow_run_filter=of_the_run, task_run_filter=under_way, limit=_PAGE
        )
        for task in tasks:
            client.set_task_run_state(task.id, Crashed(message=why), force=True)
        if len(tasks) < _PAGE:
            return
