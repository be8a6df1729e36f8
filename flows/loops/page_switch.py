"""Pause and Resume on the run's page, and the same by command, shown there.

Prefect's page offers Pause for a run that is running: it sets the state `Suspended`, which expires
after some minutes and would then be resumed by a worker in another process. Here the process goes
on: it takes the state as a wish, and replaces it by a `Paused` of its own, without an end, for
which the page offers Resume. A run that is shown as dead, and lives, is shown as it is again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Paused, Running

from aimspax_core.campaign import events
from aimspax_core.campaign.events import Event
from aimspax_core.campaign.state import CampaignState, Pause
from aimspax_core.report.progress import paused_text
from aimspax_core.run_directory import RunDir
from flows.runs.api_watch import ApiWatch
from flows.runs.previous_attempt import renew_attempt
from flows.runs.teller import tell

AGAIN_S = 10.0
"""After this time a state is told again that the server has not taken (s)."""

SURE_S = 8.0
"""What is seen on the server so long after it has taken a state is not older than that (s)."""

_SUSPENDED = "Suspended"

BY_PAGE = "somebody on the run's page"

_BURIED = ("CRASHED", "SCHEDULED")
"""States of a run that was taken for dead, as when its signs of life found no server."""

Shown = Literal["PAUSED", "RUNNING"]


@dataclass
class Switch:
    """What the page shows of a pause, and what it should: no clock, no Prefect.

    Attributes:
        shown: What the page was last told, or has told.
        settled: Whether it has been seen there; until then nothing there is a wish.
        told_at: When it was told.
        arrived_at: When the server had taken that; None while it has not.
    """

    shown: Shown = "RUNNING"
    settled: bool = True
    told_at: float = -AGAIN_S
    arrived_at: float | None = None

    def wish(self, state: str, name: str, now: float) -> Shown | None:
        """Return what somebody has clicked; None if nobody has.

        Args:
            state: Type of the run's state on the server, as it was seen last.
            name: Its name.
            now: The time (s).
        """
        if self.arrived_at is not None and now - self.arrived_at > SURE_S:
            self.settled = True  # what was told has been undone before it was seen
        if state == self.shown:
            self.settled = self.settled or name != _SUSPENDED
        elif self.settled and state in ("PAUSED", "RUNNING"):
            self.shown = "PAUSED" if state == "PAUSED" else "RUNNING"
            return self.shown
        return None

    def to_tell(self, paused: bool, state: str, name: str, now: float) -> Shown | None:
        """Return what the page is to be told, if it has to be.

        Args:
            paused: Whether the campaign is paused.
            state: Type of the run's state on the server.
            name: Its name.
            now: The time (s).
        """
        wanted: Shown = "PAUSED" if paused else "RUNNING"
        expires = paused and name == _SUSPENDED and self.settled
        lost = state in _BURIED or (not self.settled and self.arrived_at is None)
        again = lost and now - self.told_at > AGAIN_S
        if wanted == self.shown and not expires and not again:
            return None
        self.shown, self.settled, self.told_at, self.arrived_at = wanted, False, now, None
        return wanted


class PageSwitch:
    """The switch of this process's flow run.

    Args:
        run: The run directory.
        client: The Prefect API.
        watch: What is known of it.
    """

    def __init__(self, run: RunDir, client: SyncPrefectClient, watch: ApiWatch) -> None:
        self._run, self._client, self._watch = run, client, watch
        self._switch = Switch()
        context = FlowRunContext.get()
        self._context = context
        self._id: UUID | None = (
            context.flow_run.id if context is not None and context.flow_run is not None else None
        )

    def wish(self, state: CampaignState) -> Event | None:
        """Return the event of what somebody has clicked on the page; None if nobody has."""
        if self._id is None:
            return None
        self.forget_suspension()
        now, watch = time.time(), self._watch
        wish = self._switch.wish(watch.state, watch.state_name, time.monotonic())
        if wish == "RUNNING":
            tell(lambda: renew_attempt(self._client, self._run.flow_run))
        if wish == "PAUSED" and state.paused is None:
            return events.Paused(time=now, by=BY_PAGE)
        if wish == "RUNNING" and state.paused is not None:
            return events.Unpaused(time=now, by=BY_PAGE)
        return None

    def show(self, state: CampaignState) -> None:
        """Have the page show whether the campaign is paused."""
        if self._id is None or not self._watch.answers:
            return
        watch, now = self._watch, time.monotonic()
        told = self._switch.to_tell(state.paused is not None, watch.state, watch.state_name, now)
        if told is not None:
            tell(self._telling(self._id, state.paused))

    def forget_suspension(self) -> None:
        """Have Prefect not end the flow for a `Suspended` that was taken as a wish."""
        if self._context is not None:
            request = self._context.flow_run_suspension_request
            if request.is_requested():
                request.mark_requested(None)  # type: ignore[arg-type]

    def _telling(self, flow_run: UUID, pause: Pause | None) -> Callable[[], None]:
        client, file = self._client, self._run.flow_run
        new: State[Any] = Running() if pause is None else Paused(message=paused_text(pause))

        def change() -> None:
            client.set_flow_run_state(flow_run, new, force=True)
            self._switch.arrived_at = time.monotonic()
            renew_attempt(client, file)

        return change
