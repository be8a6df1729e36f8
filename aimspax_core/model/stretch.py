"""What happens around the epochs of a stretch of training: when it ends, what validations steer."""

from __future__ import annotations

from typing import Protocol

from aimspax_core.model.learner import Learner, Metrics
from aimspax_core.model.schedule import Convergence, Progress


class Trained(Protocol):
    """A member, as far as what happens around its epochs is concerned."""

    learner: Learner
    progress: Progress
    best_metrics: Metrics | None

    @property
    def epoch(self) -> int:
        """Epochs of the present stage that are done."""
        ...

    def renew_optimizer(self) -> None:
        """Begin with a fresh optimizer."""
        ...

    def keep_best(self, metrics: Metrics) -> None:
        """Keep the present weights as the best."""
        ...


class Stretch(Protocol):
    """What a call to `train` or `converge` does around the epochs."""

    scheduler: bool

    def ended(self) -> bool:
        """Return whether the present epoch is the last; asked at epoch boundaries."""
        ...

    def before(self) -> None:
        """Prepare the next epoch."""
        ...

    def after(self, metrics: Metrics) -> None:
        """Draw the consequences of a validation that steers."""
        ...


class Rounds:
    """Training within rounds: so many epochs; an optimizer that is stuck is renewed.

    Args:
        member: Who trains.
        last: Epoch of the stage after which the stretch ends.
        scheduler: Whether the scheduler acts.
        patience: The optimizer is renewed after more than so many validations without a better
            one; none: never.
    """

    def __init__(self, member: Trained, last: int, scheduler: bool, patience: int | None) -> None:
        self.scheduler = scheduler
        self._member, self._last, self._patience = member, last, patience

    def ended(self) -> bool:
        """Return whether all epochs are done."""
        return self._member.epoch >= self._last

    def before(self) -> None:
        """Prepare nothing."""

    def after(self, metrics: Metrics) -> None:
        """Count the validation; out of patience, renew the optimizer."""
        progress = self._member.progress
        progress.count(metrics.valid_loss, margin=0.0)
        if self._patience is not None and progress.validations_without_improvement > self._patience:
            # A kick out of a local minimum.
            self._member.renew_optimizer()
            progress.validations_without_improvement = 0


class Converging:
    """A convergence: the best weights are kept, stage two begins when it is due.

    Args:
        member: Who trains.
        rules: When stage two begins, and when the convergence ends.
        margin: A validation loss must be lower by more than this to count as better.
    """

    scheduler = True

    def __init__(self, member: Trained, rules: Convergence, margin: float) -> None:
        self._member, self._rules, self._margin = member, rules, margin

    def ended(self) -> bool:
        """Return whether the convergence has ended."""
        return self._rules.ended(self._member.progress)

    def before(self) -> None:
        """Begin stage two if it is due."""
        if self._rules.stage_two_due(self._member.progress):
            self._member.learner.begin_stage_two()
            self._member.progress.begin_stage_two()

    def after(self, metrics: Metrics) -> None:
        """Count the validation; keep the weights if they are the best so far."""
        progress, best = self._member.progress, self._member.best_metrics
        began = progress.stage_two_from
        other_loss = best is not None and began is not None and best.epoch <= began
        if best is None or other_loss or metrics.valid_loss < best.valid_loss:
            self._member.keep_best(metrics)
        progress.count(metrics.valid_loss, self._margin)
