"""The commands `set`, `pause` and `resume`: what a person asks of a campaign, running or not.

A process that runs the campaign is asked by a file in its run directory, and takes it within
seconds; if nobody runs it, the command writes into the journal itself.
"""

from __future__ import annotations

import getpass
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aimspax_core.campaign.journal import Journal, holder
from aimspax_core.campaign.journal import load as load_journal
from aimspax_core.campaign.requests import (
    PauseRequest,
    Request,
    ResumeRequest,
    SetRequest,
    ask,
    refusal,
)
from aimspax_core.campaign.state import CampaignState
from aimspax_core.errors import CampaignError, SettingsError
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.report.progress import paused_text
from flows.commands.exit_codes import DONE, console
from flows.loops.requests import event_of

PATIENCE_S = 30.0
"""How long a command waits for the process that runs the campaign to take its request (s)."""

_POLL_S = 0.2


@dataclass(frozen=True)
class Outcome:
    """What came of a request.

    Attributes:
        state: The campaign afterwards.
        waits: The process that will take the request, which it has not yet; empty if it has.
    """

    state: CampaignState
    waits: str = ""


def set_values(directory: Path, overrides: Mapping[str, Any], assignments: Sequence[str]) -> int:
    """Change settings of a campaign; print what is in force then."""
    values = dict(_assigned(text) for text in assignments)
    if not values:
        raise SettingsError("aimspax set: nothing to set; allowed: DIR key=value, one or more")
    now = time.time()
    outcome = submit(directory, overrides, SetRequest(values=values, time=now, by=who()))
    if not outcome.waits:
        for one in outcome.state.set_values.values():
            if one.time == now:
                text = f"{one.key}: {one.value} (before: {one.before}), in force from now on"
                console.print(text, markup=False)
    return _told(outcome)


def pause(directory: Path, overrides: Mapping[str, Any]) -> int:
    """Have a campaign begin nothing new."""
    outcome = submit(directory, overrides, PauseRequest(time=time.time(), by=who()))
    if outcome.state.paused is not None:
        rest = ", what runs is finished" if outcome.state.in_flight else ""
        console.print(f"{paused_text(outcome.state.paused)}{rest}", markup=False)
        console.print("`aimspax resume` lets it go on", markup=False)
    return _told(outcome)


def resume(directory: Path, overrides: Mapping[str, Any]) -> int:
    """Let a campaign that is paused go on."""
    inputs = Inputs.read(directory, overrides, "any")
    outcome = submit(directory, overrides, ResumeRequest(time=time.time(), by=who()))
    if not outcome.waits:
        was = inputs.state is not None and inputs.state.paused is not None
        start = "; nobody runs it: `aimspax run` does" if holder(inputs.run) is None else ""
        console.print(f"{'it goes on' if was else 'it is not paused'}{start}", markup=False)
    return _told(outcome)


def submit(directory: Path, overrides: Mapping[str, Any], request: Request) -> Outcome:
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
    return Outcome(inputs.state, waits=f"{holder(run)}")


def _answered(inputs: Inputs, file: Path) -> Outcome:
    why = refusal(file)
    if why:
        raise SettingsError(why)
    _, state = load_journal(inputs.run)
    assert state is not None
    return Outcome(state)


def _written(directory: Path, overrides: Mapping[str, Any], request: Request) -> Outcome:
    """Do what a request asks for in the journal of a campaign that nobody runs."""
    inputs = Inputs.read(directory, overrides, "any")
    with Journal(inputs.run) as journal:
        event, _ = event_of(request, inputs, journal.state)
        return Outcome(journal.state if event is None else journal.append(event))


def _told(outcome: Outcome) -> int:
    if outcome.waits:
        console.print(
            f"asked; {outcome.waits} has not taken it yet, and does when it looks next",
            markup=False,
        )
    return DONE


def who() -> str:
    """Return who asks: user and machine."""
    return f"{getpass.getuser()} on {socket.gethostname()}"


def _assigned(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise SettingsError(f"aimspax set {text!r}: allowed: key=value")
    return key.strip(), value.strip()
