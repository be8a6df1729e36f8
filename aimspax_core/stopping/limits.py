"""Stopping rules that count: epochs, points, MD steps."""

from __future__ import annotations

from aimspax_core.stopping.rule import Campaign, Key, Rule


def _initial_epochs(campaign: Campaign, limit: float) -> str | None:
    reached = campaign.epochs >= limit
    return f"max_initial_epochs: {campaign.epochs} epochs" if reached else None


MAX_INITIAL_EPOCHS = Rule(
    name="max_initial_epochs",
    stage="initial",
    key=Key("max_initial_epochs", "count", "Most epochs of the phase."),
    reason=_initial_epochs,
    progress=lambda campaign, limit: campaign.epochs / limit,
    text=lambda limit: f"{limit:g} epochs",
)


def _initial_set_size(campaign: Campaign, limit: float) -> str | None:
    size = campaign.initial_set_size
    return f"max_initial_set_size: {size} points" if size >= limit else None


MAX_INITIAL_SET_SIZE = Rule(
    name="max_initial_set_size",
    stage="initial",
    key=Key(
        "max_initial_set_size",
        "count",
        "Most labelled points of the phase, all members together.",
    ),
    reason=_initial_set_size,
    progress=lambda campaign, limit: campaign.labels / limit,
    text=lambda limit: f"{limit:g} points",
)


def _train_set_size(campaign: Campaign, limit: float) -> str | None:
    size = campaign.training_set_size
    return f"max_train_set_size: {size} points" if size >= limit else None


MAX_TRAIN_SET_SIZE = Rule(
    name="max_train_set_size",
    stage="active",
    key=Key("max_train_set_size", "count", "Size of a member's training set that ends the phase."),
    reason=_train_set_size,
    progress=lambda campaign, limit: campaign.training_set_size / limit,
    text=lambda limit: f"a training set has {limit:g} points",
)


def _trajectories_over(campaign: Campaign, _: float) -> str | None:
    """A trajectory ends at the limit, or when it has been rolled back too often."""
    if not campaign.trajectories_over:
        return None
    lost = campaign.trajectories_given_up
    more = f" ({lost} given up: rolled back too often)" if lost else ""
    return f"all trajectories are finished{more}"


MAX_MD_STEPS = Rule(
    name="max_md_steps",
    stage="active",
    key=Key("max_MD_steps", "count", "MD steps after which a trajectory ends."),
    reason=_trajectories_over,
    progress=lambda campaign, limit: campaign.mean_md_steps / limit,
    text=lambda limit: f"every trajectory has made {limit:g} steps",
    lets_learning_end=True,
)
