"""What can happen to a campaign; a journal is a list of these events."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from aimspax_core.campaign.actions import Action
from aimspax_core.campaign.judged import Judged
from aimspax_core.campaign.members import Errors
from aimspax_core.campaign.record import Record
from aimspax_core.campaign.recorded_rules import Rules
from aimspax_core.campaign.state import CampaignState, SetValue, WhyRefused
from aimspax_core.errors import LabelFailure
from aimspax_core.labels.tries import Fate

_OFFSETS = (
    "Where atomic energies are given: mean of label minus prediction on the training set "
    "(eV/atom), by formula."
)

_ENERGIES = "Energies (eV) of free atoms with which a member that is fine-tuned begins, by number."


class Started(Record):
    """The campaign began."""

    kind: Literal["started"] = "started"
    rules: Rules
    campaign: str = Field(default="", description="A name of its own, by chance.")
    adopt: bool = Field(default=False, description="From members and datasets that are there.")
    settings: str = Field(default="", description="Digest of the settings that may not change.")
    aimspax: str = Field(default="", description="The release that writes from here on.")
    schema_version: int = Field(default=0, description="What a reader must know at least.")


class Resumed(Record):
    """Another process took the campaign up; tasks that were in flight count as lost."""

    kind: Literal["resumed"] = "resumed"
    rules: Rules
    campaign: str = Field(default="", description="A name of its own, by chance.")
    copied: bool = Field(
        default=False, description="The directory is a copy of another one, where it has its name."
    )
    changes: tuple[str, ...] = Field(default=(), description="Settings changed since, in words.")
    superseded: tuple[str, ...] = Field(
        default=(), description="Keys that were set by hand, and have been changed elsewhere since."
    )
    settings: str = Field(default="", description="Digest of the settings that may not change.")
    aimspax: str = Field(default="", description="The release that writes from here on.")
    schema_version: int = Field(default=0, description="What a reader must know at least.")


class StateRestored(Record):
    """The journal was damaged: from here on the campaign goes on from the state in this event."""

    kind: Literal["state-restored"] = "state-restored"
    state: CampaignState
    reason: str


class ExplorationAsked(Record):
    """Active learning was asked for; it begins once the initial dataset is there."""

    kind: Literal["exploration-asked"] = "exploration-asked"


class Launched(Record):
    """The executor is about to submit an action as a task."""

    kind: Literal["launched"] = "launched"
    action: Action


class Sampled(Record):
    """The sampling MD of a geometry has collected its points, or some of them."""

    kind: Literal["sampled"] = "sampled"
    action_id: str
    geometry: int
    version: int = Field(description="Number of the MD state file that was written.")
    found: tuple[str, ...] = Field(description="Keys of the structures, in order.")
    refused: int = Field(default=0, description="Structures that the gate kept back.")
    more: bool = Field(default=False, description="The step goes on: another task finds the rest.")
    task_seconds: float = Field(default=0.0, description="Seconds on the worker, in all.")


class LabelArrived(Record):
    """A label is in the store."""

    kind: Literal["label-arrived"] = "label-arrived"
    key: str
    wall_s: float = Field(description="Seconds that the reference took.")
    core_hours: float = 0.0
    from_store: bool = Field(
        default=False, description="It was in the store: what one takes it does not tell."
    )
    computed_at: float = Field(default=0.0, description="Seconds since 1970; 0: not known.")
    judged: Judged | None = Field(
        default=None, description="What the committee had said of it, if that was kept."
    )


class LabelFailed(Record):
    """A structure has no label, and a retry would not help."""

    kind: Literal["label-failed"] = "label-failed"
    key: str
    reason: str
    refused: bool = Field(default=False, description="There is an answer; the gate refused it.")
    failure: LabelFailure = Field(
        default=LabelFailure.OTHER, description="The sort of failure that the reason describes."
    )


class LabelsGone(Record):
    """Labels that had arrived are gone from the label store, or damaged there."""

    kind: Literal["labels-gone"] = "labels-gone"
    keys: tuple[str, ...]


class TrajectoryResult(Record):
    """What a segment did to one trajectory."""

    trajectory: int
    outcome: Literal["running", "crossed", "exploded", "finished"]
    version: int = Field(description="Number of the MD state file that was written.")
    step: int
    since_crossing: int
    key: str | None = Field(default=None, description="The structure that crossed.")
    reason: str = ""
    distance: float | None = Field(
        default=None, description="To the nearest known structure, see `uncertainty.nearness`."
    )
    sketch: tuple[float, ...] = Field(default=(), description="Of it, to be held against others.")
    unit: float | None = Field(default=None, description="In which sketches are near or far.")


class Checked(Record):
    """One check of the uncertainty.

    `step` counts the MD steps of the trajectory; uncertainty and threshold have the unit of the
    measure.
    """

    trajectory: int
    step: int
    uncertainty: float
    threshold: float | None


class Look(Record):
    """A structure that is labelled for analysis only; its prediction is in a file."""

    trajectory: int
    step: int
    key: str
    threshold: float | None = Field(description="In force then, in the measure's unit.")


class Refusal(Record):
    """A structure that gets no label, and why; its trajectory goes on."""

    key: str
    why: WhyRefused


class CandidatesRefused(Record):
    """Structures that waited for a label, none of which was begun, get none."""

    kind: Literal["candidates-refused"] = "candidates-refused"
    refusals: tuple[Refusal, ...]


class SegmentFinished(Record):
    """A batch of trajectories came back."""

    kind: Literal["segment-finished"] = "segment-finished"
    action_id: str
    results: tuple[TrajectoryResult, ...]
    uncertainties: tuple[float, ...] = Field(description="In (step, trajectory) order.")
    checked: tuple[int, ...] = Field(
        default=(), description="Trajectory of each uncertainty; none: an earlier release."
    )
    at_steps: tuple[int, ...] = Field(default=(), description="MD step of each, in its life.")
    thresholds: tuple[float | None, ...] = Field(default=(), description="In force at each.")
    looks: tuple[Look, ...] = Field(default=(), description="With ACTIVE_LEARNING.analysis.")
    checks: tuple[Checked, ...] = Field(default=(), description="As releases before 0.2 had them.")
    evaluations: int = Field(default=0, description="Batched passes through the committee.")
    structures: int = Field(default=0, description="Structures in all of them together.")
    seconds: float = Field(default=0.0, description="Seconds spent in them.")
    task_seconds: float = Field(default=0.0, description="Seconds on the worker, in all.")

    def all_checks(self) -> tuple[Checked, ...]:
        """Return its checks in their order; in earlier releases only with `analysis`."""
        if self.checks or not self.at_steps:
            return self.checks
        columns = (self.checked, self.at_steps, self.uncertainties, self.thresholds)
        return tuple(
            Checked(trajectory=trajectory, step=step, uncertainty=value, threshold=threshold)
            for trajectory, step, value, threshold in zip(*columns, strict=True)
        )

    @property
    def above(self) -> tuple[bool, ...]:
        """Of each check, whether it was above the threshold in force; none: that was not kept."""
        pairs = zip(self.uncertainties, self.thresholds, strict=False)
        return tuple(limit is not None and value > limit for value, limit in pairs)


class TrainingFinished(Record):
    """A member was trained for some epochs."""

    kind: Literal["training-finished"] = "training-finished"
    action_id: str
    tag: str
    checkpoint: str
    epochs: int
    errors: tuple[Errors, ...] = Field(description="One for each validation.")
    offsets: dict[str, float] = Field(default_factory=dict, description=_OFFSETS)
    atomic_energies: dict[int, float] = Field(default_factory=dict, description=_ENERGIES)
    task_seconds: float = Field(default=0.0, description="Seconds on the worker, in all.")
    compiled: bool = Field(default=False, description="Whether its steps were compiled.")
    compile_notes: tuple[str, ...] = Field(default=(), description="To be told once each.")


class ConvergenceAdvanced(Record):
    """A member came closer to convergence."""

    kind: Literal["convergence-advanced"] = "convergence-advanced"
    action_id: str
    tag: str
    checkpoint: str
    epochs: int
    errors: tuple[Errors, ...]
    best: Errors | None
    converged: bool
    offsets: dict[str, float] = Field(default_factory=dict, description=_OFFSETS)
    atomic_energies: dict[int, float] = Field(default_factory=dict, description=_ENERGIES)
    task_seconds: float = Field(default=0.0, description="Seconds on the worker, in all.")
    compiled: bool = Field(default=False, description="Whether its steps were compiled.")
    compile_notes: tuple[str, ...] = Field(default=(), description="To be told once each.")


class TrainingDiverged(Record):
    """A stretch of training diverged: the member is as it was before, and tries again."""

    kind: Literal["training-diverged"] = "training-diverged"
    action_id: str
    tag: str
    reason: str


class FileDamaged(Record):
    """A file that the campaign goes on from is damaged or gone: it goes on from the one before."""

    kind: Literal["file-damaged"] = "file-damaged"
    what: Literal["checkpoint", "trajectory", "sampler"]
    which: str = Field(description="The member's tag; index of the trajectory, or of the geometry.")
    name: str = Field(description="Of the checkpoint, or number of the MD state.")
    reason: str
    action_id: str = Field(default="", description="Whose task found it; none: found at a start.")


class Adopted(Record):
    """Models and datasets that the user has given have become the campaign's members and sets."""

    kind: Literal["adopted"] = "adopted"
    action_id: str
    checkpoints: dict[str, str] = Field(description="Each member's checkpoint, by tag.")
    training: dict[str, tuple[str, ...]] = Field(description="Keys of its training set, by tag.")
    validation: dict[str, tuple[str, ...]]
    elements: tuple[int, ...] = Field(description="Atomic numbers that the models know.")
    task_seconds: float = Field(default=0.0, description="Seconds on the worker, in all.")


