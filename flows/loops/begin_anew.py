"""A run that the storage keeps from its work: it waits, as in its loop, and begins anew.

What it does before its loop (the lock, the first events, its workers) may be cut short anywhere, as
by a kill: to begin anew is what the next start would do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State

from aimspax_core.storage import cannot_take, text
from flows.loops.room import Room, StoppedWaitingError
from flows.loops.stop import Stop
from flows.runs.shown_state import show_waiting

Look = Callable[[], None]
"""Raises an `OSError` where there is no room."""

Work = Callable[[Callable[[Look], None]], State[Any]]
"""Does a run's work from its beginning, and says how to look for room once that is known."""


def insist(work: Work, client: SyncPrefectClient, stopped: Stop) -> State[Any]:
    """Do a run's work; begin anew until the storage lets it come to an end.

    Args:
        work: What the run does.
        client: The Prefect API.
        stopped: Whether somebody wants the run to stop.

    Returns:
        The state that the run ends in.

    Raises:
        OSError: The work failed for a reason that does not pass.
    """
    looks: list[Look] = []

    def look() -> None:
        for one in looks[-1:]:
            one()

    room = Room(look, partial(show_waiting, client), stopped.asked)
    try:
        while True:
            try:
                return work(looks.append)
            except OSError as error:
                if not cannot_take(error):
                    raise
                room.lost(text(error))
            room.wait()
    except StoppedWaitingError:
        return stopped.state(f"{stopped.reason}; start again to go on")
