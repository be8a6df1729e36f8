"""Label a batch of structures in one task, where each takes less time than a task costs."""

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
        name: The frames, for the name of the task run: `label-NAME`.
        keys: Keys of the labels.
        request: How to label the first structure; the others are labelled in the same way.
        run: The run directory, with the structures.
        time_budget_s: No further structure is begun after this time.
    """

    name: str
    keys: tuple[str, ...]
    request: LabelRequest
    run: RunDir
    time_budget_s: float


class Labelled(BaseModel):
    """What became of one structure.

    Attributes:
        key: Key of the label.
        seconds: How long the label took here.
        reason: Why there is no label; empty if there is one, in the store.
        transient: Whether trying again may help.
        worker: Address of the worker where the label failed.
    """

    key: str
    seconds: float
    reason: str = ""
    transient: bool = False
    worker: str = ""


class LabelManyRecord(BaseModel):
    """What became of the structures that were begun, in the order of the request."""

    done: tuple[Labelled, ...]


@task(name="label-many", task_run_name="label-{request.name}")
def label_many(request: LabelManyRequest) -> LabelManyRecord:
    """Label structures one after the other until the time budget is used; at least one.

    The failure of one structure does not end the task, and each label is stored at once.

    Raises:
        EngineError: The engine refuses its input, as it would for all other structures.
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
