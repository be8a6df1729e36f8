"""Label one structure with the reference method."""

from __future__ import annotations

import socket
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ase import Atoms
from prefect import task
from prefect.context import TaskRunContext
from pydantic import BaseModel

from aimspax_core.errors import CampaignError, LabelError, LabelFailure, StructureError
from aimspax_core.labels import spare
from aimspax_core.labels.gate import check_label, check_structure, lacking, without_unfit
from aimspax_core.labels.label import Label
from aimspax_core.labels.refused import refuse
from aimspax_core.labels.store import LabelStore, StoredLabel, concerning, label_key
from aimspax_core.labels.waiting import waiting_structure
from aimspax_core.machine import worker_address
from aimspax_core.reference.calculation_folder import held
from aimspax_core.reference.interface import CanBeAsked
from aimspax_core.reference.registry import build_reference, kind_of
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.engines import Gate
from aimspax_core.settings.known_engines import EngineSettings
from aimspax_core.storage import blame, cannot_take, patiently
from aimspax_core.storage import text as text_of
from aimspax_core.structures import digest, said_otherwise

KEPT_S = 30.0
"""How long (s) a label waits for room in its store where it is kept for all machines meanwhile."""

HELD_S = 24 * 3600.0
"""How long (s) it waits where only this machine, or only this process, has it."""


@dataclass(frozen=True)
class LabelRequest:
    """Which structure to label, and how.

    Attributes:
        key: Key of the label: structure and reference.
        structure: File of the structure.
        store: Folder of the label store.
        reference: The engine.
        gate: Limits of what may enter a dataset.
        directory: The run directory; relative paths in the settings begin there.
        refused: Folder for structures and labels that the gate refuses.
        stress: Whether the models are trained on stress.
        campaign: Name of the campaign that asks, which pays for the label if it is computed.
        beside: What else of `label.BESIDE` they are trained on.
    """

    key: str
    structure: Path
    store: Path
    reference: EngineSettings
    gate: Gate
    directory: Path
    refused: Path
    stress: bool = False
    campaign: str = ""
    beside: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        key: str,
        run: RunDir,
        reference: EngineSettings,
        gate: Gate,
        directory: Path,
        stress: bool,
        structure: Path | None = None,
        campaign: str = "",
        beside: tuple[str, ...] = (),
    ) -> LabelRequest:
        """Ask for a label of a run.

        Args:
            key: Key of the label.
            run: Where the label store and refused structures lie.
            reference: The engine.
            gate: Limits of what may enter a dataset.
            directory: The run directory.
            stress: Whether the models are trained on stress.
            structure: File of the structure; None: the run's own.
            campaign: Name of the campaign.
            beside: What else they are trained on.
        """
        return cls(
            key=key,
            structure=structure or run.structure(key),
            store=run.labels,
            reference=reference,
            gate=gate,
            directory=directory,
            refused=run.refused,
            stress=stress,
            campaign=campaign,
            beside=beside,
        )


class LabelRecord(BaseModel):
    """What a label task returns: the key of the label in the store, and its cost.

    Attributes:
        key: Key of the label.
        wall_s: Seconds that the calculation took, whenever that was.
        core_hours: Its cost; 0 if the label was in the store already, unless it was computed for
            the same campaign, whose process was killed before it could take it in.
        host: The machine that computed it.
        worker: Address of the worker that ran the task.
        from_store: It was in the store already, and not computed for the same campaign.
    """

    key: str
    wall_s: float
    core_hours: float = 0.0
    host: str
    worker: str = ""
    from_store: bool = False


def label_cache_key(_: TaskRunContext, parameters: dict[str, Any]) -> str:
    """Return the label's key for Prefect's cache; one of which more is asked has another one."""
    request = parameters["request"]
    asked = (*(["stress"] if request.stress else []), *request.beside)
    return "-".join(("label", request.key, *asked))


@task(
    name="label",
    task_run_name="label-{request.key:.8}",
    cache_key_fn=label_cache_key,
    persist_result=True,
    result_serializer="json",
)
def label(request: LabelRequest) -> LabelRecord:
    """Return the record of a structure's label, computing the label first unless it is stored.

    After a transient error the task fails, and does not try again on the same worker: the rules of
    the campaign count its losses, and ask for the label again.

    Raises:
        LabelError: See `labelled`.
        EngineError: The engine refuses its input.
        CampaignError: The reference here is not the one that was asked for.
        OSError: The storage cannot take it now.
    """
    return labelled(request)


def labelled(request: LabelRequest) -> LabelRecord:
    """Label one structure, unless it has a label; the label is on the disk when this returns.

    Raises:
        LabelError: The engine answered, but not with a usable label (`transient=False`), or could
            not be run at all (`transient=True`). A stored label that the gate does not let pass,
            or without the stress that is needed, is not usable, but never replaced; one without
            a dipole, or Hirshfeld ratios, that are needed is, once they are computed.
        EngineError: The engine refuses its input.
        CampaignError: The reference here is not the one that was asked for, or the label store
            may not be written to.
        OSError: The storage cannot take it now (`aimspax_core.storage`). A label that was computed
            is kept, if anywhere there is room, and the next call finds it.
    """
    store = LabelStore(request.store)
    stored, computed = _complete(request, store.get(request.key)), False
    if stored is None:
        with store.claim(request.key):
            stored = _complete(request, store.get(request.key)) or _same(request, store)
            if stored is None:
                kept = _complete(request, spare.take(request.key, store))
                stored, computed = kept or _computed(request, store), True
    _check_stored(request, stored, store)
    provenance = stored.label.provenance
    ours = computed or (request.campaign and provenance.get("campaign") == request.campaign)
    return LabelRecord(
        key=request.key,
        wall_s=provenance.get("wall_s", 0.0),
        core_hours=provenance.get("core_hours", 0.0) if ours else 0.0,
        host=provenance.get("host", ""),
        worker=worker_address(),
        from_store=not ours,
    )


