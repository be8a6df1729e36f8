"""From MD settings to an ASE integrator; and the full state of a trajectory, exact on disk.

What differs between ensembles is in `aimspax_core.sampling.integrators`.

A state file is one JSON object: `format` ("aimspax-md-state"), `version` (1, or 2 if it holds atoms
in place, which releases that know 1 only would let go), `step`, `structure` (as
`aimspax_core.structures.encode` writes it), `momenta` (N x 3, in ASE's units,
amu·Å/(Å·sqrt(amu/eV))), `rng` (NumPy's state of the PCG64 generator), `extras` (what the
integrator keeps beyond that, see `aimspax_core.sampling.extended`; may be empty), `held` (what
holds atoms, as `HeldAtoms.data` writes it; only in version 2), `drawn_for` (temperature in K that
its velocities were drawn for; only if it is known), and `checksum` (a SHA-256 over all the others,
see `aimspax_core.structures.digest`; release 0.1.0 wrote none). Floats are written so that they
read back exactly.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.md.md import MolecularDynamics

from aimspax_core.errors import DamagedError, NewerReleaseError
from aimspax_core.safe_files import write_text
from aimspax_core.sampling.extended import extras, restored
from aimspax_core.sampling.integrators.centre_of_mass import bring_to_rest
from aimspax_core.settings.ensembles import ENSEMBLES
from aimspax_core.settings.geometries.held_atoms import NOTHING_HELD, HeldAtoms, held_text
from aimspax_core.storage import naming
from aimspax_core.structures import decode, digest, encode
from aimspax_core.text import or_list
from aimspax_core.versions import release

if TYPE_CHECKING:
    from aimspax_core.settings.md import MD, Dynamics

_FORMAT = "aimspax-md-state"
_VERSION = 1
_HOLDING_VERSION = 2


@dataclass(frozen=True)
class MDState:
    """All that a trajectory needs to go on as if it had never stopped.

    Attributes:
        structure: The atoms with their momenta, and no constraint or calculator.
        step: MD steps made in the trajectory's life.
        rng: State of the PCG64 generator that makes the noise, as NumPy gives it.
        extras: What the integrator keeps beyond that, as JSON data; may be empty.
        held: Atoms that do not move, or in some directions only.
        drawn_for: Temperature (K) that its velocities were drawn for; None: it is not known.
    """

    structure: Atoms
    step: int
    rng: dict[str, Any]
    extras: dict[str, Any] = field(default_factory=dict)
    held: HeldAtoms = NOTHING_HELD
    drawn_for: float | None = None


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


def generator(state: MDState) -> np.random.Generator:
    """Return a generator that goes on from where that of a state is."""
    rng = np.random.Generator(np.random.PCG64())
    rng.bit_generator.state = copy.deepcopy(state.rng)
    return rng


def rng_state(rng: np.random.Generator) -> dict[str, Any]:
    """Return where a generator is, as a state has it."""
    return copy.deepcopy(dict(rng.bit_generator.state))


def start(
    atoms: Atoms, settings: Dynamics, rng: np.random.Generator, held: HeldAtoms = NOTHING_HELD
) -> MDState:
    """Return the state at step 0, with Maxwell-Boltzmann velocities.

    Of held atoms the velocities that they cannot have are taken out. That projection of a
    Maxwell-Boltzmann sample, too, is a sample of the degrees of freedom that are left, so nothing
    is rescaled.

    The centre of mass is brought to rest where the ensemble holds it, in the directions in which
    all atoms can move (three without held atoms, so that 3N-3 degrees of freedom are left; none
    with a fixed one). Where it is not held, its motion stays, and is counted. Rotation stays: it,
    too, holds kT/2 for each of its degrees of freedom.

    An ensemble whose integrator takes some cells only may turn the atoms with their cell.

    Args:
        atoms: N atoms; their own momenta, if any, are ignored.
        settings: The ensemble, and `temperature` (K).
        rng: Draws the velocities, and then the dynamics' noise.
        held: Atoms that do not move, or in some directions only; constraints that `atoms` may
            have do not count.
    """
    structure = decode(encode(atoms))
    settings.ensemble.fit(structure)
    widths = np.sqrt(structure.get_masses() * units.kB * settings.temperature)
    momenta = rng.standard_normal((len(structure), 3)) * widths[:, np.newaxis]
    structure.set_constraint(held.constraints())
    structure.set_momenta(momenta)
    if settings.ensemble.holds_centre(settings):
        bring_to_rest(structure)
    structure.set_constraint()
    return MDState(structure, 0, rng_state(rng), held=held, drawn_for=settings.temperature)


def new_stream(state: MDState, rng: np.random.Generator, settings: Dynamics) -> MDState:
    """Return the state with another future: the way on from a rollback.

    An ensemble with noise, such as Langevin's, needs other noise alone. All others are
    deterministic and would follow the same path again: for them velocities are drawn anew, as
    `start` does, and thermostat and barostat forget. Positions, cell and step stay (a cell may be
    turned, see `start`).

    Args:
        state: Where to go on.
        rng: Draws the velocities, if any, and then the dynamics' noise.
        settings: The dynamics.
    """
    if settings.ensemble.noisy:
        return replace(state, rng=rng_state(rng))
    return begin_anew(state, rng, settings)


def begin_anew(state: MDState, rng: np.random.Generator, settings: Dynamics) -> MDState:
    """Return a start (see `start`) where a trajectory is now: its step and held atoms stay."""
    return replace(start(state.structure, settings, rng, state.held), step=state.step)


def target_pressure(settings: Dynamics) -> float | None:
    """Return the pressure that the barostat aims at, in eV/Å³; None without a barostat."""
    pressure = settings.ensemble.pressure
    return None if pressure is None else pressure(settings)


def needs_stress(settings: Dynamics) -> bool:
    """Return whether the integrator asks its calculator for the stress."""
    return settings.ensemble.needs_stress(settings)


def describe(settings: MD) -> str:
    """Return the dynamics in a few words, such as `NPT mtk, 1.013 bar, 300 K, 0.5 fs`.

    Of several temperatures or pressures all are named: `NVT langevin, 300 / 400 K, 0.5 fs`.
    """
    at = "" if settings.ensemble.holds_temperature else "begun at "
    dynamics = [settings.at(number) for number in range(settings.period)]
    pressures = [target_pressure(one) for one in dynamics]
    parts = [
        (_all(f"{p / units.bar:.4g}" for p in pressures if p is not None), " bar"),
        (at + _all(f"{one.temperature:g}" for one in dynamics), " K"),
        (f"{settings.timestep:g}", " fs"),
    ]
    return ", ".join([settings.row.title, *(text + unit for text, unit in parts if text)])


def _all(values: Iterable[str]) -> str:
    return " / ".join(dict.fromkeys(values))


def why_not(atoms: Atoms, settings: Dynamics, held: HeldAtoms = NOTHING_HELD) -> str | None:
    """Return in one sentence why a geometry cannot be run with these settings, or None.

    Args:
        atoms: The geometry.
        settings: The section MD.
        held: What of it has to be held.
    """
    ensemble, name = settings.ensemble, settings.stat_ensemble.upper()
    if held and ensemble.cannot_hold:
        able = or_list(row.title for row in ENSEMBLES if not row.ensemble.cannot_hold)
        return (
            f"found {settings.row.title} and constraints ({held_text(held)}), which it cannot "
            f"hold: {ensemble.cannot_hold}; allowed: {able}, or a geometry without"
        )
    if ensemble.moves_cell:
        if not atoms.pbc.all():
            return f"an {name} run needs a cell that is periodic in all three directions"
        if atoms.cell.volume <= 1e-6 * np.prod(atoms.cell.lengths()):
            return f"an {name} run needs a cell with a volume; the cell's vectors lie in one plane"
    if why := ensemble.why_not(atoms, settings):
        return why
    centre = len(held.common_directions()) if ensemble.holds_centre(settings) else 0
    if held and held.removed() + centre >= 3 * len(atoms):
        return f"nothing is left that can move ({held_text(held)})"
    if len(atoms) == 1 and centre == 3:
        return "a single atom has nothing to move where the centre of mass is held"
    return None


def integrator(atoms: Atoms, settings: Dynamics, rng: np.random.Generator) -> MolecularDynamics:
    """Return ASE's integrator of the settings' ensemble, working on the atoms given.

    Args:
        atoms: Atoms with momenta, calculator and the constraints of held atoms, fit for the
            integrator as `start` and `resume` make them. They may be given another constraint;
            `capture` leaves all behind.
        settings: The section MD.
        rng: Draws the noise, if there is any.
    """
    return settings.ensemble.build(atoms, settings, rng)


def resume(
    state: MDState, settings: Dynamics, calculator: Calculator
) -> tuple[MolecularDynamics, np.random.Generator]:
    """Return an integrator that goes on from a state, and the generator it draws from.

    A state that another integrator left, or the same with other settings that its thermostat and
    barostat hang on, is a start with the positions, momenta and cell that it has; what does not
    fit the ensemble is mended (`Ensemble.take_over`).
    """
    rng = generator(state)
    atoms = state.structure.copy()
    atoms.calc = calculator
    atoms.set_constraint(state.held.constraints())
    dynamics = integrator(atoms, settings, rng)
    if not restored(dynamics, state.extras):
        atoms.set_constraint(state.held.constraints())
        settings.ensemble.take_over(atoms, settings, rng)
        dynamics = integrator(atoms, settings, rng)
    return dynamics, rng


def capture(
    dynamics: MolecularDynamics,
    rng: np.random.Generator,
    step: int,
    held: HeldAtoms = NOTHING_HELD,
) -> MDState:
    """Return the state of a running integrator.

    Args:
        dynamics: The integrator, between two steps.
        rng: The generator that it draws from.
        step: Steps made in the trajectory's life; the integrator knows only its own.
        held: What the state that it was resumed from holds.

    Raises:
        ExplodedError: The integrator's thermostat or barostat is no longer finite.
    """
    structure = decode(encode(dynamics.atoms))
    structure.set_momenta(dynamics.atoms.get_momenta())
    return MDState(structure, step, rng_state(rng), extras(dynamics), held)


def save_state(path: Path, state: MDState) -> None:
    """Write a state to a file, which at every moment is either the old one or the new one."""
    data = {
        "format": _FORMAT,
        "version": _HOLDING_VERSION if state.held else _VERSION,
        "aimspax": release(),
        "step": state.step,
        "structure": encode(state.structure),
        "momenta": state.structure.get_momenta().tolist(),
        "rng": state.rng,
        "extras": state.extras,
        **({"held": state.held.data()} if state.held else {}),
        **({} if state.drawn_for is None else {"drawn_for": state.drawn_for}),
    }
    # The checksum is of what a reader gets: JSON makes lists of tuples.
    data = json.loads(json.dumps(data, allow_nan=False))
    write_text(path, json.dumps({**data, "checksum": digest(data)}, allow_nan=False))


def load_state(path: Path) -> MDState:
    """Read a state that `save_state` wrote; exact to the last bit.

    Raises:
        DamagedError: The file is missing, was changed after it was written, or holds something
            else.
        NewerReleaseError: A newer release has written it.
        OSError: It cannot be read now, whatever it holds.
    """
    try:
        with naming(path):
            data = json.loads(path.read_text(encoding="utf-8"))
        checksum = data.pop("checksum", None)
        if checksum is not None and checksum != digest(data):
            raise DamagedError.of(path, "it was changed after it was written")
        if data["format"] != _FORMAT or data["version"] not in (_VERSION, _HOLDING_VERSION):
            if data["format"] == _FORMAT and data["version"] > _HOLDING_VERSION:
                raise NewerReleaseError.of(path, data.get("aimspax", ""))
            raise DamagedError.of(path, f"not a version of {_FORMAT} that there is")
        structure = decode(data["structure"])
        structure.set_momenta(data["momenta"])
        held = HeldAtoms.from_data(data.get("held", {}))
        drawn_for = data.get("drawn_for")
        return MDState(structure, data["step"], data["rng"], data["extras"], held, drawn_for)
    except FileNotFoundError:
        raise DamagedError.of(path, "there is no MD state here") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError.of(
            path, f"not a readable MD state ({type(error).__name__}: {error})"
        ) from error
