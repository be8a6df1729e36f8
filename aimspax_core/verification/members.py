"""The members of a campaign as an independent reader adds them up: sets, rounds, convergence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Sets = dict[str, tuple[tuple[str, ...], tuple[str, ...]]]
"""Label keys of each member's training and validation set, by tag."""


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

    @classmethod
    def of(cls, state: dict[str, Any]) -> Member:
        """Return a member as a state tells it; what its errors were measured on it does not."""
        return cls(
            training=list(state["training"]),
            validation=list(state["validation"]),
            checkpoint=state["checkpoint"],
            epochs=state["epochs"],
            all_epochs=None,
            errors=state["errors"],
            converging=state["converging"],
            converge_epochs=state["converge_epochs"],
            best=state["best"],
        )

    def add_epochs(self, epochs: int) -> None:
        """Count epochs into `all_epochs`."""
        if self.all_epochs is not None:
            self.all_epochs += epochs

    def forget_convergence(self) -> None:
        """Forget a convergence: training goes on, or another one begins."""
        self.converging, self.converge_epochs = None, 0
        self.best = self.best_measured_on = None

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
        epochs: What every member trains.
        sets: Everything that members had when it began.
        left: Epochs that each member has still to train.
    """

    number: int
    stage: str
    epochs: int
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
