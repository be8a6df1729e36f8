"""Rounds of training: every member trains on the data that there were when the round began."""

from __future__ import annotations

from typing import Literal

import numpy as np

from aimspax_core.campaign.actions import Action, Train
from aimspax_core.campaign.events import TrainingFinished
from aimspax_core.campaign.state import CampaignState, Round


def open_round(
    state: CampaignState,
    stage: Literal["initial", "active"],
    epochs: int,
    points: tuple[str, ...],
) -> CampaignState:
    """Start a round on all data that there are now."""
    members = {t: m.but(round_epochs=0) for t, m in state.members.items()}
    return state.but(
        members=members,
        rounds_begun=state.rounds_begun + 1,
        round=Round(
            number=state.rounds_begun + 1,
            stage=stage,
            points=points,
            training=len(state.training),
            validation=len(state.validation),
            epochs=epochs,
        ),
    )


def replayed(state: CampaignState, tag: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the label keys that a member trains on and is validated on in this round.

    With `replay_strategy: random_subset` these are subsets of its sets, drawn anew for each round
    of active learning and each member; the points that the round is held for are always in it.
    """
    everything, validation = state.dataset(tag)
    rules, now = state.rules, state.round
    if rules.train_subset is None or now is None or now.stage != "active":
        return everything, validation
    rng = np.random.default_rng((rules.seed, now.number, rules.tags.index(tag)))
    points = set(now.points)
    new = [key for key in everything if key in points]
    old = [key for key in everything if key not in points]
    count = min(len(old), max(0, rules.train_subset - len(new)))
    training = {*new, *(old[i] for i in rng.choice(len(old), count, replace=False))}
    valid = min(len(validation), rules.valid_subset or len(validation))
    chosen = {validation[i] for i in rng.choice(len(validation), valid, replace=False)}
    return (
        tuple(key for key in everything if key in training),
        tuple(key for key in validation if key in chosen),
    )


def actions(state: CampaignState) -> list[Action]:
    """Return a task for every member that has not trained its epochs of this round."""
    if state.round is None:
        return []
    return [
        Train(
            tag=member.tag,
            stage=state.round.stage,
            round=state.round.number,
            start=member.checkpoint,
            checkpoint=f"train-{member.epochs}-{state.round.number}",
            epochs=state.round.epochs - member.round_epochs,
        )
        for member in state.members.values()
        if member.round_epochs < state.round.epochs
    ]


def advanced(state: CampaignState, event: TrainingFinished) -> CampaignState:
    """Record the epochs that a member has trained."""
    member = state.members[event.tag]
    member = member.but(
        checkpoint=event.checkpoint,
        epochs=member.epochs + event.epochs,
        round_epochs=member.round_epochs + event.epochs,
        errors=event.errors[-1] if event.errors else member.errors,
    )
    return state.but(members={**state.members, event.tag: member})


def round_complete(state: CampaignState) -> bool:
    """True if every member has trained its epochs of this round."""
    return state.round is not None and all(
        m.round_epochs >= state.round.epochs for m in state.members.values()
    )


def close_round(state: CampaignState) -> tuple[CampaignState, tuple[str, ...]]:
    """End the round with a new ensemble; return also the points that the round was held for."""
    assert state.round is not None
    points = state.round.points
    return ensemble_of(state.but(round=None, rounds=state.rounds + 1)), points


def ensemble_of(state: CampaignState) -> CampaignState:
    """Make the members' present checkpoints the ensemble that trajectories are propagated with."""
    return state.but(ensemble=tuple(str(m.checkpoint) for m in state.members.values()))