class Assessed(Record):
    """The errors of models on the held-out set."""

    kind: Literal["assessed"] = "assessed"
    action_id: str
    number: int
    errors: dict[str, Errors] = Field(description="Of each model, by tag.")
    by_geometry: dict[str, dict[str, Errors]] = Field(
        default_factory=dict, description="The same for each geometry that has a file of its own."
    )
    task_seconds: float = Field(default=0.0, description="Seconds on the worker, in all.")


class Published(Record):
    """Models and datasets are where the user looks for them."""

    kind: Literal["published"] = "published"
    what: Literal["initial", "final"]
    last_ensemble: tuple[str, ...] = Field(
        default=(), description="Whose models as they ended active learning are there, too."
    )
    settled: dict[str, Errors] = Field(
        default_factory=dict,
        description="By member: errors of its model after its energies were solved for only now, "
        "as its training was cut short.",
    )
    last_settled: dict[str, Errors] = Field(
        default_factory=dict, description="Likewise of those as they ended active learning."
    )
    assessed: dict[str, Errors] = Field(
        default_factory=dict, description="Of those in `settled`: errors on the held-out set."
    )
    assessed_by: dict[str, dict[str, Errors]] = Field(
        default_factory=dict, description="The same by member and geometry, where each has a file."
    )
    task_seconds: float = Field(default=0.0, description="Seconds on the worker, in all.")


