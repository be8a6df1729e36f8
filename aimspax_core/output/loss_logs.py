"""`losses/`: each member's epochs and validations, one JSON object a line, as MACE writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aimspax_core.campaign.events import ConvergenceAdvanced, Event, TrainingFinished
from aimspax_core.campaign.members import Errors
from aimspax_core.run_directory import RunDir
from aimspax_core.safe_files import append

_STEERING = {"epoch", "train_loss", "valid_loss", "lr", "seconds"}


def losses_file(run: RunDir, tag: str) -> Path:
    """Return where a member's epochs and validations are; MACE's and the original's name."""
    return run.losses / f"{tag}_train.txt"


def append_losses(run: RunDir, event: Event) -> None:
    """Append the validations that an event brings to the member's own file.

    Lines are those of MACE's `MetricsLogger`, energies in eV, lengths in Å: for each epoch that
    was validated one of `mode` `opt` (`loss`: mean over its batches) and one of `eval` (`loss` and
    errors, with the averaged weights). `epoch` counts the epochs done in the `stage`, `training`
    or `convergence`; `time` (s) is that of the epoch, its validation included.
    """
    if not isinstance(event, TrainingFinished | ConvergenceAdvanced):
        return
    stage = "convergence" if isinstance(event, ConvergenceAdvanced) else "training"
    found = [line for errors in event.errors for line in _epoch(errors)]
    text = "".join(json.dumps({**line, "stage": stage}) + "\n" for line in found)
    run.losses.mkdir(parents=True, exist_ok=True)
    append(losses_file(run, event.tag), text.encode())


def _epoch(errors: Errors) -> list[dict[str, Any]]:
    measured = errors.model_dump(exclude=_STEERING, exclude_none=True)
    timing = {"epoch": errors.epoch, "time": errors.seconds}
    validation = {"loss": errors.valid_loss, **measured, **timing, "mode": "eval"}
    if errors.train_loss is None:  # the weights that a convergence began with
        return [validation]
    return [{"loss": errors.train_loss, **timing, "lr": errors.lr, "mode": "opt"}, validation]
