"""Rules of the initial dataset generation: sample, label, deal the points out, train, again.

While members train on the points of a step, the next one is sampled and labelled, if it is to be
learnt in any case: the sampling MD knows nothing of the members. So each member learns the same
points in the same rounds as if one thing came after another. Where a rule judges errors, any round
may be the last, and no step is begun beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from aimspax_core.campaign import budget, convergence, new_beginnings, rounds
from aimspax_core.campaign.actions import Action, Sample
from aimspax_core.campaign.events import Sampled
from aimspax_core.campaign.flight import fail
from aimspax_core.campaign.members import MemberState
from aimspax_core.campaign.state import CampaignState, Phase, Point, PointStatus, Sampler
from aimspax_core.campaign.stopping import Ending, ending
from aimspax_core.stopping.table import rules_of

MAX_BARREN_STEPS = 3
"""Sampling steps in a row without one usable label before the campaign gives up."""

T = TypeVar("T")


def sampling(state: CampaignState) -> list[Action]:
    """Return the sampling MD of each geometry that has not done this step."""
    shares = len(state.members) if state.rules.distinct_sets else 1
    return [
        Sample(
            geometry=sampler.geometry,
            step=state.sampling_step,
            points=max(1, state.rules.points_per_step * shares - sampler.found - sampler.refused),
            part=sampler.parts,
            origin=(None if sampler.parts else new_beginnings.of_sampling(state, sampler.geometry)),
        )
        for sampler in state.samplers
        if sampler.step < state.sampling_step
    ]


def sampled(state: CampaignState, event: Sampled) -> CampaignState:
    """Ask for the labels of the points that a sampling MD has found."""
    new = [key for key in dict.fromkeys(event.found) if key not in state.points]
    points = {
        key: Point(key=key, geometry=event.geometry, sampling_step=state.sampling_step)
        for key in new
    }
    samplers = tuple(
        _advanced(s, event, state.sampling_step) if s.geometry == event.geometry else s
        for s in state.samplers
    )
    return label_resolved(
        state.but(
            points={**state.points, **points},
            open_points=(*state.open_points, *new),
            samplers=samplers,
        )
    )


def _advanced(sampler: Sampler, event: Sampled, step: int) -> Sampler:
    """Return where the sampling MD of a geometry is, within its step or at its end."""
    sampler = sampler.but(version=event.version, lost=False)
    if not event.more:
        return sampler.but(step=step, parts=0, found=0, refused=0)
    return sampler.but(
        parts=sampler.parts + 1,
        found=sampler.found + len(event.found),
        refused=sampler.refused + event.refused,
    )


def label_resolved(state: CampaignState) -> CampaignState:
    """Once every point of this step has its label or has failed, deal the points and train.

    While members train on those of the step before, they wait. Points for which the budget has
    nothing left stay open, for the next step.
    """
    if state.phase is not Phase.INITIAL or state.round is not None or budget.labels_to_come(state):
        return state
    if any(s.step < state.sampling_step for s in state.samplers):
        return state
    return _deal(state)


def _deal(state: CampaignState) -> CampaignState:
    """Shuffle the step's points, give each member its own share, and start a round."""
    state = _postponed(state)
    shares: dict[str, list[str]] = {tag: [] for tag in state.members}
    for geometry in range(state.rules.geometries):
        labelled = [
            p.key
            for p in state.points.values()
            if p.sampling_step == state.sampling_step
            and p.geometry == geometry
            and p.status is PointStatus.LABELLED
        ]
        seed = (state.rules.seed, state.sampling_step, geometry)
        dealt = _shuffled(labelled, seed)
        if not state.rules.distinct_sets:
            for number, tag in enumerate(shares):  # each splits them in its own way
                shares[tag] += _shuffled(dealt, (*seed, number))
            continue
        # Who is dealt first changes from step to step, so that odd points spread evenly.
        for position, key in enumerate(dealt):
            turn = (position + state.sampling_step - 1 + geometry) % len(shares)
            shares[state.rules.tags[turn]].append(key)
    spent = budget.used_up(state)
    if not any(shares.values()):
        return _barren(state) if spent is None else _ended_early(state, spent)
    members = {
        tag: _with_share(m, shares[tag], state.rules.initial_valid_ratio)
        for tag, m in state.members.items()
    }
    state = state.but(members=members, barren_steps=0)
    if not all(m.training and m.validation for m in members.values()):
        return _next_step(state) if spent is None else _ended_early(state, spent)
    left = state.rules.max_initial_epochs - min(m.epochs for m in members.values())
    epochs = max(1, math.ceil(min(state.rules.initial_epochs, left)))
    points = tuple(dict.fromkeys(key for share in shares.values() for key in share))
    return _ahead(rounds.open_round(state, "initial", epochs, points))


def _postponed(state: CampaignState) -> CampaignState:
    """Leave the points that have no label yet to the next step."""
    later = {
        key: state.points[key].but(sampling_step=state.sampling_step + 1)
        for key in state.open_points
    }
    return state.but(points={**state.points, **later}) if later else state