class TaskLost(Record):
    """A task ended without a result: its worker died, or it raised an error."""

    kind: Literal["task-lost"] = "task-lost"
    action_id: str
    reason: str
    counted: bool = Field(default=True, description="False: it was this process that stopped.")
    final: bool = Field(default=False, description="True: another try would end the same way.")
    fate: Fate = Fate.DIED


class ParametersSet(Record):
    """A person changed settings while the campaign was there; they are in force from here on."""

    kind: Literal["parameters-set"] = "parameters-set"
    rules: Rules
    values: tuple[SetValue, ...]


class Paused(Record):
    """A person wants nothing new to begin; what runs is finished."""

    kind: Literal["paused"] = "paused"
    time: float = Field(description="Seconds since 1970.")
    by: str


class Unpaused(Record):
    """A person wants the campaign to go on."""

    kind: Literal["unpaused"] = "unpaused"
    time: float = Field(description="Seconds since 1970.")
    by: str


class TimePassed(Record):
    """The campaign has run for so long; told where something depends on it."""

    kind: Literal["time-passed"] = "time-passed"
    seconds: float = Field(
        description="In all, over restarts; without pauses, and without times when nobody ran it."
    )


Event = Annotated[
    Started
    | Resumed
    | ParametersSet
    | Paused
    | Unpaused
    | StateRestored
    | ExplorationAsked
    | Launched
    | Sampled
    | LabelArrived
    | LabelFailed
    | LabelsGone
    | SegmentFinished
    | CandidatesRefused
    | TrainingFinished
    | ConvergenceAdvanced
    | TrainingDiverged
    | FileDamaged
    | Adopted
    | Assessed
    | Published
    | TaskLost
    | TimePassed,
    Field(discriminator="kind"),
]

EVENT: TypeAdapter[Event] = TypeAdapter(Event)
