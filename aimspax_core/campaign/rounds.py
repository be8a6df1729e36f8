"""Rounds of training: every member trains on the data that there were when the round began."""

from __future__ import annotations

from typing import Literal

import numpy as np

from aimspax_core.campaign import assessing
from aimspax_core.campaign.actions import Action, Train
from aimspax_core.campaign.events import TrainingFinished
from aimspax_core.campaign.flight import tries_of
from aimspax_core.campaign.members import Earlier, MemberState
from aimspax_core.campaign.state import CampaignState, Phase, Round
from aimspax_core.campaign.turns import (
    ALONE,
    BESIDE_MD,
    PACE_MEMORY,
    Piece,
    Task,
    dealt,
    epoch_seconds,
)
from aimspax_core.labels.tries import Tries

MAX_DIVERGED = 3
"""Times in a row that training may diverge within a round."""

EXPLODED = 10.0
"""Times the last round's force MAE, from which on training is suspected to have diverged."""

MAX_SAT_OUT = 3
"""Rounds in a row that a member may go through with its weights from before."""


def open_round(
    state: CampaignState,
    stage: Literal["initial", "active"],
    epochs: int,
    points: tuple[str, ...],
) -> CampaignState:
    """Start a round on all data that there are now; epochs that members owe are part of it."""
    members = {
        t: m.but(round_epochs=-m.owed, owed=0, before_round=m.errors)
        for t, m in state.members.items()
    }
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
            steps=tuple(t.step for t in state.trajectories),
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


def epochs_for(state: CampaignState, points: int) -> int:
    """Return the epochs of a round of active learning that is held for so many points.

    The original trains `epochs_per_worker` epochs for each point, one point after another.
    """
    counted = max(1.0, min(points, state.rules.points_counted))
    return int(state.rules.epochs_per_round * counted)


def actions(state: CampaignState) -> list[Action]:
    """Return the trainings of all members that have not trained their epochs of this round."""
    if state.round is None:
        return []
    flying = {a.tag for a in state.in_flight.values() if isinstance(a, Train)}
    left = {
        tag: state.round.epochs - member.round_epochs
        for tag, member in state.members.items()
        if member.round_epochs < state.round.epochs and tag not in flying
    }
    # While trainings of the round are in flight, each member that comes back with epochs left has
    # a task of its own: to share one, it would have to wait until others are back.
    tasks = [(Piece(tag),) for tag in left] if flying else _dealt(state, state.round, left)
    wanted: list[Action] = []
    for task in tasks:
        trainings = [_training(state, state.round, piece) for piece in task]
        first = trainings[0].id if len(trainings) > 1 else ""
        wanted += [training.but(task=first) for training in trainings]
    return wanted


def _dealt(state: CampaignState, now: Round, left: dict[str, int]) -> list[Task]:
    """Deal the members to tasks.

    One whose training was lost has a task of its own from then on: no other is lost with it again,
    and what is lost is counted for the one that is the cause.
    """
    lost = [tag for tag in left if tries_of(state, _training(state, now, Piece(tag)).id) != Tries()]
    others = {tag: epochs for tag, epochs in left.items() if tag not in lost}
    size = max((len(replayed(state, tag)[0]) for tag in others), default=0)
    least_s = BESIDE_MD if state.phase is Phase.ACTIVE else ALONE
    tasks = dealt(others, epoch_seconds(state.paces, size), state.rules.max_segments, least_s)
    return [*tasks, *((Piece(tag),) for tag in lost)]


def _training(state: CampaignState, now: Round, piece: Piece) -> Train:
    member = state.members[piece.tag]
    return Train(
        tag=member.tag,
        stage=now.stage,
        round=now.number,
        start=member.checkpoint,
        checkpoint=f"train-{member.epochs}-{now.number}{member.suffix}",
        epochs=now.epochs - member.round_epochs,
        at_most=piece.epochs,
        again=member.diverged,
    )


def advanced(state: CampaignState, event: TrainingFinished) -> CampaignState:
    """Record the epochs that a member has trained, and how long they took."""
    state = _paced(state, event)
    member = state.members[event.tag]
    done = member.round_epochs + event.epochs
    settled = state.round is None or done >= state.round.epochs  # else they are of no round's end
    member = member.but(
        earlier=earlier_of(state, member),
        checkpoint=event.checkpoint,
        epochs=member.epochs + event.epochs,
        round_epochs=done,
        errors=event.errors[-1] if event.errors else member.errors,
        diverged=0,
        sat_out=0,
        offsets=event.offsets if settled else member.offsets,
        settled=None,
    )
    return state.but(members={**state.members, event.tag: member})


