"""Listeners: functions that are called at each change of a running campaign's state.

The log files and the terminal's bar follow the state, but neither belongs to the loop that runs
the campaign: they join here, and the loop tells them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from aimspax_core.campaign.events import Event
from aimspax_core.campaign.state import CampaignState

Listener = Callable[[CampaignState | None, Event, CampaignState], None]
"""Is called with the state before an event (None before the first), the event, the state after."""

_listeners: list[Listener] = []


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Have a function called at every event of this process's campaign while the block runs."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def listeners() -> tuple[Listener, ...]:
    """Return who listens now, in the order of joining."""
    return tuple(_listeners)
