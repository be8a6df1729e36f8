"""From MD settings to an ASE integrator; and the full state of a trajectory, exact on disk.

A state file is one JSON object: `format` ("aimspax-md-state"), `version` (1), `step`, `structure`
(as `aimspax_core.structures.encode` writes it), `momenta` (N x 3, in ASE's units,
amu·Å/(Å·sqrt(amu/eV))), `rng` (NumPy's state of the PCG64 generator), and `extras` (what the
integrator keeps beyond that, see `aimspax_core.sampling.extended`; empty for Langevin, NVE and
Berendsen). Floats are written so that they read back exactly.
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
from ase.md.melchionna import MelchionnaNPT
from ase.md.nose_hoover_chain import MTKNPT, IsotropicMTKNPT, MaskedMTKNPT
from ase.md.nptberendsen import Inhomogeneous_NPTBerendsen, NPTBerendsen
from ase.md.verlet import VelocityVerlet

from aimspax_core.errors import CampaignError
from aimspax_core.safe_files import write_text
from aimspax_core.sampling.extended import extras, restored
from aimspax_core.structures import decode, encode

if TYPE_CHECKING:
    from aimspax_core.settings.project import MD

_FORMAT = "aimspax-md-state"
_VERSION = 1
_ATMOSPHERE = 101325.0  # Pa
_AT_REST = 1e-6
"""Total momentum, in units of its thermal width, below which somebody must have removed it."""


@dataclass(frozen=True)
class MDState:
    """All that a trajectory needs to go on as if it had never stopped.

    Attributes:
        structure: The atoms with their momenta, and no constraint or calculator.
        step: MD steps made in the trajectory's life.
        rng: State of the PCG64 generator that makes the noise, as NumPy gives it.
        extras: What the integrator keeps beyond that, as JSON data; may be empty.
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

    The centre of mass is brought to rest where the integrator holds it: in NVT and Berendsen's
    NPT with `fixcm`, always in NVE and with the barostat `npt`. That projection of a
    Maxwell-Boltzmann sample is a sample of the 3N-3 degrees of freedom that are left, so nothing
    is rescaled. `mtk` and `isomtk` keep its motion: their thermostat counts 3N degrees of freedom.
    Rotation stays: it, too, holds kT/2 for each of its degrees of freedom.

    With the barostat `npt`, whose integrator takes triangular cells only, any other cell is turned
    into one, and the atoms with it: rigidly, and a left-handed cell stays left-handed. A `mask`
    then means the axes of the turned cell, where c lies along z, and b in the yz plane.

    Args:
        atoms: N atoms; their own momenta, if any, are ignored.
        settings: `temperature` (K), `fixcm`, `stat_ensemble` and `barostat` are used.
        rng: Draws the velocities, and then the dynamics' noise.
    """
    structure = decode(encode(atoms))
    if _kind(settings) == "npt":
        _turn(structure)
    widths = np.sqrt(structure.get_masses() * units.kB * settings.temperature)
    structure.set_momenta(rng.standard_normal((len(structure), 3)) * widths[:, np.newaxis])
    if _holds_centre(settings):
        _bring_to_rest(structure)
    return MDState(structure, 0, _rng_state(rng))


def new_stream(state: MDState, rng: np.random.Generator, settings: MD | None = None) -> MDState:
    """Return the state with another future: the way on from a rollback.

    Langevin's noise alone makes one. All other integrators are deterministic and would follow the
    same path again: for them velocities are drawn anew, as `start` does, and thermostat and
    barostat forget. Positions, cell and step stay (a cell may be turned, see `start`).

    Args:
        state: Where to go on.
        rng: Draws the velocities, if any, and then the dynamics' noise.
        settings: The dynamics; None: Langevin.
    """
    if settings is None or settings.stat_ensemble == "nvt":
        return replace(state, rng=_rng_state(rng))
    return replace(start(state.structure, settings, rng), step=state.step)


def target_pressure(settings: MD) -> float:
    """Return the pressure that the barostat aims at, in eV/Å³.

    `pressure` (Pa) if given; else `pressure_au` of `berendsen`, `external_stress` of `npt`, one
    atmosphere for `mtk` and `isomtk`.
    """
    if settings.pressure is not None:
        return settings.pressure * units.Pascal
    if settings.barostat == "berendsen":
        return settings.pressure_au
    if settings.barostat == "npt":
        return settings.external_stress
    return _ATMOSPHERE * units.Pascal


def needs_stress(settings: MD) -> bool:
    """Return whether the integrator asks its calculator for the stress."""
    if _kind(settings) == "npt":
        return settings.pfactor is not None
    return settings.stat_ensemble == "npt"


def why_not(atoms: Atoms, settings: MD) -> str | None:
    """Return in one sentence why a geometry cannot be run with these settings, or None."""
    kind = _kind(settings)
    if settings.stat_ensemble == "npt":
        if not atoms.pbc.all():
            return "an NPT run needs a cell that is periodic in all three directions"
        if atoms.cell.volume <= 1e-6 * np.prod(atoms.cell.lengths()):
            return "an NPT run needs a cell with a volume; the cell's vectors lie in one plane"
    if kind == "mtk" and settings.mask is not None and not any(settings.mask):
        return "`mtk` needs a direction that may change, and `mask` forbids all three"
    if kind in ("berendsen", "mtk") and settings.mask is not None and not _is_aligned(atoms):
        return f"`mask` of `{kind}` means x, y and z, so the cell's vectors must lie along them"
    if len(atoms) == 1 and _holds_centre(settings):
        return "a single atom has nothing to move where the centre of mass is held"
    return None


def _is_aligned(atoms: Atoms) -> bool:
    """Whether the cell's vectors lie along x, y and z, in that order."""
    cell = atoms.cell.array
    return bool(np.allclose(cell, np.diag(np.diag(cell)), atol=1e-6))


