"""What more labels will bring, from how the errors of a campaign have fallen so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from aimspax_core.campaign.assessing import labels_used
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


@dataclass
class Learning:
    """How the errors fell while a campaign explored, round by round.

    Attributes:
        validation: Labels that the members had seen, and the mean of their force MAE (eV/Å) in
            validation.
        held_out: The same on the held-out set.
        seconds: Labels, and for how long the campaign had run (s).
        state: The campaign after the last event.
    """

    validation: list[tuple[int, float]] = field(default_factory=list)
    held_out: list[tuple[int, float]] = field(default_factory=list)
    seconds: list[tuple[int, float]] = field(default_factory=list)
    state: CampaignState | None = None
    _time: RunningTime = field(default_factory=RunningTime)

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
        self.state = after
        self._time.note(event, time)
        if before is None or not before.explored:
            return
        if isinstance(event, Assessed) and event.errors:
            mean = sum(one.mae_f for one in event.errors.values()) / len(event.errors)
            seen = (one.labels for one in before.unassessed if one.number == event.number)
            self.held_out += [(labels, mean) for labels in seen]
        error = after.mean_force_mae
        if after.rounds > before.rounds and error is not None:
            labels = labels_used(before)
            self.validation.append((labels, error))
            self.seconds.append((labels, self._time.seconds))

    @property
    def curve(self) -> list[tuple[int, float]]:
        """The errors that count: on the held-out set, if there is one."""
        assessed = self.state is not None and self.state.rules.assessed
        return self.held_out if assessed else self.validation

    @property
    def s_per_label(self) -> float | None:
        """What a label took (s) in the later half of the rounds; None if nobody can know."""
        (n, then), (last, now) = (self.seconds[len(self.seconds) // 2], self.seconds[-1])
        return (now - then) / (last - n) if last > n else None


@dataclass(frozen=True)
class Forecast:
    """What is to be expected.

    Attributes:
        what: Of which goal or limit it is.
        labels: How many labels the models have seen then.
        error: Their force MAE then (eV/Å); it is before the final convergence.
        seconds: In how long that is (s), at the pace of late; None if that is not known.
    """

    what: str
    labels: Estimate
    error: Estimate
    seconds: Estimate | None

    def text(self) -> str:
        """Describe it in a line."""
        took = "" if self.seconds is None else f", in {_range(self.seconds, duration_text)}"
        return (
            f"{self.what}: {_range(self.error, _mev)} meV/Å "
            f"with {_range(self.labels, '{:.0f}'.format)} labels{took}"
        )

    def row(self) -> dict[str, str]:
        """Return it as a row of a table."""
        seconds = "" if self.seconds is None else _range(self.seconds, duration_text)
        return {
            "forecast": self.what,
            "labels": _range(self.labels, "{:.0f}".format),
            "force MAE (meV/Å)": _range(self.error, _mev),
            "in": seconds,
        }


def forecasts(learning: Learning) -> list[Forecast]:
    """Return when the errors will be small enough, and what the budget comes to; nothing unknown.

    Intervals are those of 90 %; see `power_law`.
    """
    state = learning.state
    if state is None or not learning.seconds or state.phase in _OVER:
        return []
    found = fit(learning.curve)
    return (
        [] if found is None else [*_goal(learning, state, found), *_limits(learning, state, found)]
    )


def forecast_lines(learning: Learning) -> list[str]:
    """Return the forecasts, a line each."""
    assessed = learning.state is not None and learning.state.rules.assessed
    on = "held-out set" if assessed else "validation"
    return [f"forecast ({on}, before convergence) {one.text()}" for one in forecasts(learning)]


def _goal(learning: Learning, state: CampaignState, found: Fit) -> Iterator[Forecast]:
    goal = state.rules.limit(DESIRED_ACC)
    if goal <= 0 or learning.curve[-1][1] <= goal:
        return
    labels = found.labels(goal)
    if labels.least == math.inf:
        return
    exactly = Estimate(goal, goal, goal)
    yield Forecast("desired_acc", labels, exactly, _until(learning, found, labels))


def _limits(learning: Learning, state: CampaignState, found: Fit) -> Iterator[Forecast]:
    """Yield what the limit of the budget comes to that will be reached first."""
    limit, pace = state.rules.limit, learning.s_per_label
    more = {"BUDGET.labels": limit(BUDGET_LABELS) - state.labels}
    if state.labels and state.core_hours:
        left = limit(BUDGET_CORE_HOURS) - state.core_hours
        more["BUDGET.core_hours"] = left / (state.core_hours / state.labels)
    if pace:
        more["BUDGET.hours"] = (3600 * limit(BUDGET_HOURS) - learning.seconds[-1][1]) / pace
    what = min(more, key=lambda name: more[name])
    if not 1 <= more[what] < math.inf:
        return
    n = found.last + more[what]
    labels = Estimate(n, n, n)
    yield Forecast(what, labels, found.error(n), _until(learning, found, labels))


def _until(learning: Learning, found: Fit, labels: Estimate) -> Estimate | None:
    pace = learning.s_per_label
    if pace is None:
        return None
    numbers = (labels.value, labels.least, labels.most)
    return Estimate(*(max(0.0, n - found.last) * pace for n in numbers))


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
