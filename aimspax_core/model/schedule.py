"""The stages of a training: how long a stretch of one lasts, how far it is, when it ends."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from aimspax_core.settings.model import ModelSettings


class Stage(StrEnum):
    """What a member is being trained for; each has its own optimizer and counters.

    INITIAL has a scheduler, ACTIVE none; CONVERGE starts from the averaged weights with a new
    EMA, optimizer and scheduler, and keeps the best epoch's weights. With `TRAINING.swa` it has
    a second stage at its end: another loss, another learning rate, and a best epoch of its own.
    """

    INITIAL = "initial"
    ACTIVE = "active"
    CONVERGE = "converge"


@dataclass(frozen=True)
class Budget:
    """The time that a call to `Member.train` or `Member.converge` has.

    Attributes:
        seconds: Training stops after the first step that ends beyond it.
        step: Epochs between two looks at the clock; one step is always done.
        clock: Returns seconds.
        epochs: Training stops after so many epochs, wherever that is; None: after none.
    """

    seconds: float = math.inf
    step: int = 1
    clock: Callable[[], float] = time.monotonic
    epochs: int | None = None


@dataclass
class Progress:
    """How far a member is in its stage.

    Attributes:
        epoch: Epochs done in this stage.
        best_valid_loss: Lowest validation loss of the stage (CONVERGE: the last that was better
            by more than the margin).
        validations_without_improvement: Counted since then, or since the last fresh optimizer.
        last_improvement: Epoch of `best_valid_loss`.
        stage_two_from: CONVERGE: epoch at which the second stage (SWA) began, or none.
    """

    epoch: int = 0
    best_valid_loss: float = math.inf
    validations_without_improvement: int = 0
    last_improvement: int = 0
    stage_two_from: int | None = None

    def count(self, valid_loss: float, margin: float) -> None:
        """Count a validation; only one that is better by more than the margin is an improvement."""
        if self.best_valid_loss - valid_loss > margin:
            self.best_valid_loss = valid_loss
            self.last_improvement = self.epoch
            self.validations_without_improvement = 0
        else:
            self.validations_without_improvement += 1

    def begin_stage_two(self) -> None:
        """Begin the second stage, whose losses are compared among themselves only."""
        self.stage_two_from = self.last_improvement = self.epoch
        self.best_valid_loss = math.inf
        self.validations_without_improvement = 0


@dataclass(frozen=True)
class Convergence:
    """When a convergence goes over to stage two, and when it ends, as `mace.tools.train` has it.

    If patience runs out in stage one, stage two begins at once, and has as many epochs as it
    would have had; patience then counts anew.

    Attributes:
        max_epochs: Most epochs, if stage two begins when it should.
        patience: Epochs without an improvement.
        valid_skip: Epochs between validations; patience runs out at validations only.
        start: Epochs before stage two; none: there is no stage two.
    """

    max_epochs: int
    patience: int
    valid_skip: int
    start: int | None

    def stage_two_due(self, progress: Progress) -> bool:
        """Return whether stage two begins with the next epoch."""
        if self.start is None or progress.stage_two_from is not None:
            return False
        return progress.epoch >= self.start or self._out_of_patience(progress)

    def ended(self, progress: Progress) -> bool:
        """Return whether the convergence has ended."""
        began = progress.stage_two_from
        stage_two_to_come = self.start is not None and began is None
        last = self.max_epochs
        if self.start is not None and began is not None:
            last = began + self.max_epochs - self.start
        patient = stage_two_to_come or not self._out_of_patience(progress)
        return progress.epoch >= last or not patient

    def _out_of_patience(self, progress: Progress) -> bool:
        validated = progress.epoch > 0 and progress.epoch % self.valid_skip == 0
        return validated and progress.epoch - progress.last_improvement >= self.patience


def start_of_stage_two(settings: ModelSettings, max_epochs: int) -> int | None:
    """Return the epochs that a convergence trains before stage two, or none without it.

    `start_swa` not given: three quarters of the epochs (`mace.tools.scripts_utils.get_swa`).
    """
    training = settings.TRAINING
    if not training.swa:
        return None
    start = max(1, max_epochs // 4 * 3) if training.start_swa is None else training.start_swa
    return start if start < max_epochs else None  # a note on the settings tells the user
