"""Flow runs whose process is gone: nobody else tells Prefect that they do not run any more."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
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
from flows.runs.best_effort import by_product, courtesy

_UNDER_WAY = (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)
_PAGE = 200

log = logging.getLogger("aimspax")


@dataclass(frozen=True)
class Attempt:
    """One process's attempt at a flow run.

    Attributes:
        flow_run: The flow run's id.
        number: Which attempt it is; Prefect counts them.
    """

    flow_run: str
    number: int


def this_attempt() -> Attempt | None:
    """Return what this process is doing; None outside of a flow run."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return None
    return Attempt(str(context.flow_run.id), context.flow_run.run_count)


def take_over(client: SyncPrefectClient, run: RunDir) -> None:
    """Close the attempt that had a campaign before, and note that this one has it now.

    Whoever calls this holds the campaign's lock: the other process is gone.
    """
    file, now = run.state / "flow-run.json", this_attempt()
    try:
        before = Attempt(**json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        before = None
    except (ValueError, TypeError) as error:
        log.debug("%s: %s", file, error)
        before = None
    if before is not None and before != now:
        close(client, before, "its process is gone; the campaign was taken up again")
    if now is not None:
        with by_product("noting the flow run"):
            write_text(file, json.dumps(asdict(now)))


def close(client: SyncPrefectClient, attempt: Attempt, why: str) -> None:
    """Set an attempt's flow run, and its tasks, to Crashed, if they are shown as under way."""
    with courtesy("closing a flow run that is gone"):
        try:
            flow_run = client.read_flow_run(UUID(attempt.flow_run))
        except ObjectNotFound:
            return
        if flow_run.run_count > attempt.number:
            return  # it was started again, and that process looks after it
        _close_tasks(client, attempt, why)
        if flow_run.state is not None and flow_run.state.type in _UNDER_WAY:
            client.set_flow_run_state(flow_run.id, Crashed(message=why), force=True)


def _close_tasks(client: SyncPrefectClient, attempt: Attempt, why: str) -> None:
    of_it = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(attempt.flow_run)]))
    under_way = TaskRunFilter(
        state=TaskRunFilterState(type=TaskRunFilterStateType(any_=list(_UNDER_WAY)))
    )
    while True:
        tasks = client.read_task_runs(flow_run_filter=of_it, task_run_filter=under_way, limit=_PAGE)
        for task in tasks:
            client.set_task_run_state(task.id, Crashed(message=why), force=True)
        if len(tasks) < _PAGE:
            return
