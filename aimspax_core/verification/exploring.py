"""Trajectories, candidates and the threshold as an independent reader adds them up."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

REMEMBERED = 400
"""The threshold averages over so many of the latest uncertainties."""

WARM_UP = 10
"""It exists once more than these have been seen."""


JUDGED = 200
"""Points that a state holds of those by which the uncertainty is calibrated."""

ENOUGH = 20
"""Points that it keeps of each geometry, however old they are."""

JudgedPoint = tuple[int, float, float, bool, tuple[int, int], tuple[int, int]]


@dataclass
class Trajectory:
    """An MD run that explores: numbers of its state files, steps, restarts from labels."""

    version: int = 0
    step: int = 0
    checkpoint: int = 0
    checkpoint_step: int = 0
    waiting_for: str | None = None
    origin: str | None = None
    begun_anew: int = 0

    @classmethod
    def of(cls, state: dict[str, Any]) -> Trajectory:
        """Return a trajectory as a state tells it."""
        waits = state["waiting_for"] if state["status"] == "waiting" else None
        return cls(
            state["version"],
            state["step"],
            state["checkpoint"],
            state["checkpoint_step"],
            waits,
            state.get("origin"),
            state.get("begun_anew", 0),
        )

    def roll_back(self) -> None:
        """Go back to the checkpoint."""
        self.version, self.step = self.checkpoint, self.checkpoint_step
        self.waiting_for = self.origin = None

    def lose(self, version: int) -> None:
        """Go on without a state file: from the checkpoint, or if that is it from the geometry."""
        if version == self.checkpoint:
            self.checkpoint = self.checkpoint_step = 0
        if version == self.version:
            self.version, self.step = self.checkpoint, self.checkpoint_step

    def serve(self, checkpoint: bool) -> None:
        """Go on with the label that was waited for; it may become the checkpoint."""
        self.waiting_for = None
        if checkpoint:
            self.checkpoint, self.checkpoint_step = self.version, self.step


@dataclass
class Uncertainties:
    """What was seen of the committee's uncertainty, and the threshold that follows."""

    values: list[float] = field(default_factory=list)
    count: int = 0
    frozen: float | None = None

    @classmethod
    def of(cls, window: dict[str, Any]) -> Uncertainties:
        """Return what a state tells."""
        return cls(list(window["values"]), window["count"], window["frozen"])

    def see(self, values: list[Any]) -> None:
        """Add uncertainties; those that are not finite do not count."""
        finite = [float(value) for value in values if math.isfinite(float(value))]
        self.values = (self.values + finite)[-REMEMBERED:]
        self.count += len(finite)

    def threshold(self, c_x: float) -> float | None:
        """Return the threshold; None during warm-up."""
        if self.frozen is not None or self.count <= WARM_UP:
            return self.frozen
        return math.fsum(self.values) / len(self.values) * (1 + c_x)

    def freeze(self, c_x: float) -> None:
        """Let the threshold stay as it is now, if there is one."""
        self.frozen = self.threshold(c_x)


@dataclass
class Judgement:
    """Checks, and labels that were held against a prediction.

    Attributes:
        points: How many labels that were.
        above: Checks above the threshold in force.
        below: All others.
        recent: The latest points: geometry, spread, error, whether it was above, the checks before.
        older: Those before, without which their geometry would have too few.
        by_geometry: Checks above and below, of each geometry.
    """

    points: int = 0
    above: int = 0
    below: int = 0
    recent: list[JudgedPoint] = field(default_factory=list)
    older: list[JudgedPoint] = field(default_factory=list)
    by_geometry: dict[int, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, told: dict[str, Any] | None) -> Judgement:
        """Return what a state tells; earlier releases did not."""
        if told is None:
            return cls()
        recent, older = (
            [
                (p["geometry"], p["spread"], p["error"], p["above"], *map(_two, _checks(p)))
                for p in told.get(name, ())
            ]
            for name in ("recent", "older")
        )
        own = {int(g): _two(tally) for g, tally in told.get("by_geometry", {}).items()}
        return cls(told["points"], told["above"], told["below"], recent, older, own)

    @property
    def since_the_start(self) -> bool:
        """Whether the checks of geometries are all there: earlier releases did not keep them."""
        return sum(map(sum, self.by_geometry.values())) == self.above + self.below

    @property
    def in_short(self) -> tuple[int, int, int, list[float]]:
        """What all releases have kept: counts, and the spreads of the latest points."""
        return self.points, self.above, self.below, [spread for _, spread, *_ in self.recent]

    def check(self, event: dict[str, Any], geometries: int) -> None:
        """Count the checks of a segment by whether they were above the threshold in force."""
        pairs = zip(event["uncertainties"], event.get("thresholds", ()), strict=False)
        ups = [limit is not None and float(value) > limit for value, limit in pairs]
        self.above += sum(ups)
        self.below += len(ups) - sum(ups)
        for up, index in zip(ups, event.get("checked", ()), strict=False):
            above, below = self.by_geometry.get(index % geometries, (0, 0))
            self.by_geometry[index % geometries] = (above + up, below + (not up))

    def add(self, judged: dict[str, Any]) -> None:
        """Add a point."""
        geometry = judged["geometry"]
        checks = (self.above, self.below), self.by_geometry.get(geometry, (0, 0))
        point = (geometry, judged["spread"], judged["error"], judged["above"], *checks)
        self.points += 1
        self.recent.append(point)
        everything = [*self.older, *self.recent[:-JUDGED]]
        self.recent = self.recent[-JUDGED:]
        have = Counter(of for of, *_ in self.recent)
        self.older = []
        for old in reversed(everything):
            if have[old[0]] < ENOUGH:
                have[old[0]] += 1
                self.older.insert(0, old)


def _checks(point: dict[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    none = {"above": 0, "below": 0}
    return point.get("checks", none), point.get("own_checks", none)


def _two(tally: dict[str, int]) -> tuple[int, int]:
    return tally["above"], tally["below"]


@dataclass
class Candidate:
    """A structure that was found by its uncertainty, where labels are chosen among.

    Attributes:
        geometry: Of which geometry it is.
        spread: The uncertainty with which it was found.
        ensemble: Number of the one that has judged it; None: nobody knows.
        distance: To the nearest known structure, in units of `unit`; None: there is none.
        sketch: To be held against that of another one.
        unit: In which distances are told.
        begun: Whether its label was launched.
        sure: Whether it surely waits until its label is launched, or it is refused.
    """

    geometry: int
    spread: float
    ensemble: int | None
    distance: float | None
    sketch: tuple[float, ...]
    unit: float | None
    begun: bool = False
    sure: bool = True

    @classmethod
    def of(cls, point: dict[str, Any]) -> Candidate | None:
        """Return a candidate as a state tells it; None: the point is none."""
        if point.get("uncertainty") is None:
            return None
        return cls(
            point["geometry"],
            point["uncertainty"],
            point["judged_in"],
            point["distance"],
            tuple(point["sketch"]),
            point.get("unit"),
            begun=point["chosen"],
            sure=False,
        )

    def near(self, other: Candidate, limit: float) -> bool:
        """Return whether another one of its geometry and ensemble is nearer than a limit."""
        if self.unit is None or not self.sketch or len(self.sketch) != len(other.sketch):
            return False
        ensembles = {self.ensemble, other.ensemble} - {None}
        alike = self.geometry == other.geometry and len(ensembles) < 2
        return alike and math.dist(self.sketch, other.sketch) < limit * self.unit
