"""Which labels may begin, so that a campaign keeps to its budget (`BUDGET`).

What is under way counts: as a label, and as the core-hours that the costliest label of its geometry
has taken so far; one that is computed again counts as the latter. As long as none of a geometry
has come but from a store, one at a time begins, to know.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from aimspax_core.campaign.actions import Label
from aimspax_core.campaign.events import LabelArrived
from aimspax_core.campaign.state import CampaignState, Phase, Point, PointStatus
from aimspax_core.campaign.stopping import Ending, ending
from aimspax_core.stopping.budget import BUDGET_CORE_HOURS, BUDGET_HOURS, BUDGET_LABELS
from aimspax_core.stopping.table import rules_of

_BEGUN_IN = (Phase.INITIAL, Phase.ACTIVE, Phase.DRAIN)
"""Phases in which labels begin; those that are computed again begin in all."""


@dataclass
class _Left:
    """What is left of a budget while labels are dealt out of it.

    Attributes:
        labels: How many more may begin.
        core_hours: What they may take, all together (h).
        costliest: What a label of each geometry takes at most (h); 0: none has told.
        points: Those of the campaign.
        must_tell: Labels from a store do not tell that those of their geometry cost nothing.
        under_way: Labels under way, by geometry.
    """

    labels: float
    core_hours: float
    costliest: tuple[float, ...]
    points: Mapping[str, Point]
    must_tell: bool
    under_way: Counter[int] = field(default_factory=Counter)

    @classmethod
    def of(cls, state: CampaignState) -> _Left:
        limit = state.rules.limit
        left = cls(
            limit(BUDGET_LABELS),
            limit(BUDGET_CORE_HOURS),
            state.costliest,
            state.points,
            state.rules.counts_all_costs,
        )
        left.labels -= state.labels
        left.core_hours -= state.core_hours
        if state.rules.counts_all_costs and state.rules.pays_again:
            again = (state.points[key].geometry for key in state.restoring)
            left.core_hours -= sum(left._cost(geometry) for geometry in again)
        if state.hours >= limit(BUDGET_HOURS):
            left.labels = 0.0
        for point in _under_way(state):
            left.take(point.geometry)
        return left

    def take(self, geometry: int) -> None:
        """Let a label of a geometry begin."""
        self.labels -= 1
        self.core_hours -= self._cost(geometry)
        self.under_way[geometry] += 1

    def allows(self, geometry: int) -> bool:
        """Return whether a label of a geometry may begin."""
        if self.labels < 1 or self.core_hours <= 0:
            return False
        if math.isinf(self.core_hours):
            return True
        cost = self._cost(geometry)
        if cost:
            return cost <= self.core_hours
        return not self.under_way[geometry] or self._has_come(geometry)

    def _has_come(self, geometry: int) -> bool:
        """Return whether a label of a geometry is there that tells what they take."""
        of = (p for p in self.points.values() if p.geometry == geometry)
        there = (point for point in of if point.status is PointStatus.LABELLED)
        return any(not (self.must_tell and point.from_store) for point in there)

    def _cost(self, geometry: int) -> float:
        return self.costliest[geometry] if self.costliest else 0.0

    @property
    def overdrawn(self) -> bool:
        return self.labels < 0 or self.core_hours < 0


def limited(state: CampaignState) -> bool:
    """Return whether the campaign has a budget."""
    return any(state.rules.limit(rule) != rule.key.off for rule in rules_of("campaign"))


def beginning(state: CampaignState, keys: Iterable[str]) -> list[str]:
    """Return those of the labels that are wanted which may begin now, in their order.

    Args:
        state: The campaign.
        keys: Open points that are not in flight.
    """
    if state.phase not in _BEGUN_IN:
        return [key for key in keys if key in state.restoring]
    if not limited(state):
        return list(keys)
    left, found = _Left.of(state), []
    for key in keys:
        point, geometry = state.points[key], state.points[key].geometry
        if key in state.restoring:  # it has been counted
            found.append(key)
        elif (point.sampling_step or 0) > state.sampling_step:
            continue  # of a step that has not begun
        elif left.allows(geometry):
            left.take(geometry)
            found.append(key)
    return found


def labels_to_come(state: CampaignState) -> bool:
    """Return whether any of the open points has its label under way, or will have."""
    if not state.open_points or not limited(state):
        return bool(state.open_points)
    flying = {action.key for action in state.in_flight.values() if isinstance(action, Label)}
    return bool(flying or beginning(state, (k for k in state.open_points if k not in flying)))


def overdrawn(state: CampaignState) -> bool:
    """Return whether fewer labels should be under way, if some of them have not begun yet."""
    if not limited(state) or not state.labels_under_way:
        return False
    return _Left.of(state).overdrawn


def used_up(state: CampaignState) -> Ending | None:
    """Return what ends the campaign if that is its budget."""
    return ending(state, "campaign")


def noted(state: CampaignState, event: LabelArrived) -> CampaignState:
    """Remember what the costliest label of each geometry has taken."""
    geometry = state.points[event.key].geometry
    costs = list(state.costliest or (0.0,) * state.rules.geometries)
    if event.core_hours <= costs[geometry]:
        return state
    costs[geometry] = event.core_hours
    return state.but(costliest=tuple(costs))


def _under_way(state: CampaignState) -> Iterable[Point]:
    """Yield the points whose label is under way and has not been counted before."""
    for action in state.in_flight.values():
        if isinstance(action, Label) and action.key not in state.restoring:
            yield state.points[action.key]
