"""A campaign's journal, replayed once, and what the report keeps of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from aimspax_core.campaign.events import (
    Adopted,
    Assessed,
    ConvergenceAdvanced,
    Event,
    FileDamaged,
    LabelArrived,
    LabelFailed,
    LabelsGone,
    ParametersSet,
    Paused,
    Published,
    Resumed,
    Sampled,
    SegmentFinished,
    StateRestored,
    TaskLost,
    TrainingDiverged,
    TrainingFinished,
    Unpaused,
)
from aimspax_core.campaign.journal_lines import Entry
from aimspax_core.campaign.judged import Judged
from aimspax_core.campaign.rules import apply
from aimspax_core.campaign.running_time import RunningTime
from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.report.curves import Curves
from aimspax_core.report.judgements import Judgements
from aimspax_core.report.narrative import lines

WorkKind = Literal[
    "labels", "sampling", "MD", "training", "convergence", "assessment", "publishing", "adoption"
]

_WORK: dict[type, WorkKind] = {
    Sampled: "sampling",
    SegmentFinished: "MD",
    TrainingFinished: "training",
    ConvergenceAdvanced: "convergence",
    Assessed: "assessment",
    Published: "publishing",
    Adopted: "adoption",
}
_TOLD = (
    Resumed,
    ParametersSet,
    Paused,
    Unpaused,
    StateRestored,
    FileDamaged,
    TrainingDiverged,
    LabelsGone,
    TaskLost,
)
"""Events that a reader wants to know of one by one."""


@dataclass(frozen=True)
class Work:
    """A task that ended: `seconds` is how long it kept a worker busy, `end` when, running (s)."""

    kind: WorkKind
    end: float
    seconds: float


@dataclass(frozen=True)
class Asked:
    """A structure whose label was asked for.

    Attributes:
        key: Of its label.
        step: MD step of its trajectory, if it is known.
        uncertainty: Of the committee then, in the measure's unit; None: no check asked for it.
        threshold: In force then; None: there was none.
        arrived: When its label came or failed, running time (s); None: it is not there yet.
        wall_s: Seconds that the reference took; None: it has no label.
        core_hours: Likewise.
        from_store: Whether its label was there, computed for another campaign.
        judged: What the committee had said of it, against the truth.
    """

    key: str
    step: int | None = None
    uncertainty: float | None = None
    threshold: float | None = None
    arrived: float | None = None
    wall_s: float | None = None
    core_hours: float | None = None
    from_store: bool = False
    judged: Judged | None = None


@dataclass(frozen=True)
class Happening:
    """Something out of the ordinary, and when, running time (s)."""

    at: float
    text: str


@dataclass
class Story:
    """What a journal tells.

    Attributes:
        events: How many there are.
        began: Time of the first (s since 1970); None if there is none.
        ended: Time of the last.
        starts: How often a process began to run the campaign.
        curves: Errors and uncertainties against labels and checks.
        judgements: Labels held against predictions.
        asked: Every structure that has got a label or was to get one by a check, by key.
        work: Tasks that have ended.
        checks: Every check: trajectory, step, uncertainty, threshold.
        happenings: What was out of the ordinary.
        phases: Phases with the running time (s) at which each began.
        last: The campaign after the last event.
    """

    events: int = 0
    began: float | None = None
    ended: float | None = None
    starts: int = 0
    curves: Curves = field(default_factory=Curves)
    judgements: Judgements = field(default_factory=Judgements)
    asked: dict[str, Asked] = field(default_factory=dict)
    work: list[Work] = field(default_factory=list)
    checks: list[tuple[int, int, float, float | None]] = field(default_factory=list)
    happenings: list[Happening] = field(default_factory=list)
    phases: list[tuple[Phase, float]] = field(default_factory=list)
    last: CampaignState | None = None
    _time: RunningTime = field(default_factory=RunningTime)

    @classmethod
    def of(cls, journal: Iterable[Entry]) -> Story:
        """Return what a journal tells, by one replay."""
        found = cls()
        for entry in journal:
            before = found.last
            found.note(before, entry.event, apply(before, entry.event), entry.time)
        return found

    @property
    def seconds(self) -> float:
        """For how long the campaign has run (s)."""
        return self._time.seconds

    def seconds_at(self, time: float) -> float:
        """Return the same at a time at which it still runs (s since 1970), event or not."""
        return self._time.at(time)

    def note(
        self, before: CampaignState | None, event: Event, after: CampaignState, time: float
    ) -> None:
        """Take in an event, the states before and after it, and its time (s since 1970)."""
        self.events += 1
        self.began = time if self.began is None else self.began
        self.ended, self.last = time, after
        self._time.note(event, time)
        self.starts += before is None or isinstance(event, Resumed)
        self.curves.note(before, event, after, time)
        self.judgements.note(before, event, after)
        if before is None or before.phase is not after.phase:
            self.phases.append((after.phase, self.seconds))
        self._note_work(event)
        self._note_labels(event)
        if isinstance(event, _TOLD):
            told = lines(before, event, after)
            self.happenings += [Happening(self.seconds, line) for line in told]

    def _note_work(self, event: Event) -> None:
        kind = _WORK.get(type(event))
        if kind is not None:
            self.work.append(Work(kind, self.seconds, getattr(event, "task_seconds", 0.0)))
        elif isinstance(event, LabelArrived) and not event.from_store:
            self.work.append(Work("labels", self.seconds, event.wall_s))

    def _note_labels(self, event: Event) -> None:
        match event:
            case SegmentFinished():
                self._note_segment(event)
            case LabelArrived():
                known = self.asked.get(event.key, Asked(event.key))
                self.asked[event.key] = replace(
                    known,
                    arrived=self.seconds,
                    wall_s=event.wall_s,
                    core_hours=event.core_hours,
                    from_store=event.from_store,
                    judged=event.judged or known.judged,
                )
            case LabelFailed():
                known = self.asked.get(event.key, Asked(event.key))
                self.asked[event.key] = replace(known, arrived=self.seconds)

    def _note_segment(self, event: SegmentFinished) -> None:
        """Keep its checks, and with which of them each structure asked for its label."""
        said = dict[tuple[int, int], tuple[float, float | None]]()
        for one in event.all_checks():
            said[one.trajectory, one.step] = (one.uncertainty, one.threshold)
            self.checks.append((one.trajectory, one.step, one.uncertainty, one.threshold))
        found = [(r.key, r.trajectory, r.step) for r in event.results if r.key is not None]
        found += [(look.key, look.trajectory, look.step) for look in event.looks]
        for key, trajectory, step in found:
            uncertainty, threshold = said.get((trajectory, step), (None, None))
            self.asked.setdefault(key, Asked(key, step, uncertainty, threshold))
