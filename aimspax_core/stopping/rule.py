"""What a stopping rule is, and what it may ask of a campaign.

This room imports nothing of the others: settings make their keys from it, a campaign ends by it,
and plan, status and figures say what it says.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Stage = Literal["initial", "active", "campaign"]
"""What a rule may end: the phase of INITIAL_DATASET_GENERATION, that of ACTIVE_LEARNING, or the
whole campaign, and with it whichever of them it is in; its key is then in BUDGET."""

KeyKind = Literal["count", "amount", "accuracy"]
"""`count`: a whole number from 1 on, or inf; `amount`: a number above 0, or inf; `accuracy`: a
number from 0 on."""


class Campaign(Protocol):
    """The numbers of a campaign that a stopping rule may look at; `CampaignState` has them.

    Attributes:
        labels: Labels that have been computed, those that are not trained on included.
        failed_labels: Structures that have no label and will have none.
        core_hours: Core hours that the labels took.
        labels_under_way: Labels that have been launched and are not there yet.
        core_hours_of_next: Core hours that one more label has to be expected to take; 0 while none
            of some geometry is known.
        hours: Hours for which the campaign has run.
        rounds: Rounds of training that are complete.
        epochs: Epochs of the member that has trained least, convergence left out.
        initial_set_size: Points of the initial dataset, all members together, each counted once.
        training_set_size: Points in the largest member's training set.
        mean_force_mae: Mean over the members of the force MAE in validation (eV/Å); None before
            each of them has one.
        explored: Whether points that exploring found are in training sets.
        mean_md_steps: MD steps of the trajectories that explore, on average.
        trajectories_over: Whether none of them will run again.
        trajectories_given_up: How many ended because they were rolled back too often.
    """

    @property
    def labels(self) -> int: ...  # noqa: D102
    @property
    def failed_labels(self) -> int: ...  # noqa: D102
    @property
    def core_hours(self) -> float: ...  # noqa: D102
    @property
    def labels_under_way(self) -> int: ...  # noqa: D102
    @property
    def core_hours_of_next(self) -> float: ...  # noqa: D102
    @property
    def hours(self) -> float: ...  # noqa: D102
    @property
    def rounds(self) -> int: ...  # noqa: D102
    @property
    def epochs(self) -> int: ...  # noqa: D102
    @property
    def initial_set_size(self) -> int: ...  # noqa: D102
    @property
    def training_set_size(self) -> int: ...  # noqa: D102
    @property
    def mean_force_mae(self) -> float | None: ...  # noqa: D102
    @property
    def explored(self) -> bool: ...  # noqa: D102
    @property
    def mean_md_steps(self) -> float: ...  # noqa: D102
    @property
    def trajectories_over(self) -> bool: ...  # noqa: D102
    @property
    def trajectories_given_up(self) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class Key:
    """The key of the settings that sets a rule's limit.

    Attributes:
        name: Its name in the section of the phase, or in BUDGET.
        kind: Which numbers it may be.
        description: Its line in docs/settings.md, with the unit.
    """

    name: str
    kind: KeyKind
    description: str

    @property
    def off(self) -> float:
        """The value, also the default, with which the rule ends nothing."""
        return 0.0 if self.kind == "accuracy" else math.inf


@dataclass(frozen=True)
class Rule:
    """A stopping rule. Its functions are pure; those with a `limit` get the one in force.

    Attributes:
        name: What journals and states know the rule by; it must never change.
        stage: What it may end.
        key: The key of the settings that sets the limit.
        reason: Says why the phase is over, in one line; None while it is not.
        progress: How near the limit is, from 0 to 1 when it is reached.
        text: Completes "the phase runs until ...", such as `a training set has 500 points`.
        limit_of: Returns the limit from the section of the settings, if that takes more than the
            key's own value.
        goal: What figures call the limit, if it is a force MAE (eV/Å) that a curve comes down to.
        judges_errors: Whether the rule is asked only when a round of training has just ended, so
            that the validation errors belong to the members as they are.
        lets_learning_end: Whether points that have been found by then are still learnt.
    """

    name: str
    stage: Stage
    key: Key
    reason: Callable[[Campaign, float], str | None]
    progress: Callable[[Campaign, float], float]
    text: Callable[[float], str]
    limit_of: Callable[[Any], float] | None = None
    goal: str = ""
    judges_errors: bool = False
    lets_learning_end: bool = False

    def limit(self, section: object) -> float:
        """Return the limit that a section of the settings sets; `key.off` if it sets none."""
        if self.limit_of is not None:
            return self.limit_of(section)
        return float(getattr(section, self.key.name))