def integrator(atoms: Atoms, settings: MD, rng: np.random.Generator) -> MolecularDynamics:
    """Return ASE's integrator of the settings' ensemble, working on the atoms given.

    Args:
        atoms: Atoms with momenta and calculator, fit for the integrator as `start` and `resume`
            make them. Where `fixcm` counts they are given ASE's `FixCom`; `capture` leaves it
            behind.
        settings: Times in fs, `friction` in 1/fs, `temperature` in K; see `target_pressure`.
        rng: Draws the noise, if there is any.

    Notes:
        The centre of mass is held by the constraint. Langevin's own `fixcm=True` does not
        sample the canonical distribution exactly (ASE 3.28 release notes, merge request 3986);
        Berendsen's takes the motion away, but its thermostat goes on counting it.
    """
    kind = _kind(settings)
    timestep = settings.timestep * units.fs
    kelvin = settings.temperature
    if settings.fixcm and kind in ("nvt", "berendsen"):
        atoms.set_constraint(FixCom())
    if kind == "nvt":
        friction = settings.friction / units.fs
        return Langevin(
            atoms, timestep, temperature_K=kelvin, friction=friction, fixcm=False, rng=rng
        )
    if kind == "nve":
        return VelocityVerlet(atoms, timestep)
    if kind == "npt":
        return _melchionna(atoms, settings)
    return _berendsen(atoms, settings) if kind == "berendsen" else _mtk(atoms, settings)


def resume(
    state: MDState, settings: MD, calculator: Calculator
) -> tuple[MolecularDynamics, np.random.Generator]:
    """Return an integrator that goes on from a state, and the generator it draws from.

    A state that another integrator left, or the same with other settings that its thermostat and
    barostat hang on, is a start with the positions, momenta and cell that it has. For `npt` the
    cell is then turned as in `start` and the centre of mass brought to rest; for `mtk` and
    `isomtk` a centre of mass at rest is given its thermal motion.
    """
    rng = np.random.Generator(np.random.PCG64())
    rng.bit_generator.state = copy.deepcopy(state.rng)
    atoms = state.structure.copy()
    atoms.calc = calculator
    dynamics = integrator(atoms, settings, rng)
    if not restored(dynamics, state.extras):
        _take_over(atoms, settings, rng)
        dynamics = integrator(atoms, settings, rng)
    return dynamics, rng


def capture(dynamics: MolecularDynamics, rng: np.random.Generator, step: int) -> MDState:
    """Return the state of a running integrator.

    Args:
        dynamics: The integrator, between two steps.
        rng: The generator that it draws from.
        step: Steps made in the trajectory's life; the integrator knows only its own.

    Raises:
        ExplodedError: The integrator's thermostat or barostat is no longer finite.
    """
    structure = decode(encode(dynamics.atoms))
    structure.set_momenta(dynamics.atoms.get_momenta())
    return MDState(structure, step, _rng_state(rng), extras(dynamics))


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


def _kind(settings: MD) -> str:
    """Return the ensemble, or the barostat where it is NPT."""
    return settings.barostat if settings.stat_ensemble == "npt" else settings.stat_ensemble


