"""What people ask of a campaign, by command or on the run's page, taken into its journal."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from aimspax_core.campaign.actions import Publish
from aimspax_core.campaign.events import Event, Paused, Unpaused
from aimspax_core.campaign.requests import PauseRequest, Request, SetRequest, read, settle, waiting
from aimspax_core.campaign.state import CampaignState
from aimspax_core.errors import AimspaxError, CampaignError
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.inputs.parameters import change
from flows.runs.best_effort import best_effort

LOOK_S = 1.0
"""From one look for requests to the next (s)."""

log = logging.getLogger("aimspax")


class Requests:
    """Takes the requests that are left in a run directory.

    Args:
        record: Puts an event into the journal.
    """

    def __init__(self, record: Callable[[Event], None]) -> None:
        self._record = record
        self._looked = float("-inf")
        self._done: set[Path] = set()  # also those whose file cannot be removed

    def take(self, inputs: Inputs, state: CampaignState) -> Inputs:
        """Take the next request, if there is one; return the inputs with what it changes.

        Args:
            inputs: The inputs of the campaign, with the settings in force.
            state: The campaign.
        """
        if time.monotonic() - self._looked < LOOK_S:
            return inputs
        if any(isinstance(action, Publish) for action in state.in_flight.values()):
            return inputs  # what is being written belongs to the phase as it was
        file, request, problem = self._next(inputs)
        if file is None:
            self._looked = time.monotonic()
            return inputs
        self._done.add(file)
        event, after = None, inputs
        if request is not None:
            try:
                event, after = event_of(request, inputs, state)
            except AimspaxError as error:
                problem = str(error)
        if event is not None:
            self._record(event)
        if problem:
            log.warning("refused: %s", problem)
        with best_effort("answering a request"):
            settle(file, problem)
        return after

    def _next(self, inputs: Inputs) -> tuple[Path | None, Request | None, str]:
        """Return the file of the next request, the request, and what is wrong with the file."""
        with best_effort("looking for requests"):
            file = next((one for one in waiting(inputs.run) if one not in self._done), None)
            if file is None:
                return None, None, ""
            try:
                return file, read(file), ""
            except ValueError as error:
                return file, None, str(error)
        return None, None, ""


def event_of(request: Request, inputs: Inputs, state: CampaignState) -> tuple[Event | None, Inputs]:
    """Return what a request does to a campaign, and the inputs with what it changes.

    Args:
        request: What a person wants.
        inputs: The inputs of the campaign, with the settings in force.
        state: The campaign.

    Returns:
        No event if all is as it is wanted.

    Raises:
        SettingsError: A setting cannot be changed so.
        CampaignError: There is nothing to pause.
    """
    match request:
        case SetRequest():
            event, settings = change(request, state, inputs.settings, inputs.overrides)
            return event, replace(inputs, settings=settings)
        case PauseRequest():
            if state.finished:
                raise CampaignError("this campaign is finished: there is nothing to pause")
            paused = Paused(time=request.time, by=request.by)
            return None if state.paused else paused, inputs
        case _:
            going_on = Unpaused(time=request.time, by=request.by)
            return going_on if state.paused else None, inputs
