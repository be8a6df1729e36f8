"""The name of the state that a flow run has on its page while it runs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Running

from flows.runs.best_effort import best_effort
from flows.runs.teller import tell

WAITING = "Waiting for disk"
"""The name while the storage cannot take what the run writes."""


def show_waiting(client: SyncPrefectClient, why: str) -> None:
    """Show that this flow run waits for room on a disk, or, with an empty text, that it goes on.

    Args:
        client: The Prefect API.
        why: What it waits for.
    """
    context = FlowRunContext.get()
    if context is not None and context.flow_run is not None:
        id_, name = context.flow_run.id, WAITING if why else "Running"
        tell(lambda: _show_running(client, id_, Running(name=name, message=why or None)))


def _show_running(client: SyncPrefectClient, id_: UUID, state: State[Any]) -> None:
    """Show a flow run as one that runs, under another name, unless somebody has ended it.

    Prefect counts each entry into such a state as an attempt at the run, unless it resumes: this
    is none, and who restarts runs looks at that count.
    """
    with best_effort("showing the state of the run"):
        run = client.read_flow_run(id_)
        if run.state is not None and run.state.is_running():
            resuming = run.empirical_policy.model_copy(update={"resuming": True})
            client.update_flow_run(id_, empirical_policy=resuming)
            client.set_flow_run_state(id_, state, force=True)
