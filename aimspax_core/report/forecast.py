"""What more labels will bring, from how the errors of a campaign have fallen so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from aimspax_core.campaign.assessing import converged_errors, labels_used
from aimspax_core.campaign.events import Assessed, Event
from aimspax_core.campaign.journal_lines import Entry
from aimspax_core.campaign.rules import apply
from aimspax_core.campaign.running_time import RunningTime
from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.report.power_law import Estimate, Fit, fit
from aimspax_core.stopping.accuracy import DESIRED_ACC
from aimspax_core.stopping.budget import BUDGET_CORE_HOURS, BUDGET_HOURS, BUDGET_LABELS
from aimspax_core.text import duration_text

_OVER = (Phase.CONVERGE, Phase.PUBLISH, Phase.FINISHED)

IN_VALIDATION, HELD_OUT = "in validation", "on the held-out set"
"""The sets of data by which errors are told."""

SMOOTHED = "desired_acc (of errors smoothed over rounds; it may stop earlier)"
"""A rule holds in the first round whose error is small enough, noise included."""

AGAIN = "as many labels again"
"""What a campaign that explores no more is told: what it would gain if its limits were raised."""

FARTHEST = 3.0
"""Drawn curves go to at most so many times the labels so far."""

BASIS = "90 % intervals, before convergence"
"""What the numbers are."""

NOTHING = "nothing can be said now"
"""What is told in place of forecasts."""


@dataclass(frozen=True)
class Round:
    """What a campaign had spent when a round of exploring ended.

    Attributes:
        seen: Labels that the members had seen.
        labels: Labels that the campaign had got, those of `analysis` included.
        core_hours: Of those labels.
        seconds: For how long the campaign had run (s), as its budget counts.
        exploring: The same without converging.
    """

    seen: int
    labels: int
    core_hours: float
    seconds: float
    exploring: float


@dataclass
class Learning:
    """How the errors fell while a campaign explored, round by round.

    Attributes:
        validation: Labels that the members had seen, and the mean of their force MAE (eV/Å) in
            validation.
        held_out: The same on the held-out set.
        rounds: What had been spent then.
        state: The campaign after the last event.
    """

    validation: list[tuple[int, float]] = field(default_factory=list)
    held_out: list[tuple[int, float]] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    state: CampaignState | None = None
    _time: RunningTime = field(default_factory=RunningTime)
    _exploring: float = 0.0

    @classmethod
    def of(cls, journal: Iterable[Entry]) -> Learning:
        """Return what a journal tells."""
        found = cls()
        for entry in journal:
            found.note(found.state, entry.event, apply(found.state, entry.event), entry.time)
        return found

    def note(
        self, before: CampaignState | None, event: Event, after: CampaignState, time: float
    ) -> None:
        """Take in an event, the states before and after it, and its time (s since 1970)."""
        self.state, then = after, self._time.seconds
        self._time.note(event, time)
        if before is None:
            return
        if before.phase not in _OVER:
            self._exploring += self._time.seconds - then
        if not before.explored:
            return
        if isinstance(event, Assessed) and event.errors and not converged_errors(after):
            mean = sum(one.mae_f for one in event.errors.values()) / len(event.errors)
            seen = (one.labels for one in before.unassessed if one.number == event.number)
            self.held_out += [(labels, mean) for labels in seen]
        error = after.mean_force_mae
        if after.rounds > before.rounds and error is not None:
            labels = labels_used(before)
            self.validation.append((labels, error))
            spent = (after.labels, after.core_hours, self._time.seconds, self._exploring)
            self.rounds.append(Round(labels, *spent))

    @property
    def seconds(self) -> float:
        """For how long the campaign has run (s), until the last event."""
        return self._time.seconds

    def pace(self, of: Callable[[Round], float]) -> float | None:
        """Return what went with each label that the members saw, in the later half of the rounds.

        None if nobody can know.
        """
        then, now = self.rounds[len(self.rounds) // 2], self.rounds[-1]
        return (of(now) - of(then)) / (now.seen - then.seen) if now.seen > then.seen else None


@dataclass(frozen=True)
class Forecast:
    """What is to be expected.

    Attributes:
        what: Of which goal or limit it is.
        labels: How many labels the models have seen then.
        errors: Their force MAE then (eV/Å), by the set of data; before the final convergence.
        seconds: In how long that is (s), at the pace of late; None if that is not known.
        now: Labels that the models have seen so far.
    """

    what: str
    labels: Estimate
    errors: dict[str, Estimate]
    seconds: Estimate | None
    now: int

    def text(self) -> str:
        """Describe it in a line."""
        took = f"; at the pace of late in {self._time}" if self._time else ""
        errors = ", ".join(f"{_range(e, _mev)} meV/Å {on}" for on, e in self.errors.items())
        return f"{self.what}: {errors}; labels seen by the models: {self._labels}{took}"

    def row(self) -> dict[str, str]:
        """Return it as a row of a table."""
        errors = {f"force MAE (meV/Å) {on}": _range(e, _mev) for on, e in self.errors.items()}
        return {
            "forecast": self.what,
            "labels seen by the models": self._labels,
            **errors,
            "takes, at the pace of late": self._time,
        }

    @property
    def _labels(self) -> str:
        if self.labels.value > self.now:
            return _range(self.labels, "{:.0f}".format)
        if self.labels.most == math.inf:
            return f"{self.now}, any round now, perhaps never"
        least = f"{self.now}, any round now"
        return f"{least} (to {self.labels.most:.0f})" if self.labels.most > self.now else least

    @property
    def _time(self) -> str:
        known = self.seconds is not None and self.labels.value > self.now
        return _range(self.seconds, duration_text) if known and self.seconds else ""


@dataclass(frozen=True)
class Ahead:
    """How an error goes on if the campaign does.

    Attributes:
        on: The set of data.
        labels: Labels that the models have seen, from those so far on.
        errors: The force MAE (eV/Å) with each number of them.
    """

    on: str
    labels: tuple[float, ...]
    errors: tuple[Estimate, ...]


def forecasts(learning: Learning) -> list[Forecast]:
    """Return when the errors will be small enough, and what the budget comes to; nothing unknown.

    Once exploring is over, what as many labels again would bring stands in the place of the budget.

    Intervals of labels and errors are those of 90 %; see `power_law`. They are of the curve that
    the errors follow, not of a single round's error, which is above or below it.
    """
    state = learning.state
    if state is None or not learning.rounds:
        return []
    found = _fits(learning, state)
    if state.phase in _OVER:
        return [*_goal(learning, state, found), *_again(learning, found)]
    return [*_goal(learning, state, found), *_limits(learning, state, found)]


def ahead(learning: Learning, points: int = 40) -> list[Ahead]:
    """Return how the errors go on to the farthest forecast, to be drawn; nothing unknown."""
    state = learning.state
    if state is None or not learning.rounds:
        return []
    last = learning.rounds[-1].seen
    told = [one.labels.value / last for one in forecasts(learning)]
    farthest = min(FARTHEST, max((times for times in told if times > 1), default=1.5))
    labels = tuple(last * farthest ** (i / (points - 1)) for i in range(points))
    return [
        Ahead(on, labels, tuple(one.error(n) for n in labels))
        for on, one in _fits(learning, state).items()
    ]


def _fits(learning: Learning, state: CampaignState) -> dict[str, Fit]:
    """Return the curves through what is known, by the set of data."""
    curves = {IN_VALIDATION: learning.validation}
    if state.rules.assessed:
        curves[HELD_OUT] = learning.held_out
    return {on: one for on, curve in curves.items() if (one := fit(curve)) is not None}


def forecast_lines(learning: Learning) -> list[str]:
    """Return the forecasts, a line each."""
    return [f"forecast ({BASIS}) {one.text()}" for one in forecasts(learning)]


def forecast_rows(learning: Learning) -> list[dict[str, str]]:
    """Return the forecasts as a table, whose rows have the same columns."""
    rows = [one.row() for one in forecasts(learning)]
    columns = dict.fromkeys(column for row in rows for column in row)
    return [{column: row.get(column, "") for column in columns} for row in rows]


def _goal(learning: Learning, state: CampaignState, found: dict[str, Fit]) -> Iterator[Forecast]:
    """Yield when the error that the rule judges, that in validation, is small enough."""
    goal, now = state.rules.limit(DESIRED_ACC), learning.rounds[-1].seen
    if goal <= 0 or IN_VALIDATION not in found or learning.validation[-1][1] < goal:
        return
    labels = found[IN_VALIDATION].labels(goal)
    if labels.least == math.inf:
        return
    labels = Estimate(*(max(n, now) for n in (labels.value, labels.least, labels.most)))
    errors = {IN_VALIDATION: Estimate(goal, goal, goal)}
    if HELD_OUT in found and labels.value < math.inf:
        errors[HELD_OUT] = found[HELD_OUT].error(labels.value)
    yield Forecast(SMOOTHED, labels, errors, _until(learning, labels), now)


def _limits(learning: Learning, state: CampaignState, found: dict[str, Fit]) -> Iterator[Forecast]:
    """Yield what the limit of the budget comes to that will be reached first."""
    limit, last = state.rules.limit, learning.rounds[-1]
    left = {
        "BUDGET.labels": (limit(BUDGET_LABELS) - last.labels, lambda r: r.labels),
        "BUDGET.core_hours": (limit(BUDGET_CORE_HOURS) - last.core_hours, lambda r: r.core_hours),
        "BUDGET.hours": (3600 * limit(BUDGET_HOURS) - last.seconds, lambda r: r.exploring),
    }
    paces = {name: (rest, learning.pace(of)) for name, (rest, of) in left.items()}
    rest, pace_of_labels = paces["BUDGET.labels"]
    if pace_of_labels is not None:  # rounds of late may have seen more than came: some had waited
        paces["BUDGET.labels"] = rest, max(1.0, pace_of_labels)
    more = {name: rest / pace for name, (rest, pace) in paces.items() if pace}
    what = min(more, key=lambda name: more[name], default=None)
    if what is None or not found or not 1 <= more[what] < math.inf:
        return
    n = last.seen + more[what]
    yield _with_labels(learning, found, what, n)


def _again(learning: Learning, found: dict[str, Fit]) -> Iterator[Forecast]:
    """Yield what twice the labels would have brought."""
    if found:
        yield _with_labels(learning, found, AGAIN, 2.0 * learning.rounds[-1].seen)


def _with_labels(learning: Learning, found: dict[str, Fit], what: str, n: float) -> Forecast:
    """Return what so many labels come to."""
    errors = {on: one.error(n) for on, one in found.items()}
    labels = Estimate(n, n, n)
    return Forecast(what, labels, errors, _until(learning, labels), learning.rounds[-1].seen)


def _until(learning: Learning, labels: Estimate) -> Estimate | None:
    pace, now = learning.pace(lambda r: r.exploring), learning.rounds[-1].seen
    if not pace:
        return None
    numbers = (labels.value, labels.least, labels.most)
    return Estimate(*(max(0.0, n - now) * pace for n in numbers))


def _mev(error: float) -> str:
    return f"{1000 * error:.3g}"


def _range(number: Estimate, text: Callable[[float], str]) -> str:
    """Return a number with its bounds; what is infinite is not said."""
    if number.least == number.most:
        return text(number.value)
    least = text(number.least)
    if number.most == math.inf:
        about = "" if number.value == math.inf else f"about {text(number.value)}, "
        return f"{about}at least {least}, perhaps never"
    return f"about {text(number.value)} ({least} to {text(number.most)})"