def _paced(state: CampaignState, event: TrainingFinished) -> CampaignState:
    size = len(replayed(state, event.tag)[0])
    if not (event.epochs and event.task_seconds and size):
        return state  # releases before 0.2 did not tell
    pace = event.task_seconds / event.epochs / size
    return state.but(paces=(*state.paces, pace)[-PACE_MEMORY:])


def earlier_of(state: CampaignState, member: MemberState) -> tuple[Earlier, ...]:
    """Return what a member can fall back to once it has a newer checkpoint, the newest first.

    These are the checkpoint that it has now; that of the ensemble, whose file is kept anyhow; and
    in a campaign that began from given models the given one, which cannot be trained anew.
    """
    if member.checkpoint is None:
        return ()
    first = member.earlier[-1].checkpoint if state.adopted and member.earlier else None
    kept = {*state.ensemble, first}
    now = Earlier(checkpoint=member.checkpoint, epochs=member.epochs, errors=member.errors)
    older = (e for e in member.earlier if e.checkpoint in kept and e.checkpoint != now.checkpoint)
    return (now, *older)


def exploded(mae: float, last: float | None) -> bool:
    """Return whether a force MAE raises the suspicion that training diverged.

    Args:
        mae: The error after training (eV/Å).
        last: The error when the round began; None: unknown.
    """
    return last is not None and mae >= EXPLODED * last


def diverged(state: CampaignState, tag: str) -> CampaignState:
    """Count that a member's training diverged; after several in a row it sits the round out.

    It then goes through the round with the weights from before, which all others are used with.
    """
    member = state.members[tag]
    member = member.but(diverged=member.diverged + 1)
    if member.diverged >= MAX_DIVERGED and member.checkpoint is not None and state.round:
        member = member.but(diverged=0, sat_out=member.sat_out + 1, round_epochs=state.round.epochs)
    return state.but(members={**state.members, tag: member}, divergences=state.divergences + 1)


def diverged_too_often(state: CampaignState, tag: str) -> str:
    """Return why a campaign cannot go on with a member whose training diverged; else nothing."""
    member = state.members[tag]
    advice = "a lower learning rate (TRAINING.lr), or another initial dataset, may help"
    if member.diverged >= MAX_DIVERGED:
        return f"{tag} diverged {member.diverged} times in a row, from its first weights; {advice}"
    if member.sat_out >= MAX_SAT_OUT:
        return f"{tag} diverged in {member.sat_out} rounds in a row; {advice}"
    return ""


def make_up(state: CampaignState) -> CampaignState:
    """Start a round for epochs that were lost with a checkpoint, if members are published so.

    A member that has converged is published as that, whatever became of its checkpoint before.
    """
    published = (m for m in state.members.values() if m.converging is None or not m.converge_epochs)
    if state.round is not None or not any(m.owed for m in published):
        return state
    stage: Literal["initial", "active"] = "active" if state.phase is Phase.PUBLISH else "initial"
    return open_round(state, stage, 0, ())


def round_complete(state: CampaignState) -> bool:
    """True if every member has trained its epochs of this round."""
    return state.round is not None and all(
        m.round_epochs >= state.round.epochs for m in state.members.values()
    )


def close_round(state: CampaignState) -> tuple[CampaignState, tuple[str, ...]]:
    """End the round with a new ensemble; return also the points that the round was held for."""
    assert state.round is not None
    points, labels = state.round.points, assessing.labels_used(state)
    state = ensemble_of(state.but(round=None, rounds=state.rounds + 1))
    models = dict(zip(state.members, state.ensemble, strict=True))
    return assessing.note(state, models, labels), points


def ensemble_of(state: CampaignState) -> CampaignState:
    """Make the members' present checkpoints the ensemble that trajectories are propagated with."""
    ensemble = tuple(str(m.checkpoint) for m in state.members.values())
    number = state.ensembles + (ensemble != state.ensemble)
    return state.but(ensemble=ensemble, ensembles=number)
