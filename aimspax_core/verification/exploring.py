"""Trajectories and the threshold as an independent reader adds them up."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

REMEMBERED = 400
"""The threshold averages over so many of the latest uncertainties."""

WARM_UP = 10
"""It exists once more than these have been seen."""


JUDGED = 200
"""Points that a state holds of those by which the uncertainty is calibrated."""


@dataclass
class Trajectory:
    """An MD run that explores: numbers of its state files, and steps."""

    version: int = 0
    step: int = 0
    checkpoint: int = 0
    checkpoint_step: int = 0
    waiting_for: str | None = None

    @classmethod
    def of(cls, state: dict[str, Any]) -> Trajectory:
        """Return a trajectory as a state tells it."""
        waits = state["waiting_for"] if state["status"] == "waiting" else None
        return cls(
            state["version"], state["step"], state["checkpoint"], state["checkpoint_step"], waits
        )

    def roll_back(self) -> None:
        """Go back to the checkpoint."""
        self.version, self.step = self.checkpoint, self.checkpoint_step
        self.waiting_for = None

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
    """How many checks there were, and how many labels that were held against a prediction."""

    points: int = 0
    above: int = 0
    below: int = 0
    recent: list[float] = field(default_factory=list)  # spreads

    @classmethod
    def of(cls, told: dict[str, Any] | None) -> Judgement:
        """Return what a state tells; earlier releases did not."""
        if told is None:
            return cls()
        recent = [point["spread"] for point in told["recent"]]
        return cls(told["points"], told["above"], told["below"], recent)

    def check(self, event: dict[str, Any]) -> None:
        """Count the checks of a segment by whether they were above the threshold in force."""
        limits = event.get("thresholds", ())
        pairs = zip(event["uncertainties"], limits, strict=False)
        above = sum(limit is not None and float(value) > limit for value, limit in pairs)
        self.above += above
        self.below += len(limits) - above

    def add(self, judged: dict[str, Any]) -> None:
        """Add a point."""
        self.points += 1
        self.recent = [*self.recent, judged["spread"]][-JUDGED:]
