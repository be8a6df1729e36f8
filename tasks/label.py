"""Label one structure with the reference method."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import Task, task
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from pydantic import BaseModel

from aimspax_core.campaign.labels import LabelStore, StoredLabel, label_key
from aimspax_core.errors import AimspaxError, CampaignError, LabelError, StructureError
from aimspax_core.reference.engines import build_reference
from aimspax_core.reference.gate import check_label, check_stress, check_structure
from aimspax_core.settings.project import EngineSettings, Gate
from aimspax_core.structures import decode


@dataclass(frozen=True)
class LabelRequest:
    """Which structure to label, and how.

    Attributes:
        key: Key of the label: structure and reference.
        structure: File that holds the structure.
        store: Folder of the label store.
        reference: The engine.
        gate: What may pass.
        directory: The run directory; relative paths in the settings begin there.
        stress: Whether the models are trained on stress.
    """

    key: str
    structure: Path
    store: Path
    reference: EngineSettings
    gate: Gate
    directory: Path
    stress: bool = False


class LabelRecord(BaseModel):
    """What a label task returns: where the label is by key, not by path, and what it cost."""

    key: str
    wall_s: float
    host: str


def label_cache_key(_: TaskRunContext, parameters: dict[str, Any]) -> str:
    """Prefect's cache uses the label store's own key, and asks anew when stress is needed."""
    request = parameters["request"]
    return f"label-{request.key}{'-stress' if request.stress else ''}"


async def is_transient(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
    """Retry only what another try may mend."""
    try:
        await state.aresult(raise_on_failure=True)
    except LabelError as error:
        return error.transient
    except AimspaxError:
        return False
    # What we did not foresee may be the node's fault: a full disk, a lost mount.
    except Exception:
        return True
    return False


@task(
    name="label",
    task_run_name="label-{request.key:.8}",
    cache_key_fn=label_cache_key,
    retries=2,
    retry_delay_seconds=[1, 5],
    retry_condition_fn=is_transient,
    persist_result=True,
    result_serializer="json",
)
def label(request: LabelRequest) -> LabelRecord:
    """Return the record of a structure's label, computing the label first if nobody has.

    Raises:
        LabelError: The engine answered, but not with a usable label (`transient=False`), or could
            not be run at all (`transient=True`, retried). A label in the store without the stress
            that is needed counts as not usable: what is stored is never replaced.
    """
    store = LabelStore(request.store)
    stored = store.get(request.key)
    if stored is None:
        atoms = decode(json.loads(request.structure.read_text(encoding="utf-8")))
        try:
            check_structure(atoms, request.gate)
        except StructureError as error:
            raise LabelError(f"refused: {error}") from error
        began = time.perf_counter()
        reference = build_reference(request.reference, request.directory)
        if label_key(atoms, reference.identity()) != request.key:
            raise CampaignError(
                f"the reference on {socket.gethostname()} is not the one that was asked for: its "
                "version, or a file that it reads, is another one"
            )
        answer = reference.label(atoms)
        check_label(atoms, answer, request.gate, request.stress)
        answer.provenance.update(
            host=socket.gethostname(), wall_s=time.perf_counter() - began, finished=time.time()
        )
        stored = store.put(request.key, atoms, answer)
    if request.stress:
        _check_stored(stored, store)
    provenance = stored.label.provenance
    return LabelRecord(
        key=request.key, wall_s=provenance.get("wall_s", 0.0), host=provenance.get("host", "")
    )


def _check_stored(stored: StoredLabel, store: LabelStore) -> None:
    """Refuse a label that was stored by a campaign without stress, or by an older engine."""
    try:
        check_stress(stored.atoms, stored.label)
    except LabelError as error:
        raise LabelError(
            f"{error}; this label is from the label store, where the same reference wrote it "
            f"without: remove {store.path(stored.key)} to have it computed again"
        ) from error
