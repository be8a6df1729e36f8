"""The members of a campaign as an independent reader adds them up: sets, rounds, convergence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Sets = dict[str, tuple[tuple[str, ...], tuple[str, ...]]]
"""Label keys of each member's training and validation set, by tag."""


@dataclass(frozen=True)
class Stand:
    """How a member stood at a checkpoint; see `Member`."""

    epochs: int = 0
    all_epochs: int | None = 0
    errors: dict[str, Any] | None = None
    measured_on: tuple[str, ...] | None = None


@dataclass
class Member:
    """One model of the ensemble, as far as its events have come.

    Attributes:
        training: Keys of its own training set, without what exploring found.
        validation: Keys of its own validation set.
        checkpoint: Name of the checkpoint of its last round.
        epochs: Epochs of rounds.
        all_epochs: With those of an initial convergence that it went on from; None: nobody knows.
        errors: Its last errors, as the journal has them.
        measured_on: The validation set that they were measured on; None: nobody knows.
        converging: Name of the checkpoint of its convergence.
        converge_epochs: Epochs of its convergence.
        best: Errors of the convergence's best epoch.
        best_measured_on: As `measured_on`.
        converged_on: What its convergence is on: `own`, or the sets of all members.
        diverged: How often in a row its training diverged.
        sat_out: How many rounds in a row it has sat out.
        set_back: Whether `checkpoint` is lost: the next task says what it goes on from.
        converge_set_back: The same of `converging`.
        stands: How it stood at each checkpoint of its rounds; at None before the first.
        converge_stands: Epochs and errors at each checkpoint of its convergence.
        settled: Errors of its model as published, if its energies were solved for only then.
    """

    training: list[str] = field(default_factory=list)
    validation: list[str] = field(default_factory=list)
    checkpoint: str | None = None
    epochs: int = 0
    all_epochs: int | None = 0
    errors: dict[str, Any] | None = None
    measured_on: tuple[str, ...] | None = None
    converging: str | None = None
    converge_epochs: int = 0
    best: dict[str, Any] | None = None
    best_measured_on: tuple[str, ...] | None = None
    converged_on: str = "own"
    diverged: int = 0
    sat_out: int = 0
    set_back: bool = False
    converge_set_back: bool = False
    stands: dict[str | None, Stand] = field(default_factory=lambda: {None: Stand()})
    converge_stands: dict[str, tuple[int, dict[str, Any] | None]] = field(default_factory=dict)
    settled: dict[str, Any] | None = None

    @classmethod
    def of(cls, state: dict[str, Any], converged_on: str) -> Member:
        """Return a member as a state tells it; what its errors were measured on it does not."""
        member = cls(
            training=list(state["training"]),
            validation=list(state["validation"]),
            epochs=state["epochs"],
            all_epochs=None,
            errors=state["errors"],
            converging=state["converging"],
            converge_epochs=state["converge_epochs"],
            best=state["best"],
            converged_on=converged_on,
            diverged=state.get("diverged", 0),
            sat_out=state.get("sat_out", 0),
            settled=state.get("settled"),
        )
        member.reach(state["checkpoint"])
        for earlier in state.get("earlier", ()):
            stand = Stand(earlier["epochs"], None, earlier["errors"])
            member.stands.setdefault(earlier["checkpoint"], stand)
        before = state.get("converge_earlier")
        if before is not None:
            member.converge_stands[before["checkpoint"]] = (before["epochs"], before["errors"])
        return member

    def train(self, epochs: int) -> None:
        """Count epochs of a round."""
        self.epochs += epochs
        self.all_epochs = None if self.all_epochs is None else self.all_epochs + epochs
        self.diverged = self.sat_out = 0

    def reach(self, checkpoint: str | None) -> None:
        """Come to a checkpoint, and remember how it stands there."""
        self.checkpoint, self.set_back = checkpoint, False
        self.stands[checkpoint] = Stand(self.epochs, self.all_epochs, self.errors, self.measured_on)

    def begins_from(self, checkpoint: str | None) -> bool:
        """Begin a task of training; return whether it may begin from this checkpoint.

        That is the last one; if that is lost, any before, and the member stands as it did there.
        """
        if not self.set_back:
            return checkpoint == self.checkpoint
        stand = self.stands.get(checkpoint)
        if stand is None or checkpoint == self.checkpoint:
            return False
        self.epochs, self.all_epochs = stand.epochs, stand.all_epochs
        self.errors, self.measured_on = stand.errors, stand.measured_on
        self.reach(checkpoint)
        return True

    def converge(self, checkpoint: str, epochs: int, best: dict[str, Any] | None) -> None:
        """Count epochs of a convergence."""
        self.converging, self.converge_set_back = checkpoint, False
        self.converge_epochs += epochs
        self.best, self.diverged = best, 0
        self.converge_stands[checkpoint] = (self.converge_epochs, best)

    def converges_from(self, checkpoint: str) -> bool:
        """Go on with a convergence; return whether it may go on from this checkpoint."""
        if not self.converge_set_back:
            return checkpoint == self.converging
        if checkpoint not in self.converge_stands or checkpoint == self.converging:
            return False
        self.converging, self.converge_set_back = checkpoint, False
        self.converge_epochs, self.best = self.converge_stands[checkpoint]
        return True

    def take_converged(self) -> None:
        """Go on from the convergence's checkpoint."""
        self.errors, self.measured_on = self.best, self.best_measured_on
        if self.all_epochs is not None:
            self.all_epochs += self.converge_epochs
        self.reach(self.converging)

    def forget_convergence(self) -> None:
        """Forget a convergence: training goes on, or another one begins."""
        self.converging, self.converge_epochs, self.converge_set_back = None, 0, False
        self.best = self.best_measured_on = None
        self.converged_on = "own"
        self.converge_stands = {}

    def take_share(self, share: Sequence[str], valid_ratio: float) -> None:
        """Divide new points of the initial dataset between training and validation.

        As many go to validation as are missing to `valid_ratio`, rounded down; one at least, and
        one stays for training.
        """
        total = len(self.training) + len(self.validation) + len(share)
        wanted = min(max(1, math.floor(valid_ratio * total + 1e-9)), total - 1)
        count = min(len(share), max(0, wanted - len(self.validation)))
        self.validation += share[:count]
        self.training += share[count:]


@dataclass
class Round:
    """A round of training.

    Attributes:
        number: Counted from 1.
        stage: `initial` or `active`.
        sets: Everything that members had when it began.
        left: Epochs that each member that trains has still to train.
    """

    number: int
    stage: str
    sets: Sets
    left: dict[str, int]


def dealt(
    points: Sequence[Sequence[str]], tags: Sequence[str], seed: int, step: int, distinct: bool
) -> dict[str, list[str]]:
    """Return each member's share of the points of a sampling step.

    Args:
        points: Keys of the points that have labels, for each geometry.
        tags: The members.
        seed: `GENERAL.seed`.
        step: Number of the sampling step.
        distinct: Whether each point goes to one member, or all to everyone.
    """
    shares: dict[str, list[str]] = {tag: [] for tag in tags}
    for geometry, keys in enumerate(points):
        cards = _shuffled(keys, seed, step, geometry)
        for number, tag in enumerate(tags):
            if distinct:
                first = (number - (step - 1) - geometry) % len(tags)
                shares[tag] += cards[first :: len(tags)]
            else:
                shares[tag] += _shuffled(cards, seed, step, geometry, number)
    return shares


def _shuffled(keys: Sequence[str], *seed: int) -> list[str]:
    order = np.random.default_rng(seed).permutation(len(keys))
    return [keys[i] for i in order]
