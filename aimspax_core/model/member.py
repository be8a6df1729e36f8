"""One member of the ensemble in training: stages, stretches of epochs, checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from aimspax_core.errors import ModelError
from aimspax_core.model.checkpoint import read_checkpoint, write_checkpoint
from aimspax_core.model.family import Constants, Graph, family_of
from aimspax_core.model.learner import Learner, Metrics
from aimspax_core.model.member_content import content_of, restore
from aimspax_core.model.schedule import Budget, Convergence, Progress, Stage, start_of_stage_two
from aimspax_core.model.skeletons import skeletons
from aimspax_core.model.stretch import Converging, Rounds, Stretch
from aimspax_core.settings.model import ModelSettings


class Member:
    """A model in training; resumable from its checkpoint at every epoch boundary.

    Training n epochs, saving, loading elsewhere and training m more gives the same weights as
    n + m in one go: the order of batches follows from seed, stage and epoch alone, and only
    validations at multiples of `valid_skip` steer scheduler and patience.
    After a `ModelError` from training the weights are spoilt: load the last checkpoint again.

    Args:
        settings: The user's; they name the family.
        elements: Atomic numbers that the model is to know.
        tag: Name of the member.
        seed: Seed of its first weights, and of the order of its batches unless `TRAINING.seed`
            is given.
        constants: Data-dependent constants of the model.
        model: A model with these constants, of these settings and elements, to begin with as it is;
            none: a new one with the weights of the seed.

    Attributes:
        tag: As given.
        seed: As given.
        elements: Sorted.
        settings: As given.
        constants: Those that hold now.
        learner: Model, averages, optimizer and scheduler.
        stage: See `Stage`.
        progress: How far the member is in its stage.
        total_epochs: Epochs done in all stages.
        best_weights: CONVERGE: weights of the best epoch, by name, or none.
        best_metrics: CONVERGE: their validation; of stage two, whose loss is
            another function, as soon as it has been validated.
        keeps_energies: Atomic energies are no fit to the training set, but a given model's.
        keeps_scaling: All other constants are no fit to it, but a pretrained model's.
        family: Of its model.
        solved_on: What tells the set on which its energies were solved for; empty: on none.
        settled: Its energies were solved for since its last epoch, where they are at all.
        attempt: Changes the order of batches; 0 unless training diverged here before.
    """

    progress: Progress
    best_metrics: Metrics | None
    best_weights: dict[str, torch.Tensor] | None

    def __init__(
        self,
        settings: ModelSettings,
        elements: Sequence[int],
        tag: str,
        seed: int,
        constants: Constants,
        model: torch.nn.Module | None = None,
    ) -> None:
        self.settings, self.tag, self.seed = settings, tag, int(seed)
        self.elements = sorted(int(z) for z in elements)
        self.constants = constants
        self.family = family_of(settings)
        if model is None:
            model = skeletons().build(settings, self.elements, constants, self.seed)
        self.learner = Learner(self.family, settings, model, scheduler=True)
        self.stage = Stage.INITIAL
        self.total_epochs = self.attempt = 0
        self.keeps_energies = self.keeps_scaling = False
        self.solved_on = ""
        self.settled = True
        self._begin_stage()

    @classmethod
    def create(
        cls,
        settings: ModelSettings,
        elements: Sequence[int],
        tag: str,
        seed: int,
        train: Sequence[Graph],
    ) -> Member:
        """Return a fresh member in `Stage.INITIAL`, its constants taken from `train`."""
        constants = family_of(settings).constants_of(train, elements, settings)
        return cls(settings, elements, tag, seed, constants)

    @classmethod
    def load(cls, path: Path, settings: ModelSettings, used: Member | None = None) -> Member:
        """Return the member that `save` wrote to `path`.

        Args:
            path: The file.
            settings: The member's.
            used: A member that nobody needs any more. Its model is loaded anew if it is of the same
                settings and elements, which saves building one; nothing that it learnt is left.

        Raises:
            DamagedError: There is no checkpoint, or it is not as it was written.
            ModelError: It does not fit `settings`.
        """
        state = read_checkpoint(Path(path))
        dtype = settings.GENERAL.default_dtype
        if state["dtype"] != dtype:
            raise ModelError(f"checkpoint {path} is in {state['dtype']}, the settings say {dtype}")
        try:
            elements = state["elements"]
            family = family_of(settings)
            constants = family.constants(**state["constants"])
            held = family.settings_of(settings, state["learner"]["model"])
            if used is not None and used.fits(held, elements):
                model = used.bare_model(constants)
            else:
                model = skeletons().copy(held, elements, constants)
            member = cls(settings, elements, state["tag"], state["seed"], constants, model)
            member.enter(Stage(state["stage"]))
            restore(member, state)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ModelError(f"checkpoint {path} does not fit these settings: {error}") from error
        return member

    def save(self, path: Path) -> None:
        """Write all that is needed to go on, atomically; plain containers and tensors only.

        Raises:
            ModelError: The weights are not finite.
        """
        write_checkpoint(content_of(self), path)

    @property
    def model(self) -> torch.nn.Module:
        """The model with its raw weights."""
        return self.learner.model

    @property
    def epoch(self) -> int:
        """Epochs done in this stage."""
        return self.progress.epoch

    def fits(self, settings: ModelSettings, elements: Sequence[int]) -> bool:
        """Whether the model is one of these settings and elements."""
        held = self.family.settings_of(self.settings, self.model.state_dict())
        return held == settings and self.elements == list(elements)

    def bare_model(self, constants: Constants) -> torch.nn.Module:
        """Give the model away, to be loaded with other weights, with these constants."""
        self.family.set_constants(self.model, constants, self.elements)
        self.model.zero_grad(set_to_none=True)
        return self.model.train()

    def enter(self, stage: Stage) -> None:
        """Begin a stage: new optimizer, new scheduler where the stage has one, counters at 0.

        From a convergence the member goes on with the weights of its best epoch.
        """
        if self.best_weights is not None:
            self.learner.restart_from(self.best_weights)
        self.stage = Stage(stage)
        if self.stage is Stage.CONVERGE:
            self.learner.take_averages(raw=self.settings.MISC.restart_latest)
        self.renew_optimizer()
        self._begin_stage()

    def renew_optimizer(self) -> None:
        """Forget the optimizer's moments and the learning rate; ACTIVE has no scheduler."""
        self.learner.fresh_optimizer(scheduler=self.stage is not Stage.ACTIVE)

    def try_again(self, attempt: int) -> None:
        """Prepare for a stretch of training that has diverged before.

        Args:
            attempt: How often; 0: it has not, and everything stays as it is. Else the optimizer is
                a fresh one, and the batches come in another order in each attempt.
        """
        self.attempt = attempt
        if attempt:
            self.renew_optimizer()
            if self.progress.stage_two_from is not None:
                self.learner.begin_stage_two()

    def errors_on(self, valid: Sequence[Graph]) -> Metrics:
        """Validate the member as it is.

        Raises:
            DivergedError: The loss is not finite.
            ModelError: The set is empty, or has no energies or forces.
        """
        return self._validate(self.learner.steps.batches(valid), None, self.learner.lr, lambda: 0.0)

    def renew_constants(self, train: Sequence[Graph]) -> None:
        """Take the data-dependent constants from a training set that has grown.

        Raises:
            ModelError: They would change under the best weights that a convergence keeps.
        """
        if self.keeps_scaling:
            return
        known = self.constants.atomic_energies if self.keeps_energies else None
        constants = self.family.constants_of(train, self.elements, self.settings, known)
        if self.best_weights is not None and constants != self.constants:
            raise ModelError(f"{self.tag}: the training set must not change while converging")
        self.set_constants(constants)

    def set_constants(self, constants: Constants) -> None:
        """Take other constants; the weights stay."""
        self.constants = constants
        self.family.set_constants(self.model, constants, self.elements)

    def train(
        self,
        train: Sequence[Graph],
        valid: Sequence[Graph],
        *,
        epochs: int,
        valid_skip: int,
        scheduler: bool,
        patience: int | None = None,
        budget: Budget | None = None,
    ) -> list[Metrics]:
        """Train up to `epochs` more epochs (INITIAL or ACTIVE) and return the validations.

        Args:
            train: Training graphs.
            valid: Validation graphs.
            epochs: How many more.
            valid_skip: Validate at multiples of it, counted over the stage, and after the last
                epoch asked for; a validation off the multiples is only reported.
            scheduler: Let the scheduler act; ACTIVE has none anyhow.
            patience: A fresh optimizer after more than so many validations without a better one.
            budget: How long; without one, all epochs.

        Raises:
            DivergedError: A loss or weight became non-finite.
            ModelError: A set is empty.
        """
        if self.stage is Stage.CONVERGE:
            raise ValueError("a converging member goes on with converge()")
        stretch = Rounds(self, self.epoch + epochs, scheduler, patience)
        return self._run(stretch, train, valid, valid_skip, budget or Budget())

    def converge(
        self,
        train: Sequence[Graph],
        valid: Sequence[Graph],
        *,
        max_epochs: int,
        patience: int,
        margin: float,
        valid_skip: int = 1,
        budget: Budget | None = None,
    ) -> tuple[list[Metrics], bool]:
        """Train a stretch of the convergence; call again until it has finished.

        The weights it begins with are validated as epoch 0 and may be the best; they do not
        count for patience.

        Args:
            train: As in `train`, like all that are not explained here.
            valid: See there.
            max_epochs: Of the whole convergence; the last one is always validated.
            patience: Epochs without an improvement of the validation loss by more than `margin`;
                then it ends, or stage two begins if it is still to come (see `Convergence`).
            margin: See there. The kept best weights are of the lowest loss whatever the margin.
            valid_skip: Validate at multiples of it.
            budget: Of this stretch; without one, the whole convergence.

        Returns:
            The validations of this stretch, and whether the convergence has finished.
        """
        if self.stage is not Stage.CONVERGE:
            raise ValueError("enter(Stage.CONVERGE) first")
        budget = budget or Budget()
        start = start_of_stage_two(self.settings, max_epochs)
        stretch = Converging(self, Convergence(max_epochs, patience, valid_skip, start), margin)
        first = []
        if self.best_metrics is None:
            began, batches = budget.clock(), self.learner.steps.batches(valid)
            lr = self.learner.lr
            first.append(self._validate(batches, None, lr, lambda: budget.clock() - began))
            self.keep_best(first[0])
        more = self._run(stretch, train, valid, valid_skip, budget)
        return first + more, stretch.ended()

    def averaged_model(self) -> torch.nn.Module:
        """Return a copy of the model on the CPU with the averaged weights (raw without EMA)."""
        return self.learner.model_with(self.learner.averaged_weights())

    def best_model(self) -> torch.nn.Module:
        """Return a copy of the model on the CPU with the weights of the convergence's best epoch.

        Raises:
            ModelError: No convergence has begun.
        """
        if self.best_weights is None:
            raise ModelError(f"{self.tag} has no best epoch: it has not begun to converge")
        return self.learner.model_with(self.best_weights)

    def keep_best(self, metrics: Metrics) -> None:
        """Keep the present averaged weights as those of the best epoch."""
        self.best_metrics, self.best_weights = metrics, self.learner.averaged_weights()

    def _run(
        self,
        stretch: Stretch,
        train: Sequence[Graph],
        valid: Sequence[Graph],
        valid_skip: int,
        budget: Budget,
    ) -> list[Metrics]:
        """Train epoch after epoch until the stretch has ended or its time is up."""
        began, results = budget.clock(), []
        batches = self.learner.steps.batches(valid)
        last = math.inf if budget.epochs is None else self.total_epochs + budget.epochs
        while not stretch.ended() and self.total_epochs < last:
            for _ in range(budget.step):
                metrics = self._epoch(stretch, train, batches, valid_skip, budget.clock)
                if metrics is not None:
                    results.append(metrics)
                if stretch.ended() or self.total_epochs >= last:
                    break
            if budget.clock() - began >= budget.seconds:
                break
        return results

    def _epoch(
        self,
        stretch: Stretch,
        train: Sequence[Graph],
        batches: Sequence[Any],
        valid_skip: int,
        clock: Callable[[], float],
    ) -> Metrics | None:
        """Train one epoch and validate if it is due; let the validation steer."""
        began = clock()
        with self._named(self.epoch + 1):
            stretch.before()
            self.learner.begin_epoch()
            lr = self.learner.lr
            train_loss = self.learner.train_epoch(train, self._order())
        self.progress.epoch += 1
        self.total_epochs += 1
        self.settled = False
        if stretch.scheduler:
            self.learner.end_epoch()
        due = self.epoch % valid_skip == 0
        if not due and not stretch.ended():
            return None
        metrics = self._validate(batches, train_loss, lr, lambda: clock() - began)
        # The end of a convergence is part of its settings; the end of a call to train() is not,
        # and must not steer, or training in parts would differ from training in one go.
        if due or self.stage is Stage.CONVERGE:
            if stretch.scheduler:
                self.learner.end_validation(metrics.valid_loss)
            stretch.after(metrics)
        return metrics

    def _order(self) -> tuple[int, ...]:
        """What the order of the next epoch's batches follows from."""
        shared = self.settings.TRAINING.seed
        own = self.seed if shared is None else shared
        again = (self.attempt,) if self.attempt else ()
        return own, list(Stage).index(self.stage), self.epoch, *again

    def _validate(
        self,
        batches: Sequence[Any],
        train_loss: float | None,
        lr: float,
        seconds: Callable[[], float],
    ) -> Metrics:
        with self._named(self.epoch):
            loss, errors = self.learner.validate(batches)
        return Metrics(self.epoch, train_loss, loss, lr=lr, seconds=seconds(), **errors)

    def _begin_stage(self) -> None:
        self.progress = Progress()
        self.best_metrics = None
        self.best_weights = None

    @contextmanager
    def _named(self, epoch: int) -> Iterator[None]:
        """Say in an error which member failed, and when."""
        try:
            yield
        except ModelError as error:
            where = f"{self.tag}, epoch {epoch} of stage {self.stage}"
            raise type(error)(f"{where}: {error}") from error