def _berendsen(atoms: Atoms, settings: MD) -> MolecularDynamics:
    values: dict[str, Any] = {
        "timestep": settings.timestep * units.fs,
        "temperature_K": settings.temperature,
        "pressure_au": target_pressure(settings),
        "compressibility_au": settings.compressibility_au,
        "taut": settings.taut * units.fs,
        "taup": settings.taup * units.fs,
        "fixcm": False,
    }
    if settings.mask is None:
        return NPTBerendsen(atoms, **values)
    return Inhomogeneous_NPTBerendsen(atoms, mask=settings.mask, **values)


def _mtk(atoms: Atoms, settings: MD) -> MolecularDynamics:
    values: dict[str, Any] = {
        "timestep": settings.timestep * units.fs,
        "temperature_K": settings.temperature,
        "pressure_au": target_pressure(settings),
        "tdamp": settings.tdamp * units.fs,
        "pdamp": settings.pdamp * units.fs,
        **{name: getattr(settings, name) for name in ("tchain", "pchain", "tloop", "ploop")},
    }
    if settings.barostat == "isomtk":
        return IsotropicMTKNPT(atoms, **values)
    if settings.mask is None:
        return MTKNPT(atoms, **values)
    # ASE indexes with the mask; a tuple of truth values, as it says it wants, selects nothing.
    mask: Any = np.array(settings.mask, dtype=bool)
    return MaskedMTKNPT(atoms, mask=mask, **values)


def _melchionna(atoms: Atoms, settings: MD) -> MolecularDynamics:
    """Return Nosé-Hoover's and Parrinello-Rahman's dynamics as Melchionna combined them.

    `pfactor` is a pressure times a time squared (eV/Å³, ASE's unit of time); that it is multiplied
    by ASE's fs once is aims-PAX's reading of the setting, kept so that the same file means the
    same dynamics.
    """
    momenta = atoms.get_momenta()
    # Its constructor shifts all momenta by what rounding left of their sum, and prints it.
    atoms.set_momenta(np.zeros_like(momenta))
    dynamics = MelchionnaNPT(
        atoms,
        settings.timestep * units.fs,
        temperature_K=settings.temperature,
        externalstress=target_pressure(settings),
        ttime=None if settings.ttime is None else settings.ttime * units.fs,
        pfactor=None if settings.pfactor is None else settings.pfactor * units.fs,
        mask=None if settings.mask is None else np.array(settings.mask),
    )
    atoms.set_momenta(momenta)
    return dynamics


def _holds_centre(settings: MD) -> bool:
    """Return whether the integrator keeps a centre of mass at rest, or wants it to be."""
    kind = _kind(settings)
    return settings.fixcm if kind in ("nvt", "berendsen") else kind in ("nve", "npt")


def _take_over(atoms: Atoms, settings: MD, rng: np.random.Generator) -> None:
    """Make atoms that another integrator moved fit for this one; what fits is left as it is."""
    kind = _kind(settings)
    if kind == "npt":
        _turn(atoms)
        _bring_to_rest(atoms)
    elif kind in ("mtk", "isomtk"):
        momenta, masses = atoms.get_momenta(), atoms.get_masses()[:, np.newaxis]
        width = np.sqrt(masses.sum() * units.kB * settings.temperature)
        if np.linalg.norm(momenta.sum(axis=0)) < _AT_REST * width:
            drawn = width * rng.standard_normal(3)
            atoms.set_momenta(momenta + masses / masses.sum() * drawn)


def _bring_to_rest(atoms: Atoms) -> None:
    momenta, masses = atoms.get_momenta(), atoms.get_masses()[:, np.newaxis]
    atoms.set_momenta(momenta - masses * momenta.sum(axis=0) / masses.sum())


def _turn(atoms: Atoms) -> None:
    """Turn atoms, momenta and a cell that is not triangular so that it is."""
    cell = atoms.cell.array
    if not (np.triu(cell, 1).any() and np.tril(cell, -1).any()):
        return
    # Noise in a lower triangular cell is no reason to swap its axes.
    noise = 1e-8 * np.abs(cell).max()
    form = "lower" if np.abs(np.triu(cell, 1)).max() < noise else "upper"
    turned, turn = atoms.cell.standard_form(form)
    momenta = atoms.get_momenta()
    atoms.set_positions(atoms.positions @ turn.T)
    atoms.set_momenta(momenta @ turn.T)
    atoms.set_cell(turned.array + 0.0)  # no -0.0
