"""`losses/`: each member's validations, one JSON object a line."""

from __future__ import annotations

import json
from pathlib import Path

from aimspax_core.campaign.events import ConvergenceAdvanced, Event, TrainingFinished
from aimspax_core.rundir import RunDir


def losses_file(run: RunDir, tag: str) -> Path:
    """Return where a member's validations are."""
    return run.losses / f"{tag}.jsonl"


def append_losses(run: RunDir, event: Event) -> None:
    """Append the validations that an event brings to `losses/{tag}.jsonl`; eV, Å."""
    if not isinstance(event, TrainingFinished | ConvergenceAdvanced):
        return
    run.losses.mkdir(parents=True, exist_ok=True)
    stage = "convergence" if isinstance(event, ConvergenceAdvanced) else "training"
    with losses_file(run, event.tag).open("a", encoding="utf-8") as file:
        for errors in event.errors:
            file.write(json.dumps({"stage": stage, **errors.model_dump()}) + "\n")
