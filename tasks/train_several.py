"""Train several members one after another: each alone would be too short for a task of its own."""

from __future__ import annotations

import logging
import pickle
from dataclasses import dataclass

from prefect import task

from aimspax_core.campaign.events import TrainingFinished
from aimspax_core.errors import AimspaxError
from tasks.train import TrainRequest, train

log = logging.getLogger(f"aimspax.{__name__}")


@dataclass(frozen=True)
class TrainSeveralRequest:
    """Which members to train, on what, in their order.

    Attributes:
        trainings: What is asked for each.
        round: The number of their round.
    """

    trainings: tuple[TrainRequest, ...]
    round: int

    @property
    def name(self) -> str:
        """Which members, and in which round, for the name of the task run."""
        return f"{len(self.trainings)}-members-round-{self.round}"


@dataclass(frozen=True)
class Several:
    """What became of each training, in their order: what it gave, or what it raised."""

    outcomes: tuple[TrainingFinished | Exception, ...]


@task(name="train", task_run_name="train-{request.name}")
def train_several(request: TrainSeveralRequest) -> Several:
    """Train each member as `train` does; all checkpoints are on disk when this returns.

    A member whose training fails, in whatever way, keeps no other from it.
    """
    return Several(tuple(_outcome(training) for training in request.trainings))


def _outcome(request: TrainRequest) -> TrainingFinished | Exception:
    try:
        return train.fn(request)
    except (AimspaxError, OSError) as error:
        return error
    # Whatever else it raises (torch: RuntimeError) would take the others' trainings with it.
    except Exception as error:
        log.warning("the training of %s failed", request.action.tag, exc_info=True)
        return _sendable(error)


def _sendable(error: Exception) -> Exception:
    """Return an error, or its text where it is of a kind that cannot be sent to the flow."""
    try:
        pickle.loads(pickle.dumps(error))
    # To pickle it runs code of its class, which may raise anything.
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
