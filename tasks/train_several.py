"""Train several members one after another: each alone would be too short for a task of its own."""

from __future__ import annotations

from dataclasses import dataclass

from prefect import task

from aimspax_core.campaign.events import TrainingFinished
from aimspax_core.errors import AimspaxError
from tasks.train import TrainRequest, train


@dataclass(frozen=True)
class TrainSeveralRequest:
    """Which members to train, on what, in their order."""

    trainings: tuple[TrainRequest, ...]

    @property
    def name(self) -> str:
        """Which members, and in which round, for the name of the task run."""
        first = self.trainings[0].action
        number = first.round if first.kind == "train" else 0
        return f"{len(self.trainings)}-members-round-{number}"


@dataclass(frozen=True)
class Several:
    """What became of each training, in their order; what it raised if that is told of a member."""

    outcomes: tuple[TrainingFinished | Exception, ...]


@task(name="train", task_run_name="train-{request.name}")
def train_several(request: TrainSeveralRequest) -> Several:
    """Train each member as `train` does; all checkpoints are on disk when this returns.

    A member that diverges, or whose file is damaged or out of reach, keeps no other from training.
    """
    return Several(tuple(_outcome(training) for training in request.trainings))


def _outcome(request: TrainRequest) -> TrainingFinished | Exception:
    try:
        return train.fn(request)
    except (AimspaxError, OSError) as error:
        return error
