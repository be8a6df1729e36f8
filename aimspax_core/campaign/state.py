"""The state of a campaign: everything that the rules need to go on, and nothing else."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field, field_validator

from aimspax_core.campaign.actions import Action, ConvergeOn, Label
from aimspax_core.campaign.judged import Judgement
from aimspax_core.campaign.members import MemberState
from aimspax_core.campaign.record import Record
from aimspax_core.campaign.recorded_rules import Rules
from aimspax_core.errors import LabelFailure
from aimspax_core.labels.tries import Tries, from_counts
from aimspax_core.uncertainty.calibration import Calibration
from aimspax_core.uncertainty.threshold import Window

SCHEMA_VERSION = 2
"""Goes up when a state of an older release cannot be taken as it is."""


class Phase(StrEnum):
    """The phase that a campaign is in."""

    ADOPT = "adopt"  # take over members and datasets that were there before
    INITIAL = "initial"  # initial dataset generation: sample, label, train, again
    INITIAL_CONVERGE = "initial-converge"
    INITIAL_PUBLISH = "initial-publish"
    READY = "ready"  # the initial dataset is done; active learning has not been asked for
    ACTIVE = "active"
    DRAIN = "drain"  # a stopping rule holds; labels that were asked for still arrive
    CONVERGE = "converge"
    PUBLISH = "publish"
    FINISHED = "finished"
    FAILED = "failed"  # cannot go on; starting again tries again


class PointStatus(StrEnum):
    """Whether a structure has its label."""

    REQUESTED = "requested"
    LABELLED = "labelled"
    FAILED = "failed"


WhyRefused = Literal["renewed", "near", "ended"]
"""Why a candidate is refused: a new ensemble judges its trajectory anew; it is nearly the same as
one that is known, or waits; exploring ends."""


class Point(Record):
    """One structure that the campaign wants, or has, a label of."""

    key: str
    geometry: int
    sampling_step: int | None = None
    trajectory: int | None = None
    status: PointStatus = PointStatus.REQUESTED
    reason: str = ""
    failure: LabelFailure = LabelFailure.OTHER  # the sort of failure that the reason describes
    analysis: bool = False  # looked at, not trained on
    from_store: bool = False  # its label was there, computed for another campaign
    computed_at: float = 0.0  # when its label was (s since 1970); 0: not known
    uncertainty: float | None = None  # with which it crossed, where candidates are chosen among
    judged_in: int = 0  # by which ensemble, see `CampaignState.ensemble_number`
    chosen: bool = False  # its label has been begun
    distance: float | None = None  # of a candidate to the nearest known structure
    sketch: tuple[float, ...] = ()  # of a candidate, to be held against others
    unit: float | None = None  # in which the distance is told, and sketches are near or far


class TrajectoryStatus(StrEnum):
    """What a trajectory is doing."""

    RUNNING = "running"  # may be propagated
    IN_SEGMENT = "in-segment"
    WAITING = "waiting"  # for its label
    TRAINING = "training"  # for the round that its point is in, or will be in
    FINISHED = "finished"
    FAILED = "failed"  # rolled back too often without a new label


OVER = (TrajectoryStatus.FINISHED, TrajectoryStatus.FAILED)
"""What a trajectory is that will never run again."""


class Trajectory(Record):
    """One MD run that explores. Its atoms and RNG are in the state file number `version`."""

    index: int
    geometry: int
    status: TrajectoryStatus = TrajectoryStatus.RUNNING
    version: int = 0
    step: int = 0
    since_crossing: int = 0
    checkpoint: int = 0
    checkpoint_step: int = 0
    waiting_for: str | None = None
    rollbacks: int = 0
    rollbacks_in_a_row: int = 0
    setbacks: tuple[str, ...] = ()  # why, for each rollback in a row
    origin: str | None = None  # the label that it begins anew from; none: it goes on from `version`
    begun_anew: int = 0  # how often it did so

    @property
    def over(self) -> bool:
        """True if it will never run again."""
        return self.status in OVER


class Sampler(Record):
    """The sampling MD of one geometry; its atoms and RNG are in the state file `version`."""

    geometry: int
    version: int = 0
    step: int = 0
    restarts: int = 0  # from the geometry, because a state file was lost
    lost: bool = False  # the state file `version` is: what follows begins from the geometry
    parts: int = 0  # that have come back of the step under way
    found: int = 0  # structures in them
    refused: int = 0  # and what the gate kept back


class Round(Record):
    """One round of training, on the data as they were when it started."""

    number: int
    stage: Literal["initial", "active"]
    points: tuple[str, ...]
    training: int
    validation: int
    epochs: int
    steps: tuple[int, ...] = ()  # each trajectory's when it began, or at its first segment since


class Unassessed(Record):
    """Models that are to be assessed by the held-out set."""

    number: int
    labels: int  # that they have seen, all together
    checkpoints: dict[str, str]  # by tag


class SetValue(Record):
    """A setting that a person changed while the campaign was there, without editing a file.

    Values are texts as YAML has them, so that infinity comes back from JSON as it was.
    """

    key: str  # section and keys inside it, with dots between
    value: str
    before: str  # in force until then
    stated: dict[str, str] = Field(default_factory=dict)  # what file, environment, --set said then
    time: float  # s since 1970
    by: str


class Pause(Record):
    """Since when (s since 1970), and by whom, a campaign begins nothing new."""

    since: float
    by: str


class CampaignState(Record):
    """A whole campaign. Only `rules.apply` makes a new one."""

    schema_version: int = SCHEMA_VERSION
    rules: Rules
    phase: Phase = Phase.INITIAL
    failed_in: Phase | None = None
    stop_rule: str = ""  # name of the stopping rule that ended the phase, or the one before
    stop_reason: str = ""  # what that rule said; of a campaign that failed: why
    stop_reason_before: str = ""  # the failure
    members: dict[str, MemberState]
    points: dict[str, Point] = Field(default_factory=dict)
    open_points: tuple[str, ...] = ()
    sampling_step: int = 1
    barren_steps: int = 0
    samplers: tuple[Sampler, ...]
    trajectories: tuple[Trajectory, ...] = ()
    window: Window = Window()
    windows: tuple[Window, ...] = ()  # one a geometry, where each has its own threshold
    judgement: Judgement = Judgement()
    training: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    round: Round | None = None
    rounds: int = 0
    rounds_begun: int = 0  # those that a stop cut short included
    ensemble: tuple[str, ...] = ()
    ensembles: int = 0  # that rounds have led to; one in which all sat out leads to none
    converging_on: ConvergeOn = "own"  # the convergence that is under way, or was the last
    unassessed: tuple[Unassessed, ...] = ()
    assessments: int = 0  # asked for so far
    segments: int = 0
    in_flight: dict[str, Action] = Field(default_factory=dict)
    losses: dict[str, Tries] = Field(default_factory=dict)  # by piece of work; see `rules.tries_of`
    label_seconds: tuple[float, ...] = ()
    paces: tuple[float, ...] = ()  # s an epoch and training structure, of the last trainings
    labels: int = 0
    failed_labels: int = 0
    restoring: tuple[str, ...] = ()  # labels that were counted once, and are computed again
    lost_labels: tuple[str, ...] = ()  # given up in a row, since the last that arrived
    candidates_refused: dict[WhyRefused, int] = Field(default_factory=dict)
    refused: int = 0  # points that the gate kept out: structures, and some of the failed labels
    core_hours: float = 0.0  # of the labels
    costliest: tuple[float, ...] = ()  # core-hours of a label, by geometry; 0: none is known
    ran_s: float = 0.0  # for how long it had run when that was told last
    campaign: str = ""  # a name of its own, by which labels are known that were computed for it
    damaged_files: int = 0  # checkpoints and MD states that were found damaged or gone
    divergences: int = 0  # stretches of training that diverged
    published_initial: bool = False
    adopted: bool = False
    settings: str = ""  # digest of those that may not change; empty in earlier releases
    elements: tuple[int, ...] = ()  # of adopted members; else those of the geometries count
    set_values: dict[str, SetValue] = Field(default_factory=dict)  # in force before the files
    paused: Pause | None = None
    compile_notes: tuple[str, ...] = ()  # what was told of compiling the training

    @field_validator("losses", mode="before")
    @classmethod
    def _losses_of_earlier_releases(cls, losses: object) -> object:
        """Take losses that an earlier release counted by work and fate, in one text."""
        if isinstance(losses, dict) and any(isinstance(n, int) for n in losses.values()):
            return from_counts(losses)
        return losses

    @classmethod
    def begin(cls, rules: Rules, adopt: bool = False) -> CampaignState:
        """Return the state of a campaign that has not done anything yet.

        Args:
            rules: The rules in force.
            adopt: Begin from members and datasets that are there.
        """
        return cls(
            rules=rules,
            phase=Phase.ADOPT if adopt else Phase.INITIAL,
            adopted=adopt,
            members={tag: MemberState(tag=tag) for tag in rules.tags},
            samplers=tuple(Sampler(geometry=g) for g in range(rules.geometries)),
            windows=(Window(),) * rules.geometries if rules.threshold_scope == "geometry" else (),
        )

    @property
    def labels_under_way(self) -> int:
        """Labels that have been launched and are not there yet."""
        return sum(isinstance(action, Label) for action in self.in_flight.values())

    @property
    def core_hours_of_next(self) -> float:
        """Core-hours of the costliest label so far, of the geometry where that is least.

        It is one of those of which a label is wanted, or may be.
        """
        if not self.trajectories:  # each is sampled in the next step of the initial dataset
            return min(self.costliest, default=0.0)
        waiting = (TrajectoryStatus.WAITING, *OVER)
        wanted = {self.points[key].geometry for key in self.open_points}
        wanted |= {t.geometry for t in self.trajectories if t.status not in waiting}
        of = [cost for g, cost in enumerate(self.costliest) if not wanted or g in wanted]
        return min(of, default=0.0)

    @property
    def ensemble_number(self) -> int:
        """Number of the ensemble; in campaigns begun before they were counted, of rounds over."""
        return self.ensembles if self.rules.counts_ensembles else self.rounds

    def calibration(self, geometry: int | None = None) -> Calibration | None:
        """Return the calibration in force, of a geometry or of all; None: there is none."""
        return self.judgement.calibration(geometry, self.rules.share_of_line)

    @property
    def hours(self) -> float:
        """Hours for which the campaign has run, as it was told last."""
        return self.ran_s / 3600

    @property
    def training_set_size(self) -> int:
        """The largest member's training set, its initial points included."""
        return max(len(m.training) for m in self.members.values()) + len(self.training)

    @property
    def initial_set_size(self) -> int:
        """Points of the initial dataset, all members together, each counted once."""
        return len({k for m in self.members.values() for k in (*m.training, *m.validation)})

    @property
    def epochs(self) -> int:
        """Epochs of the member that has trained least, convergence left out."""
        return min(member.epochs for member in self.members.values())

    @property
    def explored(self) -> bool:
        """Whether points that exploring found are in training sets."""
        return bool(self.training)

    @property
    def mean_md_steps(self) -> float:
        """MD steps of the trajectories that explore, on average."""
        return sum(t.step for t in self.trajectories) / max(1, len(self.trajectories))

    @property
    def trajectories_over(self) -> bool:
        """Whether no trajectory will run again."""
        return all(trajectory.over for trajectory in self.trajectories)

    @property
    def trajectories_given_up(self) -> int:
        """How many trajectories ended because they were rolled back too often."""
        return sum(t.status is TrajectoryStatus.FAILED for t in self.trajectories)

    @property
    def mean_force_mae(self) -> float | None:
        """The ensemble's mean validation force MAE (eV/Å); None before every member has one."""
        errors = [m.errors for m in self.members.values() if m.errors is not None]
        if len(errors) < len(self.members):
            return None
        return sum(e.mae_f for e in errors) / len(errors)

    @property
    def labelled(self) -> list[str]:
        """The keys of all labels that must be in the store: of points and of adopted datasets."""
        found = [k for k, p in self.points.items() if p.status is PointStatus.LABELLED]
        given = (key for m in self.members.values() for key in (*m.training, *m.validation))
        return list(dict.fromkeys((*found, *given)))

    @property
    def adopting(self) -> bool:
        """True while the campaign has not yet adopted the members that it is to begin from."""
        return Phase.ADOPT in (self.phase, self.failed_in)

    @property
    def finished(self) -> bool:
        """True once everything that was asked for is done."""
        return self.phase is Phase.FINISHED

    def dataset(self, tag: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the label keys of a member's training and validation set, as of now.

        During a round these are the sets as they were when the round started.
        """
        member = self.members[tag]
        training, validation = self.training, self.validation
        if self.round is not None:
            training = training[: self.round.training]
            validation = validation[: self.round.validation]
        return member.training + training, member.validation + validation
