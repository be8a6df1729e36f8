"""All stopping rules, in the order in which they are asked."""

from __future__ import annotations

from aimspax_core.stopping.accuracy import DESIRED_ACC, INITIAL_ACCURACY
from aimspax_core.stopping.limits import (
    MAX_INITIAL_EPOCHS,
    MAX_INITIAL_SET_SIZE,
    MAX_MD_STEPS,
    MAX_TRAIN_SET_SIZE,
)
from aimspax_core.stopping.rule import Rule, Stage

RULES: tuple[Rule, ...] = (
    INITIAL_ACCURACY,
    MAX_INITIAL_EPOCHS,
    MAX_INITIAL_SET_SIZE,
    DESIRED_ACC,
    MAX_TRAIN_SET_SIZE,
    MAX_MD_STEPS,
)


def rules_of(stage: Stage) -> tuple[Rule, ...]:
    """Return the rules that may end a phase."""
    return tuple(rule for rule in RULES if rule.stage == stage)