def _complete(request: LabelRequest, found: StoredLabel | None) -> StoredLabel | None:
    """Return a label that was found; None if it lacks something needed that the engine gives.

    A campaign whose models are not trained on a dipole has stored it.
    """
    if found is None:
        return None
    lacks, engine = kind_of(request.reference).lacks, request.reference
    names = lacking(found.atoms, found.label, request.beside)
    given = [name for name in names if not lacks(engine, request.directory, name)]
    return None if given else found


def _same(request: LabelRequest, store: LabelStore) -> StoredLabel | None:
    """Store again the label of a structure that says more or less of charge and multiplicity.

    Campaigns whose models read them tell structures what REFERENCE says; others do not. The engine
    computes the same.
    """
    engine, directory = request.reference, request.directory
    given = kind_of(engine).electrons(engine, directory)
    if not given:
        return None
    atoms = waiting_structure(request.structure)
    identity = build_reference(engine, directory).identity()
    if label_key(atoms, identity) != request.key:
        return None
    for key in (label_key(other, identity) for other in said_otherwise(atoms, given)):
        if (found := _complete(request, store.get(key))) is not None:
            # Who has paid for it has paid for the other.
            paid = {k: v for k, v in found.label.provenance.items() if k != "campaign"}
            reason = store.doubted(key)
            stored = store.put(request.key, atoms, replace(found.label, provenance=paid), identity)
            if reason:
                store.doubt(request.key, reason)
            return stored
    return None


def _computed(request: LabelRequest, store: LabelStore) -> StoredLabel:
    """Compute a label and store it; a label that the gate refuses is kept elsewhere."""
    atoms = waiting_structure(request.structure)
    try:
        check_structure(atoms, request.gate)
    except StructureError as error:
        raise refuse(request.refused, request.key, atoms, str(error)) from error
    began = time.perf_counter()
    reference = build_reference(request.reference, request.directory)
    identity = reference.identity()
    if label_key(atoms, identity) != request.key:
        raise CampaignError(
            f"the reference on {socket.gethostname()} is not the one that was asked for: its "
            "version, or a file that it reads, is another one"
        )
    with held():
        try:
            if isinstance(reference, CanBeAsked):
                answer = reference.label_with(atoms, request.beside)
            else:
                answer = reference.label(atoms)
        except LabelError as error:
            blame(request.directory, Path(tempfile.gettempdir()))
            raise LabelError(
                str(error), error.transient, worker_address(), kind=error.kind
            ) from error
        seconds = time.perf_counter() - began
        answer.provenance.update(
            host=socket.gethostname(),
            wall_s=seconds,
            core_hours=seconds * answer.provenance.get("cores", 1) / 3600,
            settings=digest(concerning(atoms, identity)),
            finished=time.time(),
            **({"campaign": request.campaign} if request.campaign else {}),
        )
        try:
            check_label(atoms, answer, request.gate, request.stress, request.beside)
        except LabelError as error:
            raise refuse(
                request.refused, request.key, atoms, str(error), answer, error.kind
            ) from error
        return _put(store, request.key, atoms, without_unfit(atoms, answer), identity)


def _put(
    store: LabelStore, key: str, atoms: Atoms, answer: Label, identity: dict[str, Any]
) -> StoredLabel:
    """Store a label that was computed; it is not lost where its store cannot take it.

    It is kept on another disk at once, as this process may die, and waits for room here.

    Raises:
        OSError: There is still no room.
        CampaignError: The store may not be written to, which nothing mends but the user.
    """

    def write() -> StoredLabel:
        return store.put(key, atoms, answer, identity)

    try:
        return write()
    except OSError as error:
        kept = spare.keep(key, atoms, answer, identity)
        where = f"; the label is kept in {kept[0]}" if kept else ""
        if not cannot_take(error):
            raise CampaignError(f"a label cannot be stored: {text_of(error)}{where}") from error
    everywhere = kept is not None and kept[1] == "everywhere"
    try:
        stored = patiently(write, KEPT_S if everywhere else HELD_S, f"label {key[:8]}{where}")
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}{where}", error.filename) from error
    spare.forget(key)
    return stored


def _check_stored(request: LabelRequest, stored: StoredLabel, store: LabelStore) -> None:
    """Refuse a stored label that this campaign cannot use.

    A campaign with another gate, or without stress, may have stored it; or one that shares the
    store has found its energy far from those of others.
    """
    reason, kind = store.doubted(stored.key), LabelFailure.ENERGY
    try:
        check_label(stored.atoms, stored.label, request.gate, request.stress, request.beside)
    except LabelError as error:
        reason, kind = f"{error}; {store.advice(stored.key)}", error.kind
    if reason:
        raise refuse(request.refused, stored.key, stored.atoms, reason, stored.label, kind)
