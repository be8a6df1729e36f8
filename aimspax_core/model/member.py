"""One member of the ensemble in training: stages, chunks, patience and checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path

import torch
from mace.data import AtomicData
from mace.tools.torch_geometric.batch import Batch
from torch_ema import ExponentialMovingAverage

from aimspax_core.errors import ModelError
from aimspax_core.model.checkpoint import read_checkpoint, restore, state_of
from aimspax_core.model.mace.build import Constants, build, constants_of, set_constants
from aimspax_core.model.mace.learner import Learner, Metrics
from aimspax_core.model.mace.model_files import write_atomically
from aimspax_core.model.schedule import Chunk, Convergence, OnEpoch
from aimspax_core.settings.model import ModelSettings


class Stage(StrEnum):
    """What a member is being trained for; each has its own optimizer and counters.

    INITIAL has a scheduler, ACTIVE none; CONVERGE starts from the averaged weights with a new
    EMA, optimizer and scheduler, and keeps the best epoch's weights. With `TRAINING.swa` it has
    MACE's stage two at its end: another loss, another learning rate, and a best epoch of its own.
    """

    INITIAL = "initial"
    ACTIVE = "active"
    CONVERGE = "converge"


class Member:
    """A MACE model in training; resumable from its checkpoint at every epoch boundary.

    Training n epochs, saving, loading elsewhere and training m more gives the same weights as
    n + m in one go: the order of batches follows from seed, stage and epoch alone, and only
    validations at multiples of `valid_skip` steer scheduler and patience.
    After a `ModelError` from training the weights are spoilt: load the last checkpoint again.

    Attributes:
        tag: Name of the member.
        seed: Seed of its first weights, and of the order of its batches unless `TRAINING.seed`
            is given.
        elements: Atomic numbers, sorted.
        settings: The user's model settings.
        constants: Data-dependent constants of the model.
        learner: Model, averages, optimizer and scheduler.
        stage: See `Stage`.
        epoch: Epochs done in this stage.
        total_epochs: Epochs done in all stages.
        best_valid_loss: Lowest validation loss of the stage (CONVERGE: the last that was better
            by more than the margin).
        validations_without_improvement: Counted since then, or since the last fresh optimizer.
        last_improvement: Epoch of `best_valid_loss`.
        best_weights: CONVERGE: weights of the best epoch, by name, or none.
        best_metrics: CONVERGE: their validation; of stage two, whose loss is
            another function, as soon as it has been validated.
        stage_two_from: CONVERGE: epoch at which MACE's stage two (SWA) began, or none.
        keeps_energies: Atomic energies are no fit to the training set, but a given model's.
    """

    epoch: int
    best_valid_loss: float
    validations_without_improvement: int
    last_improvement: int
    best_metrics: Metrics | None
    stage_two_from: int | None
    keeps_energies: bool = False
    best_weights: dict[str, torch.Tensor] | None

    def __init__(
        self,
        settings: ModelSettings,
        elements: Sequence[int],
        tag: str,
        seed: int,
        constants: Constants,
    ) -> None:
        self.settings, self.tag, self.seed = settings, tag, int(seed)
        self.elements = sorted(int(z) for z in elements)
        self.constants = constants
        model = build(settings, self.elements, constants, self.seed)
        self.learner = Learner(settings, model, scheduler=True)
        self.stage = Stage.INITIAL
        self.total_epochs = 0
        self._reset_counters()

    @classmethod
    def create(
        cls,
        settings: ModelSettings,
        elements: Sequence[int],
        tag: str,
        seed: int,
        train: Sequence[AtomicData],
    ) -> Member:
        """Return a fresh member in `Stage.INITIAL`, its constants taken from `train`."""
        return cls(settings, elements, tag, seed, constants_of(train, elements, settings))

    @classmethod
    def load(cls, path: Path, settings: ModelSettings) -> Member:
        """Return the member that `save` wrote to `path`.

        Raises:
            ModelError: There is no checkpoint, or it does not fit `settings`.
        """
        state = read_checkpoint(Path(path))
        dtype = settings.GENERAL.default_dtype
        if state["dtype"] != dtype:
            raise ModelError(f"checkpoint {path} is in {state['dtype']}, the settings say {dtype}")
        constants = Constants(**state["constants"])
        member = cls(settings, state["elements"], state["tag"], state["seed"], constants)
        try:
            member.enter(Stage(state["stage"]))
            restore(member, state)
        except (KeyError, RuntimeError, ValueError) as error:
            raise ModelError(f"checkpoint {path} does not fit these settings: {error}") from error
        return member

    def save(self, path: Path) -> None:
        """Write all that is needed to go on, atomically; plain containers and tensors only.

        Raises:
            ModelError: The weights are not finite.
        """
        write_atomically(state_of(self), path)

    @property
    def model(self) -> torch.nn.Module:
        """The model with its raw weights."""
        return self.learner.model

    @property
    def ema(self) -> ExponentialMovingAverage | None:
        """The averaged weights, or none."""
        return self.learner.ema

    def enter(self, stage: Stage) -> None:
        """Begin a stage: new optimizer, new scheduler where the stage has one, counters at 0.

        From a convergence the member goes on with the weights of its best epoch.
        """
        if self.best_weights is not None:
            self.learner.restart_from(self.best_weights)
        self.stage = Stage(stage)
        if self.stage is Stage.CONVERGE:
            self.learner.take_averages(raw=self.settings.MISC.restart_latest)
        self.learner.fresh_optimizer(scheduler=self.stage is not Stage.ACTIVE)
        self._reset_counters()

    def renew_constants(self, train: Sequence[AtomicData]) -> None:
        """Take the data-dependent constants from a training set that has grown.

        Raises:
            ModelError: They would change under the best weights that a convergence keeps.
        """
        known = self.constants.atomic_energies if self.keeps_energies else None
        constants = constants_of(train, self.elements, self.settings, known)
        if self.best_weights is not None and constants != self.constants:
            raise ModelError(f"{self.tag}: the training set must not change while converging")
        self.constants = constants
        set_constants(self.model, constants, self.elements)

    def train(
        self,
        train: Sequence[AtomicData],
        valid: Sequence[AtomicData],
        *,
        epochs: int,
        valid_skip: int,
        scheduler: bool,
        patience: int | None = None,
        time_budget_s: float = math.inf,
        step: int = 1,
        clock: Callable[[], float] = time.monotonic,
        on_epoch: OnEpoch | None = None,
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
            time_budget_s: Stop after the first `step` that ends beyond it.
            step: Epochs between two looks at the clock; one step is always done.
            clock: Seconds.
            on_epoch: Called after each epoch with the stage's epoch and its validation, if any.

        Raises:
            ModelError: A loss or weight became non-finite, or a set is empty.
        """
        if self.stage is Stage.CONVERGE:
            raise ValueError("a converging member goes on with converge()")
        last = self.epoch + epochs

        def judge(metrics: Metrics) -> None:
            self._note(metrics, margin=0.0)
            if patience is not None and self.validations_without_improvement > patience:
                # A kick out of a local minimum.
                self.learner.fresh_optimizer(scheduler=self.stage is not Stage.ACTIVE)
                self.validations_without_improvement = 0

        how = (valid_skip, scheduler, time_budget_s, step, clock, on_epoch)
        return self._run(train, valid, Chunk(lambda: self.epoch >= last, lambda: None, judge, *how))

    def converge(
        self,
        train: Sequence[AtomicData],
        valid: Sequence[AtomicData],
        *,
        max_epochs: int,
        patience: int,
        margin: float,
        valid_skip: int = 1,
        time_budget_s: float = math.inf,
        step: int = 1,
        clock: Callable[[], float] = time.monotonic,
        on_epoch: OnEpoch | None = None,
    ) -> tuple[list[Metrics], bool]:
        """Train a chunk of the convergence; call again until it has finished.

        The weights it begins with are validated as epoch 0 and may be the best; they do not
        count for patience.

        Args:
            train: As in `train`, like all that are not explained here.
            valid: See there.
            max_epochs: Of the whole convergence; the last one is always validated.
            patience: Epochs without an improvement of the validation loss by more than `margin`;
                then it ends, or MACE's stage two begins if it is still to come (see `Convergence`).
            margin: See there. The kept best weights are of the lowest loss whatever the margin.
            valid_skip: Validate at multiples of it.
            time_budget_s: Of this chunk.
            step: See `train`.
            clock: See `train`.
            on_epoch: See `train`.

        Returns:
            The validations of this chunk, and whether the convergence has finished.
        """
        if self.stage is not Stage.CONVERGE:
            raise ValueError("enter(Stage.CONVERGE) first")
        rules = Convergence.of(self.settings, max_epochs, patience, valid_skip)

        def finished() -> bool:
            return rules.ended(self.epoch, self.last_improvement, self.stage_two_from)

        def prepare() -> None:
            if rules.stage_two_due(self.epoch, self.last_improvement, self.stage_two_from):
                self._begin_stage_two()

        first = []
        if self.best_metrics is None:
            start, batches = clock(), self.learner.valid_batches(valid)
            first.append(self._validate(batches, None, self.learner.lr, lambda: clock() - start))
            self._keep(first[0])
        how = (valid_skip, True, time_budget_s, step, clock, on_epoch)
        judge = partial(self._note, margin=margin)
        more = self._run(train, valid, Chunk(finished, prepare, judge, *how))
        return first + more, finished()

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

    def _run(
        self,
        train: Sequence[AtomicData],
        valid: Sequence[AtomicData],
        chunk: Chunk,
    ) -> list[Metrics]:
        """Train epoch after epoch until finished or out of time."""
        started, results = chunk.clock(), []
        batches = self.learner.valid_batches(valid)
        while not chunk.finished():
            for _ in range(chunk.step):
                metrics = self._epoch(train, batches, chunk)
                if metrics is not None:
                    results.append(metrics)
                if chunk.on_epoch is not None:
                    chunk.on_epoch(self.epoch, metrics)
                if chunk.finished():
                    break
            if chunk.clock() - started >= chunk.time_budget_s:
                break
        return results

    def _epoch(
        self,
        train: Sequence[AtomicData],
        valid: Sequence[Batch],
        chunk: Chunk,
    ) -> Metrics | None:
        """Train one epoch and validate if it is due; let the validation steer."""
        started = chunk.clock()
        with self._named(self.epoch + 1):
            chunk.prepare()
            self.learner.begin_epoch()
            lr = self.learner.lr
            train_loss = self.learner.train_epoch(train, self._order())
        self.epoch += 1
        self.total_epochs += 1
        if chunk.scheduler:
            self.learner.step_scheduler(None)
        due = self.epoch % chunk.valid_skip == 0
        if not due and not chunk.finished():
            return None
        metrics = self._validate(valid, train_loss, lr, lambda: chunk.clock() - started)
        # The end of a convergence is part of its settings; the end of a call to train() is not,
        # and must not steer, or training in parts would differ from training in one go.
        if due or self.stage is Stage.CONVERGE:
            if chunk.scheduler:
                self.learner.step_scheduler(metrics.valid_loss)
            chunk.judge(metrics)
        return metrics

    def _order(self) -> tuple[int, int, int]:
        """What the order of the next epoch's batches follows from."""
        shared = self.settings.TRAINING.seed
        own = self.seed if shared is None else shared
        return own, list(Stage).index(self.stage), self.epoch

    def _validate(
        self,
        valid: Sequence[Batch],
        train_loss: float | None,
        lr: float,
        seconds: Callable[[], float],
    ) -> Metrics:
        with self._named(self.epoch):
            loss, errors = self.learner.validate(valid)
        return Metrics(self.epoch, train_loss, loss, lr=lr, seconds=seconds(), **errors)

    def _note(self, metrics: Metrics, margin: float) -> None:
        """Count a validation; in CONVERGE keep its weights if it is the best so far."""
        best = self.best_metrics
        if best is not None:
            other_loss = self.stage_two_from is not None and best.epoch <= self.stage_two_from
            if other_loss or metrics.valid_loss < best.valid_loss:
                self._keep(metrics)
        if self.best_valid_loss - metrics.valid_loss > margin:
            self.best_valid_loss = metrics.valid_loss
            self.last_improvement = self.epoch
            self.validations_without_improvement = 0
        else:
            self.validations_without_improvement += 1

    def _keep(self, metrics: Metrics) -> None:
        self.best_metrics, self.best_weights = metrics, self.learner.averaged_weights()

    def _begin_stage_two(self) -> None:
        """Go on with MACE's stage two; its losses are compared among themselves only."""
        self.learner.begin_stage_two()
        self.stage_two_from = self.last_improvement = self.epoch
        self.best_valid_loss = math.inf
        self.validations_without_improvement = 0

    def _reset_counters(self) -> None:
        self.epoch = 0
        self.best_valid_loss = math.inf
        self.validations_without_improvement = 0
        self.last_improvement = 0
        self.best_metrics = None
        self.best_weights = None
        self.stage_two_from = None

    @contextmanager
    def _named(self, epoch: int) -> Iterator[None]:
        """Say in an error which member failed, and when."""
        try:
            yield
        except ModelError as error:
            raise ModelError(f"{self.tag}, epoch {epoch} of stage {self.stage}: {error}") from error
