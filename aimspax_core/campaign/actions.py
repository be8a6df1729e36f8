"""What a campaign can ask the executor to run.

Each action is a task of its own, except that one task may do several trainings, one after another.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, TypeGuard

from pydantic import Field

from aimspax_core.campaign.record import Record

_AGAIN = "How often in a row it has diverged: another order of batches, a fresh optimizer."


class Sample(Record):
    """Run the sampling MD of one geometry until `points` structures are collected."""

    kind: Literal["sample"] = "sample"
    geometry: int
    step: int = Field(description="Sampling step, counted from 1.")
    points: int
    part: int = Field(default=0, description="How often it has come back with some of its points.")
    origin: str | None = Field(
        default=None, description="Label that the step begins anew from; none: it goes on."
    )

    @property
    def id(self) -> str:
        """Name of the action; two actions with the same name are the same work."""
        name = f"sample:{self.step}:{self.geometry}"
        return f"{name}:{self.part}" if self.part else name


class Label(Record):
    """Label one structure with the reference."""

    kind: Literal["label"] = "label"
    key: str

    @property
    def id(self) -> str:
        """Name of the action; two actions with the same name are the same work."""
        return label_id(self.key)


def label_id(key: str) -> str:
    """Return the id of the action that labels a structure."""
    return f"label:{key}"


class Propagate(Record):
    """Advance a batch of trajectories in lockstep with one version of the ensemble."""

    kind: Literal["propagate"] = "propagate"
    number: int
    trajectories: tuple[int, ...]
    checkpoints: tuple[str, ...] = Field(description="One a member: a version of the ensemble.")

    @property
    def id(self) -> str:
        """Name of the action; two actions with the same name are the same work."""
        return f"propagate:{self.number}"


class Train(Record):
    """Train one member for up to `epochs` more epochs of the current round."""

    kind: Literal["train"] = "train"
    tag: str
    stage: Literal["initial", "active"]
    round: int
    start: str | None = Field(description="Checkpoint to begin from; none: a fresh member.")
    checkpoint: str = Field(description="Checkpoint to write.")
    epochs: int
    at_most: int | None = Field(
        default=None, description="Epochs after which it comes back; the others are another action."
    )
    task: str = Field(
        default="",
        description="Id of the first of the trainings that one task does one after another; empty: "
        "it has a task of its own.",
    )
    again: int = Field(default=0, description=_AGAIN)

    @property
    def id(self) -> str:
        """Name of the action; two actions with the same name are the same work."""
        return f"train:{self.tag}:{self.checkpoint}"


ConvergeOn = Literal["own", "all", "all-and-analysis"]
"""What a member converges on: its own sets, or those of all members together, perhaps with the
labels that were for analysis only."""


class Converge(Record):
    """Train one member towards convergence on the data collected so far."""

    kind: Literal["converge"] = "converge"
    tag: str
    stage: Literal["initial", "final"]
    start: str | None = Field(description="Checkpoint to begin from; none: a fresh member.")
    first: bool = Field(description="Begin a convergence, with new optimizer and scheduler.")
    checkpoint: str
    again: int = Field(default=0, description=_AGAIN)
    on: ConvergeOn = "own"

    @property
    def id(self) -> str:
        """Name of the action; two actions with the same name are the same work."""
        return f"converge:{self.tag}:{self.checkpoint}"


class Adopt(Record):
    """Take over trained models and datasets that the user has given."""

    kind: Literal["adopt"] = "adopt"

    @property
    def id(self) -> str:
        """Name of the action; two actions with the same name are the same work."""
        return "adopt"


class Assess(Record):
    """Measure the errors of models on the held-out set."""

    kind: Literal["assess"] = "assess"
    number: int
    checkpoints: dict[str, str] = Field(description="Each model's checkpoint, by tag.")

    @property
    def id(self) -> str:
        """Name of the action; two actions with the same name are the same work."""
        return f"assess:{self.number}"


class Publish(Record):
    """Write models and datasets where the user looks for them."""

    kind: Literal["publish"] = "publish"
    what: Literal["initial", "final"]

    @property
    def id(self) -> str:
        """Name of the action; two actions with the same name are the same work."""
        return f"publish:{self.what}"


Action = Annotated[
    Sample | Label | Propagate | Train | Converge | Adopt | Assess | Publish,
    Field(discriminator="kind"),
]


def are_trainings(actions: tuple[Action, ...]) -> TypeGuard[tuple[Train, ...]]:
    """Return whether all are trainings, as where one task carries out several actions."""
    return all(isinstance(action, Train) for action in actions)


def task_of(action: Action) -> str:
    """Return the name of the task that carries an action out: the id of its first action."""
    return action.task or action.id if isinstance(action, Train) else action.id


def tasks_of(actions: Iterable[Action]) -> list[tuple[Action, ...]]:
    """Return actions task by task, in the order in which the tasks should begin."""
    tasks: dict[str, list[Action]] = {}
    for action in actions:
        tasks.setdefault(task_of(action), []).append(action)
    return [tuple(task) for task in tasks.values()]
