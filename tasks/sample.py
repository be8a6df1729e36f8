"""Run the sampling MD of one geometry and collect structures for the initial dataset."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from functools import partial

from ase import Atoms
from ase.calculators.calculator import Calculator
from prefect import task

from aimspax_core.campaign.events import Sampled
from aimspax_core.errors import StructureError
from aimspax_core.labels.gate import check_structure
from aimspax_core.labels.refused import refuse
from aimspax_core.labels.waiting import keep_structure
from aimspax_core.output.trajectories import part
from aimspax_core.reference.registry import build_reference
from aimspax_core.run_directory import RunDir
from aimspax_core.sampling.collect import begin, collect
from aimspax_core.sampling.dynamics import load_state, save_state
from aimspax_core.sampling.snapshots import write_snapshots
from aimspax_core.settings.engines import Gate
from aimspax_core.settings.settings import Settings
from aimspax_core.structures import read_geometries


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
    """

    action_id: str
    run: RunDir
    settings: Settings
    geometry: int
    version: int
    points: int
    restarts: int = 0


@task(name="sample", task_run_name="sample-geometry-{request.geometry}")
def sample(request: SampleRequest) -> Sampled:
    """Advance a sampling trajectory; structures and MD state are on disk when this returns."""
    began = time.perf_counter()
    settings, run, idg = request.settings, request.run, request.settings.idg
    atoms = read_geometries(settings.geometry_files)[request.geometry]
    md = settings.md(request.geometry)
    state = (
        load_state(run.sampler(request.geometry, request.version))
        if request.version and not request.restarts
        else begin(atoms, md, request.geometry, restarts=request.restarts)
    )
    found = collect(
        state,
        _calculator(settings, request.geometry),
        geometry=request.geometry,
        atoms=atoms,
        md=md,
        gate=settings.gate,
        points=request.points,
        skip_step=idg.skip_step_initial,
        snapshot_every=idg.save_trajectories_interval if idg.save_trajectories else None,
        pass_gate=partial(_pass_gate, request),
    )
    reference = settings.reference_of(request.geometry)
    identity = build_reference(reference, settings.directory).identity()
    found_keys = tuple(keep_structure(run, atoms, identity) for atoms in found.structures)
    version = request.version + 1
    if idg.save_trajectories:
        info = {"geometry": request.geometry}
        write_snapshots(part(run, "initial", request.geometry, version), found.snapshots, info)
    save_state(run.sampler(request.geometry, version), found.state)
    return Sampled(
        action_id=request.action_id,
        geometry=request.geometry,
        version=version,
        found=found_keys,
        refused=found.refused,
        task_seconds=time.perf_counter() - began,
    )


def _pass_gate(request: SampleRequest, atoms: Atoms, gate: Gate) -> None:
    """Let a structure through the gate; keep one that is refused in the folder of refused ones.

    Raises:
        StructureError: The gate refuses it.
    """
    try:
        check_structure(atoms, gate)
    except StructureError as error:
        name = f"sampled-{request.geometry}-{secrets.token_hex(4)}"
        refuse(request.run.refused, name, atoms, str(error))
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
