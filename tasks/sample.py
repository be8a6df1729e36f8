"""Run the sampling MD of one geometry and collect structures for the initial dataset."""

from __future__ import annotations

import logging
import math
import secrets
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator
from prefect import task

from aimspax_core.campaign.events import Sampled
from aimspax_core.errors import LabelError, StructureError
from aimspax_core.labels.gate import check_structure
from aimspax_core.labels.refused import refuse
from aimspax_core.labels.store import LabelStore
from aimspax_core.labels.waiting import keep_structure
from aimspax_core.output.trajectories import part
from aimspax_core.reference.registry import build_reference
from aimspax_core.run_directory import RunDir
from aimspax_core.sampling.collect import Collected, begin, begun_from, collect, heated
from aimspax_core.sampling.dynamics import MDState, load_state, save_state
from aimspax_core.sampling.rattling import collect_rattled
from aimspax_core.sampling.snapshots import write_snapshots
from aimspax_core.settings.engines import Gate
from aimspax_core.settings.md import Dynamics
from aimspax_core.settings.settings import Settings
from aimspax_core.storage import blame, patiently

WAIT_S = 24 * 3600.0
"""How long (s) what the MD has found waits for room on the disk."""

log = logging.getLogger(f"aimspax.{__name__}")


@dataclass(frozen=True)
class SampleRequest:
    """Which sampling trajectory to advance.

    Attributes:
        action_id: The action that this carries out.
        run: The run directory.
        settings: The settings in force.
        geometry: Index of the geometry.
        version: Number of the MD state file to go on from; 0: the geometry itself.
        points: Structures to collect.
        restarts: 0, or: that file is lost, so often; begin from the geometry with new noise.
        time_budget_s: Time after which it comes back with what it has, at its next structure.
        refused_before: Stretches without a structure in earlier parts of the same sampling step.
        step: The sampling step, from 1.
        part: How often the MD has come back with some of the structures of this step.
        origin: Label that the step begins anew from; None: it goes on.
    """

    action_id: str
    run: RunDir
    settings: Settings
    geometry: int
    version: int
    points: int
    restarts: int = 0
    time_budget_s: float = math.inf
    refused_before: int = 0
    step: int = 1
    part: int = 0
    origin: str | None = None

    @property
    def md(self) -> Dynamics:
        """The dynamics of its sampling step."""
        return self.settings.md(self.geometry, self.step - 1)


@task(name="sample", task_run_name="sample-geometry-{request.geometry}")
def sample(request: SampleRequest) -> Sampled:
    """Advance a sampling trajectory; structures and MD state are on disk when this returns.

    It may be MD by the reference, which takes hours: it waits for a disk that has no room.

    Raises:
        OSError: There is no room, and none comes.
    """
    began = time.perf_counter()
    settings = request.settings
    atoms = settings.geometries([request.geometry])[0]
    state = _state(request, atoms)
    found = _collected(request, atoms, state, lambda: time.perf_counter() - began)
    identity = build_reference(
        settings.reference_of(request.geometry), settings.directory
    ).identity()
    found = replace(found, state=replace(found.state, drawn_for=state.drawn_for))
    write = partial(_write, request, found, identity)
    return Sampled(
        action_id=request.action_id,
        geometry=request.geometry,
        version=request.version + 1,
        found=patiently(write, WAIT_S, f"the sampling MD of geometry {request.geometry}"),
        refused=found.refused,
        more=not found.complete,
        task_seconds=time.perf_counter() - began,
    )


def _state(request: SampleRequest, atoms: Atoms) -> MDState:
    """Return where the sampling MD goes on; with new velocities where the temperature is new.

    A state of which it is not known for what temperature its velocities are goes on as it is.
    """
    geometry, md = request.geometry, request.md
    if not request.version or request.restarts:
        held = request.settings.held_atoms(geometry)
        return begin(atoms, md, geometry, restarts=request.restarts, held=held)
    state = load_state(request.run.sampler(geometry, request.version))
    if request.step == 1 or request.part or request.settings.idg.initial_sampling == "rattle":
        return state
    if request.origin is not None:
        stored = LabelStore(request.run.labels).get(request.origin)
        if stored is not None:
            return begun_from(stored.atoms, state, md, geometry)
        log.warning(
            "label %.8s is gone: the sampling MD of geometry %d goes on instead of beginning anew "
            "from it",
            request.origin,
            geometry,
        )
    if state.drawn_for is None:
        return replace(state, drawn_for=md.temperature)
    return state if state.drawn_for == md.temperature else heated(state, md, geometry)


def _collected(
    request: SampleRequest, atoms: Atoms, state: MDState, seconds: Callable[[], float]
) -> Collected:
    """Run the MD, or rattle the geometry, and collect structures.

    Args:
        request: What is asked.
        atoms: The geometry.
        state: Where the MD goes on.
        seconds: Returns how long the task has taken so far.

    Raises:
        OSError: The reference has failed, for want of room.
        LabelError: It has failed for another reason.
    """
    settings, idg = request.settings, request.settings.idg
    pass_gate, how = partial(_pass_gate, request), settings.sampled_by_rattling(request.geometry)
    if how is not None:
        return collect_rattled(state, atoms, how, settings.gate, request.points, pass_gate)
    calculator = _calculator(settings, request.geometry)
    try:
        return collect(
            state,
            calculator,
            geometry=request.geometry,
            atoms=atoms,
            md=request.md,
            gate=settings.gate,
            points=request.points,
            skip_step=idg.skip_step_initial,
            snapshot_every=idg.save_trajectories_interval if idg.save_trajectories else None,
            pass_gate=pass_gate,
            time_is_up=lambda: seconds() >= request.time_budget_s,
            refused_before=request.refused_before,
        )
    except LabelError:
        blame(settings.directory, Path(tempfile.gettempdir()))
        raise


def _write(request: SampleRequest, found: Collected, identity: dict[str, Any]) -> tuple[str, ...]:
    """Write all that was found; return the keys of the structures."""
    run, version = request.run, request.version + 1
    keys = tuple(keep_structure(run, atoms, identity) for atoms in found.structures)
    if request.settings.idg.save_trajectories:
        info = {"geometry": request.geometry}
        write_snapshots(part(run, "initial", request.geometry, version), found.snapshots, info)
    save_state(run.sampler(request.geometry, version), found.state)
    return keys


def _pass_gate(request: SampleRequest, atoms: Atoms, gate: Gate) -> None:
    """Let a structure through the gate; keep one that is refused in the folder of refused ones.

    Raises:
        StructureError: The gate refuses it.
    """
    try:
        check_structure(atoms, gate)
    except StructureError as error:
        name = f"sampled-{request.geometry}-{secrets.token_hex(4)}"
        keep = partial(refuse, request.run.refused, name, atoms, str(error))
        patiently(keep, WAIT_S, "a structure that the gate refused")
        raise


def _calculator(settings: Settings, geometry: int) -> Calculator:
    """Return the calculator that drives the sampling MD of a geometry."""
    engine = settings.sampling_engine_of(geometry)
    if engine is not None:
        return build_reference(engine, settings.directory).calculator()
    # Models take seconds to import, which the flow's process need not spend.
    from aimspax_core.model.worker_memory import worker_memory

    idg = settings.idg
    model = worker_memory().foundation(
        idg.foundational_model, idg.foundation, settings.directory, settings.model
    )
    return model.calculator
