"""All stopping rules, in the order in which they are asked."""

from __future__ import annotations

from aimspax_core.stopping.accuracy import DESIRED_ACC, INITIAL_ACCURACY
from aimspax_core.stopping.budget import BUDGET_CORE_HOURS, BUDGET_HOURS, BUDGET_LABELS
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
    BUDGET_LABELS,
    BUDGET_CORE_HOURS,
    BUDGET_HOURS,
)


def rules_of(stage: Stage) -> tuple[Rule, ...]:
    """Return the rules of one stage; those of `campaign` end every phase, beside its own."""
    return tuple(rule for rule in RULES if rule.stage == stage)


def rules_that_end(stage: Stage) -> tuple[Rule, ...]:
    """Return all rules that may end a phase: its own, then those of the whole campaign."""
    return tuple(rule for rule in RULES if rule.stage in (stage, "campaign"))
