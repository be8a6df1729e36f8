"""What the final models are trained on: their own sets, or all that was paid for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain

from aimspax_core.campaign.actions import ConvergeOn
from aimspax_core.campaign.state import CampaignState, PointStatus


@dataclass(frozen=True)
class FinalSets:
    """The sets of all members together, as label keys.

    Attributes:
        training: All that any member has in its training set; labels that are in no set, if there
            are any; and, where they are wanted, those for analysis.
        validation: What members are validated on, and none of them has been trained on.
        analysis: The part of `training` that was labelled for analysis only.
    """

    training: tuple[str, ...]
    validation: tuple[str, ...]
    analysis: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unseen:
    """Labels that no model was trained on as it is published, with the geometry of each.

    Attributes:
        analysis: Those that were labelled for analysis only; they steered nothing.
        validation: Those that members were validated on, and their best epochs chosen by.
    """

    analysis: dict[str, int | None] = field(default_factory=dict)
    validation: dict[str, int | None] = field(default_factory=dict)


def wanted(state: CampaignState) -> ConvergeOn:
    """Return what a convergence on the final data that begins now is on.

    Where no point is left that no member has been trained on (`distinct_model_sets: False`, if
    exploring put none into validation), members can only be judged by their own sets.
    """
    if state.rules.converge_on != "all" or not together(state).validation:
        return "own"
    return "all-and-analysis" if state.rules.converge_on_analysis else "all"


def together(state: CampaignState, analysis: bool = False) -> FinalSets:
    """Return the sets of all members together.

    Args:
        state: The campaign.
        analysis: Whether labels for analysis are to be trained on.
    """
    sets = [state.dataset(tag) for tag in state.members]
    training = _once(training for training, _ in sets)
    trained_on = set(training)
    validation = _once(validation for _, validation in sets)
    validation = tuple(key for key in validation if key not in trained_on)
    used = {*training, *validation}
    unused = sorted(
        key
        for key, point in state.points.items()
        if point.status is PointStatus.LABELLED and key not in used
    )
    late = [key for key in unused if not state.points[key].analysis]
    looked_at = [key for key in unused if state.points[key].analysis] if analysis else []
    return FinalSets((*training, *late, *looked_at), validation, tuple(looked_at))


def sets_on(state: CampaignState, tag: str, on: ConvergeOn) -> FinalSets:
    """Return the sets that a member converges on."""
    if on == "own":
        return FinalSets(*state.dataset(tag))
    return together(state, analysis=on == "all-and-analysis")


def seen(state: CampaignState, tag: str) -> FinalSets:
    """Return the sets that a member's model has seen: of its convergence, if it has begun one."""
    converges = state.members[tag].converge_epochs > 0
    return sets_on(state, tag, state.converging_on if converges else "own")


def unseen(state: CampaignState) -> Unseen:
    """Return the labels that no member's published model was trained on."""
    sets = [seen(state, tag) for tag in state.members]
    trained_on = {key for one in sets for key in one.training}
    validation = [key for key in _once(one.validation for one in sets) if key not in trained_on]
    used = {*trained_on, *validation}
    looked_at = [
        key
        for key, point in state.points.items()
        if point.analysis and point.status is PointStatus.LABELLED and key not in used
    ]
    geometries = {key: point.geometry for key, point in state.points.items()}
    analysis, validated = ({k: geometries.get(k) for k in keys} for keys in (looked_at, validation))
    return Unseen(analysis, validated)


def _once(sets: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(chain.from_iterable(sets)))
