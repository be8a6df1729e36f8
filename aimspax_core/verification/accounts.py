"""What is known of a campaign after some of its events, by an independent reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aimspax_core.verification.exploring import Candidate, Judgement, Trajectory, Uncertainties
from aimspax_core.verification.findings import Kind
from aimspax_core.verification.members import Member, Round, Sets

Complain = Callable[[Kind, str], None]
"""Takes what is wrong with an event."""


Measured = Mapping[str, tuple[dict[str, Any] | None, tuple[str, ...] | None]]
"""Errors by tag, and the keys of the labels that they are of; None where nobody knows."""


@dataclass
class Point:
    """A structure that is to be labelled.

    Attributes:
        geometry: Of which geometry it is.
        step: The sampling step that found it; None: it was found by exploring.
        analysis: Whether it is only looked at.
        asked: Whether its label was launched; else only a segment has named it.
        status: `requested`, `labelled`, `failed`, or `given-up` after losses.
        lost: Whether its task was lost, and nothing has asked for it again since.
        from_store: Whether its label was computed for another campaign.
        computed_at: When its label was computed (s since 1970); 0: not known.
    """

    geometry: int
    step: int | None = None
    analysis: bool = False
    asked: bool = False
    status: str = "requested"
    lost: bool = False
    from_store: bool = False
    computed_at: float = 0.0


@dataclass(frozen=True)
class Publication:
    """What was published: the sets of each member, and the errors that its model had.

    `last` has those of the models in `results/last_ensemble/`.
    """

    what: str
    sets: Sets
    errors: Measured
    last: Measured = field(default_factory=dict)


@dataclass
class Accounts:
    """A campaign: what is so far."""

    complain: Complain = lambda kind, what: None
    rules: dict[str, Any] = field(default_factory=dict)
    adopted: bool = False
    points: dict[str, Point] = field(default_factory=dict)
    members: dict[str, Member] = field(default_factory=dict)
    samplers: dict[int, int] = field(default_factory=dict)
    samplers_lost: set[int] = field(default_factory=set)
    trajectories: dict[int, Trajectory] = field(default_factory=dict)
    seen: Uncertainties = field(default_factory=Uncertainties)
    seen_of: dict[int, Uncertainties] = field(default_factory=dict)
    judgement: Judgement = field(default_factory=Judgement)
    training: list[str] = field(default_factory=list)
    validation: list[str] = field(default_factory=list)
    in_flight: dict[str, dict[str, Any]] = field(default_factory=dict)
    restoring: set[str] = field(default_factory=set)
    round: Round | None = None
    published: dict[str, Publication] = field(default_factory=dict)
    publishing: str = ""
    ending: bool = False  # what is trained now makes up for epochs that were lost
    finished: bool = False
    perhaps_reopened: bool = False
    unsure_of_convergence: bool = False
    rounds: int = 0
    dropped_perhaps: int = 0  # of them: where one is sat out as exploring ends, no event says so
    dropped_before: int = 0  # likewise, before rules were changed
    labels: int = 0
    failed: int = 0
    refused: int = 0
    passed_over: dict[str, int] = field(default_factory=dict)  # candidates refused, by reason
    candidates: dict[str, Candidate] = field(default_factory=dict)
    begun_together: list[Candidate] = field(default_factory=list)
    ensemble: tuple[str, ...] = ()  # checkpoints; none: not known
    ensembles: int = 0
    core_hours: float = 0.0
    costliest: dict[int, float] = field(default_factory=dict)
    ran_s: float = 0.0
    segments: int = 0
    dealt_steps: set[int] = field(default_factory=set)
    sampled_steps: dict[int, int] = field(default_factory=dict)

    def sets(self) -> Sets:
        """Return the sets of all members as they are now."""
        return {
            tag: ((*m.training, *self.training), (*m.validation, *self.validation))
            for tag, m in self.members.items()
        }

    def sets_on(self, tag: str, on: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the sets that a member converges on.

        Args:
            tag: The member.
            on: `own`; `all`: what any member has, and all other labels but those for analysis;
                `all-and-analysis`: these too. What is trained on is not in validation.
        """
        sets = self.sets()
        if on == "own":
            return sets[tag]
        training = list(dict.fromkeys(key for own, _ in sets.values() for key in own))
        tested = list(dict.fromkeys(key for _, own in sets.values() for key in own))
        rest = {k for k, p in self.points.items() if p.status == "labelled"}
        rest -= {*training, *tested}
        looked_at = {key for key in rest if self.points[key].analysis}
        validation = [key for key in tested if key not in set(training)]
        training += sorted(rest - looked_at)
        training += sorted(looked_at) if on == "all-and-analysis" else []
        return tuple(training), tuple(validation)

    def published_sets(self) -> Sets:
        """Return the sets that members' models have seen if they are published now."""
        return {
            tag: self.sets_on(tag, m.converged_on if m.converge_epochs else "own")
            for tag, m in self.members.items()
        }

    def errors(self) -> Measured:
        """Return the errors that each member's model has if it is published now."""
        return {
            tag: (m.best, m.best_measured_on) if m.converge_epochs else (m.errors, m.measured_on)
            for tag, m in self.members.items()
        }

    def freeze(self) -> None:
        """Let thresholds stay as they are, once the training set is as large as the rules say."""
        largest = max(len(m.training) for m in self.members.values()) + len(self.training)
        if largest >= float(self.rules["freeze_threshold_dataset"]):
            for seen in (self.seen, *self.seen_of.values()):
                seen.freeze(self.rules["c_x"])

    def scope(self) -> None:
        """Hold one threshold, or one for each geometry, as the rules say."""
        own = self.rules.get("threshold_scope", "shared") == "geometry"
        if own != bool(self.seen_of):
            geometries = self.rules["geometries"] if own else 0
            self.seen_of = {geometry: Uncertainties() for geometry in range(geometries)}
            self.freeze()

    def labelled(self) -> list[str]:
        """Return the keys of all labels that are counted."""
        found = [key for key, point in self.points.items() if point.status == "labelled"]
        given = [key for m in self.members.values() for key in (*m.training, *m.validation)]
        return list(dict.fromkeys((*found, *given)))

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a state that is told as a whole; how it came about is not known then."""
        self.rules, self.adopted = state["rules"], state["adopted"]
        self.training, self.validation = list(state["training"]), list(state["validation"])
        on = state.get("converging_on", "own")
        self.members = {tag: Member.of(member, on) for tag, member in state["members"].items()}
        self.points = {
            key: Point(
                p["geometry"],
                p["sampling_step"],
                p["analysis"],
                True,
                p["status"],
                from_store=p.get("from_store", False),
                computed_at=p.get("computed_at", 0.0),
            )
            for key, p in state["points"].items()
        }
        self.in_flight, self.restoring = dict(state["in_flight"]), set(state["restoring"])
        self.labels, self.failed = state["labels"], state["failed_labels"]
        self.refused, self.core_hours = state["refused"], state["core_hours"]
        self.passed_over = dict(state.get("candidates_refused", {}))
        found = {key: Candidate.of(point) for key, point in state["points"].items()}
        self.candidates = {key: one for key, one in found.items() if one is not None}
        self.begun_together = []
        self.ensemble, self.ensembles = tuple(state["ensemble"]), state.get("ensembles", 0)
        self.costliest = dict(enumerate(state.get("costliest", ())))
        self.ran_s = state.get("ran_s", 0.0)
        self.dropped_perhaps = self.dropped_before = 0
        self.rounds, self.segments = state["rounds"], state["segments"]
        self.seen = Uncertainties.of(state["window"])
        self.seen_of = dict(enumerate(map(Uncertainties.of, state.get("windows", ()))))
        self.judgement = Judgement.of(state.get("judgement"))
        self.trajectories = {t["index"]: Trajectory.of(t) for t in state["trajectories"]}
        self.samplers = {s["geometry"]: s["version"] for s in state["samplers"] if s["version"]}
        self.samplers_lost = {s["geometry"] for s in state["samplers"] if s.get("lost")}
        used = {key for m in self.members.values() for key in (*m.training, *m.validation)}
        steps = {p.step for key, p in self.points.items() if key in used and p.step is not None}
        self.dealt_steps = {*steps, *range(1, state["sampling_step"])}
        self.sampled_steps = {}
        for sampler in state["samplers"]:
            if sampler["step"]:
                self.sampled_steps[sampler["step"]] = self.sampled_steps.get(sampler["step"], 0) + 1
        self.finished, self.publishing = state["phase"] == "finished", ""
        own = {tag: (tuple(m.training), tuple(m.validation)) for tag, m in self.members.items()}
        if state["published_initial"] and not self.adopted:
            unknown = dict.fromkeys(self.members, (None, None))
            self.published.setdefault("initial", Publication("initial", own, unknown))
        if self.finished:
            self.published["final"] = Publication("final", self.published_sets(), self.errors())
        self.unsure_of_convergence = True
        self.ending = state["phase"].removeprefix("initial-") in ("converge", "publish")
        self.round = self._round_of(state)

    def _round_of(self, state: dict[str, Any]) -> Round | None:
        now = state["round"]
        if now is None:
            return None
        sets = {
            tag: (
                (*m.training, *self.training[: now["training"]]),
                (*m.validation, *self.validation[: now["validation"]]),
            )
            for tag, m in self.members.items()
        }
        left = {tag: now["epochs"] - m["round_epochs"] for tag, m in state["members"].items()}
        return Round(now["number"], now["stage"], sets, left)
