"""Which stopping rule ends the phase that a campaign is in, and how near the others are."""

from __future__ import annotations

from dataclasses import dataclass

from aimspax_core.campaign.state import CampaignState
from aimspax_core.stopping.rule import Rule, Stage
from aimspax_core.stopping.table import rules_that_end


@dataclass(frozen=True)
class Ending:
    """A rule that holds, and what it says."""

    rule: Rule
    reason: str


@dataclass(frozen=True)
class Outlook:
    """A rule that may end the phase.

    Attributes:
        rule: The rule.
        limit: Its limit in this campaign.
        progress: How near that is, from 0 to 1.
    """

    rule: Rule
    limit: float
    progress: float


def ending(
    state: CampaignState, stage: Stage, fresh_errors: bool = True, learning: bool = False
) -> Ending | None:
    """Return the first rule that ends a phase, or None.

    Args:
        state: The campaign.
        stage: The phase; `campaign`: only what ends every phase is asked.
        fresh_errors: Whether the validation errors belong to the members as they are.
        learning: Whether points are still being learnt; some rules let that end first.
    """
    for rule in rules_that_end(stage):
        if (rule.judges_errors and not fresh_errors) or (rule.lets_learning_end and learning):
            continue
        reason = rule.reason(state, state.rules.limit(rule))
        if reason is not None:
            return Ending(rule, reason)
    return None


def outlooks(state: CampaignState, stage: Stage) -> list[Outlook]:
    """Return how near every rule that has a limit is to ending a phase."""
    limits = ((rule, state.rules.limit(rule)) for rule in rules_that_end(stage))
    return [
        Outlook(rule, limit, min(1.0, rule.progress(state, limit)))
        for rule, limit in limits
        if limit != rule.key.off
    ]
