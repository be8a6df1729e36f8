"""What a person asks of a campaign, whether a process runs it or not.

A process that runs the campaign is asked by a file in its run directory, and takes it within
seconds; if nobody runs it, the request is taken into the journal here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aimspax_core.campaign.journal import Journal, holder
from aimspax_core.campaign.journal import load as load_journal
from aimspax_core.campaign.requests import Request, ask, refusal
from aimspax_core.campaign.state import CampaignState, SetValue
from aimspax_core.errors import CampaignError, SettingsError
from aimspax_core.inputs.campaign_inputs import Inputs
from flows.loops.taking_requests import event_of

PATIENCE_S = 30.0
"""How long a command waits for the process that runs the campaign to take its request (s)."""

_POLL_S = 0.2

log = logging.getLogger("aimspax")


@dataclass(frozen=True)
class RequestOutcome:
    """What came of a request.

    Attributes:
        state: The campaign afterwards.
        waits: The process that will take the request, which it has not yet; empty if it has.
    """

    state: CampaignState
    waits: str = ""

    @property
    def waits_text(self) -> str:
        """That a request was not taken yet, in words."""
        return f"asked; {self.waits} has not taken it yet, and does when it looks next"

    def set_at(self, moment: float) -> list[SetValue]:
        """Return the values that were set by the request of a moment (s since 1970)."""
        return [one for one in self.state.set_values.values() if one.time == moment]


def submit(directory: Path, overrides: Mapping[str, Any], request: Request) -> RequestOutcome:
    """Put a request to a campaign, or to its journal if nobody runs it.

    Raises:
        SettingsError: It is refused.
        CampaignError: There is no campaign.
    """
    inputs = Inputs.read(directory, overrides, "any")
    run = inputs.run
    if inputs.state is None:
        raise CampaignError(
            f"{run.output}: no campaign has been started here; what it begins with is in the "
            "settings files"
        )
    event_of(request, inputs, inputs.state)  # what is wrong with it is told at once
    file, end = None, time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if file is not None and not file.exists():
            return _answered(inputs, file)
        who_runs = holder(run)
        if who_runs is None:
            if file is not None:
                try:
                    file.unlink()
                except FileNotFoundError:
                    continue  # it was taken in the last moment
                file = None
            try:
                return _written(directory, overrides, request)
            except CampaignError:
                if holder(run) is None:
                    raise
        elif file is None:
            file = ask(run, request)
        time.sleep(_POLL_S)
    return RequestOutcome(inputs.state, waits=f"{holder(run)}")


def _answered(inputs: Inputs, file: Path) -> RequestOutcome:
    why = refusal(file)
    if why:
        raise SettingsError(why)
    _, state = load_journal(inputs.run)
    assert state is not None
    return RequestOutcome(state)


def _written(directory: Path, overrides: Mapping[str, Any], request: Request) -> RequestOutcome:
    """Do what a request asks for in the journal of a campaign that nobody runs."""
    inputs = Inputs.read(directory, overrides, "any")
    with Journal(inputs.run) as journal:
        for note in journal.notes:
            log.warning("%s", note)
        event, _ = event_of(request, inputs, journal.state)
        return RequestOutcome(journal.state if event is None else journal.append(event))
