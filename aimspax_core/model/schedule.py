"""How a stretch of training goes about it, and when a convergence changes stage and ends."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from aimspax_core.model.mace.learner import Metrics
from aimspax_core.settings.model import ModelSettings

log = logging.getLogger(f"aimspax.{__name__}")

OnEpoch = Callable[[int, Metrics | None], None]


@dataclass(frozen=True)
class Chunk:
    """How one call to `Member.train` or `Member.converge` goes about it.

    Attributes:
        finished: Whether the present epoch is the last; asked at epoch boundaries.
        prepare: Called before every epoch.
        judge: Called with every validation that steers.
        valid_skip: As their arguments, like all that follow.
        scheduler: See there.
        time_budget_s: See there.
        step: See there.
        clock: See there.
        on_epoch: See there.
    """

    finished: Callable[[], bool]
    prepare: Callable[[], None]
    judge: Callable[[Metrics], None]
    valid_skip: int
    scheduler: bool
    time_budget_s: float
    step: int
    clock: Callable[[], float]
    on_epoch: OnEpoch | None


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

    @classmethod
    def of(
        cls, settings: ModelSettings, max_epochs: int, patience: int, valid_skip: int
    ) -> Convergence:
        """Return the rules that follow from the settings."""
        return cls(max_epochs, patience, valid_skip, start_of_stage_two(settings, max_epochs))

    def stage_two_due(self, epoch: int, last_improvement: int, began: int | None) -> bool:
        """Return whether stage two begins with the next epoch.

        Args:
            epoch: Epochs done.
            last_improvement: Epoch of the last improvement in this stage.
            began: Epoch at which stage two began, or none.
        """
        if self.start is None or began is not None:
            return False
        return epoch >= self.start or self._out_of_patience(epoch, last_improvement)

    def ended(self, epoch: int, last_improvement: int, began: int | None) -> bool:
        """Return whether the convergence has ended; arguments as in `stage_two_due`."""
        if self.start is None:
            last, stage_two_to_come = self.max_epochs, False
        elif began is None:
            last, stage_two_to_come = self.max_epochs, True
        else:
            last, stage_two_to_come = began + self.max_epochs - self.start, False
        patient = stage_two_to_come or not self._out_of_patience(epoch, last_improvement)
        return epoch >= last or not patient

    def _out_of_patience(self, epoch: int, last_improvement: int) -> bool:
        validated = epoch > 0 and epoch % self.valid_skip == 0
        return validated and epoch - last_improvement >= self.patience


def start_of_stage_two(settings: ModelSettings, max_epochs: int) -> int | None:
    """Return the epochs that a convergence trains before MACE's stage two, or none without it.

    `start_swa` not given: three quarters of the epochs (`mace.tools.scripts_utils.get_swa`).
    """
    training = settings.TRAINING
    if not training.swa:
        return None
    start = max(1, max_epochs // 4 * 3) if training.start_swa is None else training.start_swa
    if start >= max_epochs:
        log.warning(
            "there will be no stage two (swa): it would begin at epoch %d of at most %d",
            *(start, max_epochs),
        )
        return None
    return start
