"""Label a batch of structures on one worker, where a task for each would cost more than it does."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from prefect import task
from pydantic import BaseModel

from aimspax_core.errors import LabelError
from aimspax_core.run_directory import RunDir
from tasks.label import LabelRequest, labelled


@dataclass(frozen=True)
class LabelManyRequest:
    """Which structures to label, and how.

    Attributes:
        name: What the task is called after `label-`: the frames that it is about.
        keys: Keys of the labels.
        request: How to label the first of them; the others in the same way.
        run: The run directory, where the structures wait.
        time_budget_s: No further structure is begun after this time.
    """

    name: str
    keys: tuple[str, ...]
    request: LabelRequest
    run: RunDir
    time_budget_s: float


class Labelled(BaseModel):
    """What became of one structure; without a reason its label is in the store.

    Attributes:
        key: Key of the label.
        seconds: What it took here.
        reason: Why there is no label.
        transient: Whether trying again may help.
        worker: Address of the worker where it went wrong.
    """

    key: str
    seconds: float
    reason: str = ""
    transient: bool = False
    worker: str = ""


class LabelManyRecord(BaseModel):
    """What became of the structures that were begun, in their order."""

    done: tuple[Labelled, ...]


@task(name="label-many", task_run_name="label-{request.name}")
def label_many(request: LabelManyRequest) -> LabelManyRecord:
    """Label structures one after the other until the time is over; one at least.

    A structure that fails leaves the others alone, and each label is in the store at once.

    Raises:
        EngineError: The engine refuses its input; so it would with all others.
        CampaignError: The reference here is not the one that was asked for.
    """
    began = time.perf_counter()
    done: list[Labelled] = []
    for key in request.keys:
        if done and time.perf_counter() - began > request.time_budget_s:
            break
        done.append(_one(request, key))
    return LabelManyRecord(done=tuple(done))


def _one(request: LabelManyRequest, key: str) -> Labelled:
    first, began = request.request, time.perf_counter()
    own = replace(first, key=key, structure=request.run.structure(key))
    try:
        labelled(own)
    except LabelError as error:
        return Labelled(
            key=key,
            seconds=time.perf_counter() - began,
            reason=str(error),
            transient=error.transient,
            worker=error.worker,
        )
    return Labelled(key=key, seconds=time.perf_counter() - began)
