"""From MD settings to an ASE integrator; and the full state of a trajectory, exact on disk.

A state file is one JSON object: `format` ("aimspax-md-state"), `version` (1), `step`, `structure`
(as `aimspax_core.structures.encode` writes it), `momenta` (N x 3, in ASE's units,
amu·Å/(Å·sqrt(amu/eV))), `rng` (NumPy's state of the PCG64 generator), and `extras` (what an
integrator keeps beyond that; empty for Langevin). Floats are written so that they read back
exactly.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.constraints import FixCom
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics

from aimspax_core.errors import CampaignError
from aimspax_core.files import write_text
from aimspax_core.structures import decode, encode

if TYPE_CHECKING:
    from aimspax_core.settings.project import MD

_FORMAT = "aimspax-md-state"
_VERSION = 1


@dataclass(frozen=True)
class MDState:
    """All that a trajectory needs to go on as if it had never stopped.

    Attributes:
        structure: The atoms with their momenta, and no constraint or calculator.
        step: MD steps made in the trajectory's life.
        rng: State of the PCG64 generator that makes the noise, as NumPy gives it.
        extras: What the integrator keeps beyond that, as JSON data; empty for Langevin.
    """

    structure: Atoms
    step: int
    rng: dict[str, Any]
    extras: dict[str, Any] = field(default_factory=dict)


def random_stream(md_seed: int, *path: int) -> np.random.Generator:
    """Return the random stream that belongs to a place in the campaign.

    Args:
        md_seed: `MD_seed` of the settings.
        path: Where it is used, such as trajectory and number of rollbacks. Different paths give
            independent streams, the same path the same stream.
    """
    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence(entropy=md_seed, spawn_key=path))
    )


def start(atoms: Atoms, settings: MD, rng: np.random.Generator) -> MDState:
    """Return the state at step 0, with Maxwell-Boltzmann velocities.

    With `fixcm` the centre of mass is brought to rest. That projection of a Maxwell-Boltzmann
    sample is a sample of the 3N-3 degrees of freedom that are left, so nothing is rescaled.
    Rotation stays: Langevin noise turns the molecule anyway.

    Args:
        atoms: N atoms; their own momenta, if any, are ignored.
        settings: `temperature` (K) and `fixcm` are used.
        rng: Draws the velocities, and then the dynamics' noise.
    """
    structure = decode(encode(atoms))
    masses = structure.get_masses()[:, np.newaxis]
    kt = units.kB * settings.temperature
    momenta = rng.standard_normal((len(structure), 3)) * np.sqrt(masses * kt)
    if settings.fixcm:
        momenta -= masses * momenta.sum(axis=0) / masses.sum()
    structure.set_momenta(momenta)
    return MDState(structure, 0, _rng_state(rng))


def new_stream(state: MDState, rng: np.random.Generator) -> MDState:
    """Return the state with another random stream: the way on from a rollback."""
    return replace(state, rng=_rng_state(rng))


def integrator(atoms: Atoms, settings: MD, rng: np.random.Generator) -> MolecularDynamics:
    """Return ASE's integrator of the settings' ensemble, working on the atoms given.

    Args:
        atoms: Atoms with momenta and calculator. With `fixcm` they are given ASE's `FixCom`;
            `capture` leaves it behind.
        settings: `timestep` in fs, `friction` in 1/fs, `temperature` in K.
        rng: Draws the noise.

    Notes:
        The centre of mass is held by the constraint, since Langevin's own `fixcm=True` does not
        sample the canonical distribution exactly (ASE 3.28 release notes, merge request 3986).
    """
    if settings.fixcm:
        atoms.set_constraint(FixCom())
    return Langevin(
        atoms,
        timestep=settings.timestep * units.fs,
        temperature_K=settings.temperature,
        friction=settings.friction / units.fs,
        fixcm=False,
        rng=rng,
    )


def resume(
    state: MDState, settings: MD, calculator: Calculator
) -> tuple[MolecularDynamics, np.random.Generator]:
    """Return an integrator that goes on from a state, and the generator it draws from."""
    rng = np.random.Generator(np.random.PCG64())
    rng.bit_generator.state = copy.deepcopy(state.rng)
    atoms = state.structure.copy()
    atoms.calc = calculator
    return integrator(atoms, settings, rng), rng


def capture(dynamics: MolecularDynamics, rng: np.random.Generator, step: int) -> MDState:
    """Return the state of a running integrator.

    Args:
        dynamics: The integrator, between two steps.
        rng: The generator that it draws from.
        step: Steps made in the trajectory's life; the integrator knows only its own.
    """
    structure = decode(encode(dynamics.atoms))
    structure.set_momenta(dynamics.atoms.get_momenta())
    return MDState(structure, step, _rng_state(rng))


def save_state(path: Path, state: MDState) -> None:
    """Write a state to a file, which at every moment is either the old one or the new one."""
    data = {
        "format": _FORMAT,
        "version": _VERSION,
        "step": state.step,
        "structure": encode(state.structure),
        "momenta": state.structure.get_momenta().tolist(),
        "rng": state.rng,
        "extras": state.extras,
    }
    write_text(path, json.dumps(data, allow_nan=False))


def load_state(path: Path) -> MDState:
    """Read a state that `save_state` wrote; exact to the last bit.

    Raises:
        CampaignError: The file is missing, cannot be read or holds something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if (data["format"], data["version"]) != (_FORMAT, _VERSION):
            raise CampaignError(f"{path}: not version {_VERSION} of {_FORMAT}")
        structure = decode(data["structure"])
        structure.set_momenta(data["momenta"])
        return MDState(structure, data["step"], data["rng"], data["extras"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CampaignError(
            f"{path}: not a readable MD state ({type(error).__name__}: {error})"
        ) from error


def _rng_state(rng: np.random.Generator) -> dict[str, Any]:
    return copy.deepcopy(dict(rng.bit_generator.state))
