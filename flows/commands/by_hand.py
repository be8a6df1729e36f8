"""The commands `set`, `pause` and `resume`: what a person asks of a campaign, running or not.

What asks is imported late, because it imports Prefect: other commands begin without.
"""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimspax_core.campaign.journal import holder
from aimspax_core.campaign.requests import PauseRequest, Request, ResumeRequest, SetRequest
from aimspax_core.errors import SettingsError
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.report.progress import paused_text
from flows.commands.exit_codes import DONE, console

if TYPE_CHECKING:
    from flows.loops.asking import RequestOutcome


def set_values(directory: Path, overrides: Mapping[str, Any], assignments: Sequence[str]) -> int:
    """Change settings of a campaign; print what is in force then."""
    values = dict(_assigned(text) for text in assignments)
    if not values:
        raise SettingsError("aimspax set: nothing to set; allowed: DIR key=value, one or more")
    now = time.time()
    outcome = _submit(directory, overrides, SetRequest(values=values, time=now, by=who()))
    if not outcome.waits:
        for one in outcome.set_at(now):
            text = f"{one.key}: {one.value} (before: {one.before}), in force from now on"
            console.print(text, markup=False)
    return _told(outcome)


def pause(directory: Path, overrides: Mapping[str, Any]) -> int:
    """Have a campaign begin nothing new."""
    outcome = _submit(directory, overrides, PauseRequest(time=time.time(), by=who()))
    if outcome.state.paused is not None:
        rest = ", what runs is finished" if outcome.state.in_flight else ""
        console.print(f"{paused_text(outcome.state.paused)}{rest}", markup=False)
        console.print("`aimspax resume` lets it go on", markup=False)
    return _told(outcome)


def resume(directory: Path, overrides: Mapping[str, Any]) -> int:
    """Let a campaign that is paused go on."""
    inputs = Inputs.read(directory, overrides, "any")
    outcome = _submit(directory, overrides, ResumeRequest(time=time.time(), by=who()))
    if not outcome.waits:
        was = inputs.state is not None and inputs.state.paused is not None
        start = "; nobody runs it: `aimspax run` does" if holder(inputs.run) is None else ""
        console.print(f"{'it goes on' if was else 'it is not paused'}{start}", markup=False)
    return _told(outcome)


def _submit(directory: Path, overrides: Mapping[str, Any], request: Request) -> RequestOutcome:
    from flows.loops.asking import submit

    return submit(directory, overrides, request)


def _told(outcome: RequestOutcome) -> int:
    if outcome.waits:
        console.print(outcome.waits_text, markup=False)
    return DONE


def who() -> str:
    """Return who asks: user and machine; a user without a name, as in a container, by number."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # the latter since Python 3.13
        user = f"user {os.getuid()}"
    return f"{user} on {socket.gethostname()}"


def _assigned(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise SettingsError(f"aimspax set {text!r}: allowed: key=value")
    return key.strip(), value.strip()
