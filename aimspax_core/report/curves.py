"""How a campaign learnt: errors and uncertainties, from its journal alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import isfinite

from aimspax_core.campaign.assessing import converged_errors, labels_used
from aimspax_core.campaign.events import (
    Assessed,
    ConvergenceAdvanced,
    Event,
    ExplorationAsked,
    Resumed,
    SegmentFinished,
)
from aimspax_core.campaign.journal_lines import Entry
from aimspax_core.campaign.rules import apply
from aimspax_core.campaign.state import CampaignState
from aimspax_core.campaign.thresholds import windows
from aimspax_core.report.forecast import Ahead, Learning, ahead

Points = list[tuple[int, float]]


@dataclass(frozen=True)
class Spent:
    """What a campaign had spent: labels that had come, their core-hours, running time (s)."""

    labels: int
    core_hours: float
    seconds: float


@dataclass
class Curves:
    """What the figures show.

    Attributes:
        members: Validation force MAE (meV/Å) of each member after each round, against the number
            of labels in all members' sets in that round.
        mean: The same, averaged over the members.
        spent: What had been spent then, for each of these points.
        converged: Lowest force MAE (meV/Å) of a convergence, by the number of labels it was on.
        held_out: Force MAE (meV/Å) on the held-out set, averaged over the members, against the
            number of labels that they had seen; before the convergence.
        held_out_spent: What had been spent when those models were there, for each of these points.
        delivered: The same of what has converged.
        explored_from: Number of labels when active learning began; None if it has not.
        checks: Finite uncertainties in the order in which the threshold saw them.
        thresholds: The threshold after so many checks, by geometry where each has its own (else
            under 0); there is none while it warms up.
        learning: What forecasts are made from.
        seconds: Wall time, without the pauses between two runs.
        state: The campaign after the last event; None if nothing has happened.
    """

    members: dict[str, Points] = field(default_factory=dict)
    mean: Points = field(default_factory=list)
    spent: list[Spent] = field(default_factory=list)
    converged: dict[int, float] = field(default_factory=dict)
    held_out: Points = field(default_factory=list)
    held_out_spent: list[Spent] = field(default_factory=list)
    delivered: dict[int, float] = field(default_factory=dict)
    explored_from: int | None = None
    checks: list[float] = field(default_factory=list)
    thresholds: dict[int, Points] = field(default_factory=dict)
    learning: Learning = field(default_factory=Learning)
    seconds: float = 0.0
    state: CampaignState | None = None
    _now: float | None = None
    _unassessed: dict[int, Spent] = field(default_factory=dict)  # by the number of the assessment

    @property
    def ahead(self) -> list[Ahead]:
        """How the errors go on (eV/Å), where that can be said."""
        return ahead(self.learning)

    def note(
        self, before: CampaignState | None, event: Event, after: CampaignState, time: float
    ) -> None:
        """Take in an event, the states before and after it, and its time (s since 1970)."""
        if self._now is not None and not isinstance(event, Resumed):
            self.seconds += max(0.0, time - self._now)
        self._now, self.state = time, after
        self.learning.note(before, event, after, time)
        if before is not None:
            _note(self, before, event, after)


def curves(journal: Iterable[Entry]) -> Curves:
    """Replay a journal, and keep what the figures show."""
    found = Curves()
    for entry in journal:
        before = found.state
        found.note(before, entry.event, apply(before, entry.event), entry.time)
    return found


def _note(found: Curves, before: CampaignState, event: Event, after: CampaignState) -> None:
    spent = Spent(after.labels, after.core_hours, found.learning.seconds)
    for one in after.unassessed:
        found._unassessed.setdefault(one.number, spent)
    if isinstance(event, ExplorationAsked) and found.explored_from is None:
        found.explored_from = labels_used(after)
    if after.ensemble != before.ensemble and after.mean_force_mae is not None:
        labels = labels_used(before)
        found.mean.append((labels, 1000 * after.mean_force_mae))
        found.spent.append(spent)
        for tag, member in after.members.items():
            if member.errors is not None:
                curve = found.members.setdefault(tag, [])
                curve.append((labels, 1000 * member.errors.mae_f))
    if isinstance(event, ConvergenceAdvanced) and event.best is not None:
        labels, error = labels_used(before), 1000 * event.best.mae_f
        found.converged[labels] = min(error, found.converged.get(labels, error))
    if isinstance(event, Assessed) and event.errors:
        converged = converged_errors(after)
        errors = (converged or event.errors).values()
        mean = sum(one.mae_f for one in errors) / len(errors)
        seen = (one.labels for one in before.unassessed if one.number == event.number)
        points = [(count, 1000 * mean) for count in seen]
        if converged:
            found.delivered.update(points)
        else:
            found.held_out += points
            then = found._unassessed.get(event.number, spent)
            found.held_out_spent += [then] * len(points)
    if isinstance(event, SegmentFinished):
        found.checks.extend(value for value in event.uncertainties if isfinite(value))
        for number, window in enumerate(windows(after)):
            threshold = window.threshold(after.rules.c_x)
            if threshold is not None:
                found.thresholds.setdefault(number, []).append((len(found.checks), threshold))
