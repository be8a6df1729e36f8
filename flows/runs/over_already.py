"""Runs that are started again though they were over: the server died before it could tell so.

Who restarts the dead (`automations.yaml`) hears of an end by an event, which is lost if Prefect's
server dies in the moment in which it takes the end in. The run then gives no sign of life, and is
started again once more; Prefect's record of its states shows that it need not be.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType
from prefect.states import Cancelled

from flows.runs.best_effort import best_effort
from flows.runs.previous_attempt import deployed, this_attempt

MISSED = "No sign of life"
"""How the message of a run begins that `automations.yaml` shows as crashed."""

_ENDS = (StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED)

_ONCE_MORE = (StateType.CRASHED, StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING)
"""States of a run that dies and is started again by itself, as often as that may be."""

log = logging.getLogger(f"aimspax.{__name__}")


def over_already() -> State[Any] | None:
    """Return the state in which this run ended before it was started again; None: it did not."""
    attempt = this_attempt()
    if attempt is None or attempt.number == 1 or not deployed():
        return None
    with best_effort("asking how the run ended before"), get_client(sync_client=True) as client:
        states = client.read_flow_run_states(UUID(attempt.flow_run))
        end = end_before(sorted(states, key=lambda state: state.timestamp))
        if end is not None:
            log.info("this run is over, as it was before it was missed: %s", end.name)
        return end
    return None


def end_before(states: Sequence[State[Any]]) -> State[Any] | None:
    """Return how a run ended that was missed and started again; None if it had not ended.

    Attempts since then may have died before they could repeat the end: only who starts a run again
    that is shown as over wants it to go on.

    Args:
        states: All its states until now, in their order; the last one is that it runs.
    """
    for after, before in pairwise(reversed(states)):
        if before.type in _ONCE_MORE:
            continue
        if after.type is not StateType.CRASHED:
            return None
        if before.type is StateType.CANCELLING:
            return Cancelled(message="cancelled; its process died before it could say so")
        if before.type in _ENDS:
            return State(type=before.type, name=before.name, message=before.message)
        return None
    return None