def _ahead(state: CampaignState) -> CampaignState:
    """Begin the next step beside the round that was just opened, unless that may end the phase."""
    if not state.rules.samples_ahead or state.round is None:
        return state
    epochs = state.round.epochs
    members = {
        tag: m.but(epochs=m.epochs + epochs - m.round_epochs) for tag, m in state.members.items()
    }
    after = state.but(members=members)
    if _judged(state) or ending(after, "initial", fresh_errors=False) is not None:
        return state
    return state.but(sampling_step=state.sampling_step + 1)


def _judged(state: CampaignState) -> bool:
    """Return whether a rule is set that judges errors: it may end the phase after any round."""
    judges = (rule for rule in rules_of("initial") if rule.judges_errors)
    return any(state.rules.limit(rule) != rule.key.off for rule in judges)


def _ended_early(state: CampaignState, end: Ending) -> CampaignState:
    """End the phase, as its budget is used up, with what the members have learnt; if they have."""
    if all(member.checkpoint for member in state.members.values()):
        return _ended(state, end)
    return fail(
        _next_step(state),
        f"{end.reason}: used up before each member has a point for training and one for "
        "validation; raise it and start again",
    )


def left(state: CampaignState) -> CampaignState:
    """Forget points of the initial dataset that there was no budget for: exploring finds others."""
    gone = {key for key in state.open_points if state.points[key].sampling_step is not None}
    gone -= set(state.restoring)
    if not gone:
        return state
    return state.but(
        points={key: point for key, point in state.points.items() if key not in gone},
        open_points=tuple(key for key in state.open_points if key not in gone),
    )


def _barren(state: CampaignState) -> CampaignState:
    """Try another sampling step if none of this one's points has a label, but not for ever."""
    steps = state.barren_steps + 1
    if steps >= MAX_BARREN_STEPS:
        reasons = sorted({p.reason for p in state.points.values() if p.reason})
        return state.but(
            phase=Phase.FAILED,
            failed_in=Phase.INITIAL,
            sampling_step=state.sampling_step + 1,
            stop_reason=f"no usable label in {steps} sampling steps: "
            + ("; ".join(reasons[:3]) or "the sampling MD gave no structure that may be labelled"),
        )
    return state.but(barren_steps=steps, sampling_step=state.sampling_step + 1)


def split_share(total: int, in_validation: int, valid_ratio: float) -> int:
    """Return how many of a member's new points go to validation.

    Args:
        total: All points of the member, the new ones included.
        in_validation: Those that are in its validation set already.
        valid_ratio: The share that should be there.

    Returns:
        What is missing to `valid_ratio`, rounded down; at least one point is kept in validation
        and at least one in training as soon as there are two.
    """
    target = max(1, math.floor(valid_ratio * total + 1e-9))
    return max(0, min(target, total - 1) - in_validation)


def _with_share(member: MemberState, share: Sequence[str], valid_ratio: float) -> MemberState:
    total = len(member.training) + len(member.validation) + len(share)
    count = min(len(share), split_share(total, len(member.validation), valid_ratio))
    return member.but(
        validation=(*member.validation, *share[:count]),
        training=(*member.training, *share[count:]),
    )


def _shuffled(items: Sequence[T], seed: tuple[int, ...]) -> list[T]:
    return [items[i] for i in np.random.default_rng(seed).permutation(len(items))]


def trained(state: CampaignState, points: tuple[str, ...]) -> CampaignState:
    """After a round: end the phase if a stopping rule says so, else sample again.

    A step that was begun beside the round is learnt first, for labels of it may be there.

    Args:
        state: The campaign.
        points: What the round was held for.
    """
    learnt = {state.points[key].sampling_step for key in points}
    if state.sampling_step not in learnt:
        return label_resolved(state)
    end = ending(state, "initial")
    return _next_step(state) if end is None else _ended(state, end)


def _next_step(state: CampaignState) -> CampaignState:
    return state.but(sampling_step=state.sampling_step + 1)


def _ended(state: CampaignState, end: Ending) -> CampaignState:
    state = state.but(stop_rule=end.rule.name, stop_reason=end.reason)
    if state.rules.converge_initial:
        return convergence.begin(state, Phase.INITIAL_CONVERGE, tuple(state.members))
    return convergence.to_publish(state, Phase.INITIAL_PUBLISH)


def reopened(state: CampaignState) -> CampaignState:
    """Sample again if the limits of the initial dataset, as they are today, ask for more."""
    ended = (Phase.INITIAL_CONVERGE, Phase.INITIAL_PUBLISH, Phase.READY)
    if state.adopted or state.phase not in ended or ending(state, "initial") is not None:
        return state
    return convergence.forgotten(state).but(
        phase=Phase.INITIAL,
        stop_rule="",
        stop_reason="",
        sampling_step=state.sampling_step + 1,
        published_initial=False,
    )
