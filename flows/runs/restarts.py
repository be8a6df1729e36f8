"""Runs that were started again by an automation: a few times in a row without progress, no more."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType

from aimspax_core.campaign.restarts import STOPS, Restarts, counted
from aimspax_core.errors import StalledError
from aimspax_core.safe_files import write_text
from flows.runs.best_effort import best_effort
from flows.runs.previous_attempt import noted_attempt, this_attempt

UNCOUNTED = 4
"""So many attempts in a row may end before they are counted in the run directory."""

INTERRUPTED = "Interrupted"
"""Name of the state of a deployed run that a signal has stopped, as when its machine is shut down;
automations.yaml starts such a run again."""

_BY_ITSELF = (StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED, StateType.PAUSED)
"""States in which an attempt leaves its flow run that does not die."""

log = logging.getLogger(f"aimspax.{__name__}")


def begun_often() -> bool:
    """Return whether so many attempts were made at this run that `refuse_uncounted` is asked."""
    attempt = this_attempt()
    return attempt is not None and attempt.number > UNCOUNTED


def refuse_uncounted(attempts: Path, file: Path) -> None:
    """Refuse if the attempts before this one died on the way to where they would be counted.

    Nothing is noted before the work's lock is held, which another run may hold: Prefect's count of
    attempts shows it, and how each of them ended. Who has mended what was wrong may use Retry, as
    an attempt that ended by itself is no death, this one included.

    Args:
        attempts: Where the last attempt that held the lock is noted; see `previous_attempt`.
        file: Where `count_restart` notes what it counts.

    Raises:
        StalledError: Too many died.
    """
    now = this_attempt()
    if now is None:
        return
    held, counted_last = noted_attempt(attempts), _noted(file)
    last = max(
        held.number if held is not None and held.flow_run == now.flow_run else 0,
        counted_last.attempt if counted_last and counted_last.flow_run == now.flow_run else 0,
    )
    if now.number - last <= UNCOUNTED:
        return
    died = min(now.number - last - 1, _died(now.flow_run))
    if died < UNCOUNTED:
        return
    raise StalledError(
        f"this run died {died} times in a row while it read its run directory, so "
        "it is not started again by itself. See what the worker printed (was there too little "
        "memory?); then use Retry, or start a new run"
    )


def _died(flow_run: str) -> int:
    """Return how many attempts in a row died until now, as Prefect has seen it; 0: not known."""
    states: list[State[Any]] = []
    with best_effort("asking how earlier attempts ended"), get_client(sync_client=True) as client:
        found = client.read_flow_run_states(UUID(flow_run))
        states = sorted(found, key=lambda state: state.timestamp)
    died, running = 0, False
    for state in states:
        if state.type is StateType.RUNNING:
            died, running = died + running, True
        elif state.type in _BY_ITSELF:
            died, running = 0, False
        elif state.name == INTERRUPTED:  # no death, nor a sign that the next one would live
            running = False
    return died


def count_restart(file: Path, mark: str, limit: int) -> None:
    """Note that this process takes work up; refuse if that was tried too often in vain.

    Whoever calls this holds the lock of the work. A flow run of a new id begins a new count. Stops
    are counted apart from deaths, up to `STOPS`.

    Args:
        file: Where it is noted.
        mark: How far the work is.
        limit: How often a flow run may be started again in a row without progress.

    Raises:
        StalledError: It was started again, or stopped, more often. The count begins anew, so that
            a person who has mended what was wrong may use Retry on the page.
    """
    attempt = this_attempt()
    if attempt is None:
        return
    now = counted(
        _noted(file), Restarts(flow_run=attempt.flow_run, attempt=attempt.number, mark=mark)
    )
    stalled = now.too_many(limit)
    with best_effort("noting how often the run was started again"):
        write_text(file, (now.forgiven() if stalled else now).model_dump_json())
    if now.in_a_row and not stalled:
        log.warning(
            "started again, %d of at most %d times in a row without progress", now.in_a_row, limit
        )
    if stalled:
        raise StalledError(
            f"this run {_in_vain(now, limit)} in a row without progress, so it is not started "
            "again by itself. What the worker printed, and logs/ in the run directory, say how far "
            "it came; then use Retry, or start a new run"
        )


def _in_vain(attempt: Restarts, limit: int) -> str:
    if attempt.in_a_row > limit:
        return f"died and was started again {limit} times (MISC.restarts)"
    return (
        f"was stopped by a signal and went on {STOPS} times (does a limit of memory or time, or "
        "its worker, stop it?)"
    )


def count_stop(file: Path) -> None:
    """Note that this process's attempt was stopped: to go on after that is no restart of the dead.

    Args:
        file: Where `count_restart` has noted the attempt.
    """
    attempt, noted = this_attempt(), _noted(file)
    if attempt is None or noted is None:
        return
    if (noted.flow_run, noted.attempt) == (attempt.flow_run, attempt.number):
        with best_effort("noting that the run was stopped"):
            write_text(file, noted.but(stopped=True).model_dump_json())


def _noted(file: Path) -> Restarts | None:
    try:
        return Restarts.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        log.warning("%s is left out, the count of restarts begins anew: %s", file, error)
        return None
