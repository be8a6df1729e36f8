"""Stopping rules of both phases: what `BUDGET` allows for is used up."""

from __future__ import annotations

from aimspax_core.stopping.rule import Campaign, Key, Rule


def _labels(campaign: Campaign, limit: float) -> str | None:
    return f"BUDGET.labels: {campaign.labels} labels" if campaign.labels >= limit else None


BUDGET_LABELS = Rule(
    name="budget_labels",
    stage="campaign",
    key=Key(
        "labels",
        "count",
        "Labels, those of the initial dataset and of `analysis` included; what failed, or was "
        "given with a dataset, does not count.",
    ),
    reason=_labels,
    progress=lambda campaign, limit: campaign.labels / limit,
    text=lambda limit: f"there are {limit:g} labels",
)


def _core_hours(campaign: Campaign, limit: float) -> str | None:
    """Used up is also what is left if no label fits into it any more."""
    spent, more = campaign.core_hours, campaign.core_hours_of_next
    if spent >= limit:
        return f"BUDGET.core_hours: {spent:.4g} core-hours of labels"
    if campaign.labels_under_way or spent + more <= limit:
        return None
    return (
        f"BUDGET.core_hours: {spent:.4g} core-hours of labels, and another may take {more:.3g} "
        f"of the {limit:g}"
    )


BUDGET_CORE_HOURS = Rule(
    name="budget_core_hours",
    stage="campaign",
    key=Key(
        "core_hours",
        "amount",
        "Core-hours of the labels: time times cores of each that was computed for this campaign.",
    ),
    reason=_core_hours,
    progress=lambda campaign, limit: campaign.core_hours / limit,
    text=lambda limit: f"labels have taken {limit:g} core-hours",
)


def _hours(campaign: Campaign, limit: float) -> str | None:
    hours = campaign.hours
    return f"BUDGET.hours: {hours:.3g} h of running" if hours >= limit else None


BUDGET_HOURS = Rule(
    name="budget_hours",
    stage="campaign",
    key=Key(
        "hours",
        "amount",
        "Hours for which the campaign runs, over all restarts; pauses, and the times in which "
        "nobody ran it, do not count.",
    ),
    reason=_hours,
    progress=lambda campaign, limit: campaign.hours / limit,
    text=lambda limit: f"it has run for {limit:g} h",
)
