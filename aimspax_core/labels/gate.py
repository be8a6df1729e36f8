"""The gate: what may reach an engine, and what may reach a dataset."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.geometry import find_mic
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray

from aimspax_core.errors import LabelError, LabelFailure, StructureError
from aimspax_core.labels.label import BESIDE, NAMES, Label
from aimspax_core.labels.zero_forces import may_vanish
from aimspax_core.settings.engines import Gate
from aimspax_core.settings.geometries.doubts import unfit

_MOVED = 1e-3
"""How far a position in an engine's output may be off by rounding (Å)."""

_ENOUGH = 3
"""Labels of a composition that must be known before the next one is compared with them."""

_SKEW = 1e-6
"""How far a stress may be from its transpose by rounding (eV/Å³; this is 0.2 MPa)."""


def check_structure(atoms: Atoms, gate: Gate) -> None:
    """Let a structure pass if it may be given to an engine.

    Args:
        atoms: N atoms (Å), periodic or not.
        gate: `min_distance` as a fraction of the sum of two atoms' covalent radii (ASE's table:
            Cordero et al., doi:10.1039/b801115j).

    Raises:
        StructureError: The structure is not clear (see `settings.geometries.doubts`), or two atoms
            are too close.
    """
    if why := next(unfit(atoms), None):
        raise StructureError(why)
    if gate.min_distance == 0:
        return
    radii = gate.min_distance * covalent_radii[atoms.numbers]
    i, j, distance, images = neighbor_list("ijdS", atoms, list(radii))
    if len(i):
        worst = int(np.argmin(distance / (radii[i] + radii[j])))
        symbols = atoms.get_chemical_symbols()
        across = ", across the boundary of the cell" if images[worst].any() else ""
        raise StructureError(
            f"atoms {i[worst]} ({symbols[i[worst]]}) and {j[worst]} ({symbols[j[worst]]}) are "
            f"{distance[worst]:.2f} Å apart{across}; "
            f"{radii[i[worst]] + radii[j[worst]]:.2f} Å is allowed"
        )


def real(value: object, what: str) -> NDArray[np.float64]:
    """Return what an engine answered as an array of real numbers.

    Args:
        value: A number, or an array.
        what: Its name in messages.

    Raises:
        LabelError: Not transient: it is text, complex, of uneven rows, or of another kind.
    """
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise LabelError(f"{what}: no array ({error})", kind=LabelFailure.ANSWER) from None
    if array.dtype.kind not in "iuf":
        kinds = {"c": "complex numbers", "U": "text", "S": "text", "b": "truth values"}
        found = kinds.get(array.dtype.kind, f"something else ({type(value).__name__})")
        raise LabelError(f"{what}: {found}, no real numbers", kind=LabelFailure.ANSWER)
    return array.astype(float)


def one(value: object, what: str) -> float:
    """Return what an engine answered as one real number.

    Raises:
        LabelError: Not transient: it is no number, or several.
    """
    number = real(value, what)
    if number.size != 1:
        raise LabelError(
            f"{what} of shape {number.shape}; it should be one number", kind=LabelFailure.ANSWER
        )
    return float(number.item())


def check_label(
    atoms: Atoms, label: Label, gate: Gate, stress: bool = False, beside: Collection[str] = ()
) -> None:
    """Let a label pass if it may enter a dataset.

    Args:
        atoms: The N atoms that were labelled.
        label: Their label.
        gate: `max_force` in eV/Å.
        stress: Whether the models are trained on stress.
        beside: What else of `label.BESIDE` they are trained on.

    Raises:
        LabelError: Not transient: a value is no real number, or not finite, the energy is not one
            number, the forces are not (N, 3), all of them are exactly zero though no symmetry makes
            them so, a force is larger than `gate.max_force`, the engine's output has other atoms or
            another order, or `check_stress` or `check_beside` refuses the rest.
    """
    if label.structure is not None:
        _check_order(atoms, label.structure)
    energy, forces = one(label.energy, "energy"), real(label.forces, "forces")
    if forces.shape != (len(atoms), 3):
        raise LabelError(
            f"forces of shape {forces.shape} for {len(atoms)} atoms", kind=LabelFailure.ANSWER
        )
    values = [np.asarray(energy), forces]
    if label.stress is not None:
        values.append(real(label.stress, "stress"))
    if not all(np.isfinite(v).all() for v in values):
        raise LabelError(
            "energy, forces or stress are not finite numbers", kind=LabelFailure.ANSWER
        )
    if stress:
        check_stress(atoms, label)
    check_beside(atoms, label, beside)
    if not forces.any() and not may_vanish(atoms):
        raise LabelError(
            "all forces are exactly zero, and no symmetry of the structure makes them so",
            kind=LabelFailure.ANSWER,
        )
    largest = float(np.linalg.norm(forces, axis=1).max())
    if largest > gate.max_force:
        raise LabelError(
            f"a force of {largest:.1f} eV/Å; GATE.max_force is {gate.max_force} eV/Å",
            kind=LabelFailure.FORCE,
        )


def _check_order(atoms: Atoms, answered: Atoms) -> None:
    """Refuse a label whose atoms are not those of the structure, in the same order.

    Periodic images of a position are the same position.
    """
    if len(answered) != len(atoms):
        raise LabelError(
            f"the engine tells of {len(answered)} atoms; there are {len(atoms)}",
            kind=LabelFailure.ANSWER,
        )
    differ = np.flatnonzero(answered.numbers != atoms.numbers)
    if len(differ):
        first = differ[0]
        raise LabelError(
            f"the engine has its atoms in another order: atom {first} is {answered.symbols[first]},"
            f" not {atoms.symbols[first]}",
            kind=LabelFailure.ANSWER,
        )
    if np.abs(answered.cell.array - atoms.cell.array).max() > _MOVED and atoms.pbc.any():
        raise LabelError("the engine tells of another cell", kind=LabelFailure.ANSWER)
    _, distances = find_mic(answered.positions - atoms.positions, atoms.cell, atoms.pbc)
    if distances.max() > _MOVED:
        raise LabelError(
            "the engine has its atoms in another order, or moved: atom "
            f"{int(distances.argmax())} is {distances.max():.3f} Å off",
            kind=LabelFailure.ANSWER,
        )


class EnergyGate:
    """Compares a label's energy with those of the same composition.

    A label of another electronic state, or by another method, has an energy far from the others.

    Args:
        gate: `max_energy_deviation` in eV/atom.
    """

    def __init__(self, gate: Gate) -> None:
        self._limit = gate.max_energy_deviation
        self._known: dict[str, list[float]] = {}

    def admit(self, atoms: Atoms, energy: float) -> None:
        """Let a label pass if its energy may enter a dataset.

        Labels that follow are compared with this one, too, even if it is refused.

        Args:
            atoms: N atoms.
            energy: Total energy (eV).

        Raises:
            LabelError: Not transient: the energy is too far from the median of those before.
        """
        known = self._known.setdefault(atoms.get_chemical_formula("hill"), [])
        value = energy / len(atoms)
        known.append(value)  # also one that is refused: else a few bad ones would refuse all others
        if len(known) <= _ENOUGH:
            return
        off = value - float(np.median(known[:-1]))
        if abs(off) > self._limit:
            raise LabelError(
                f"an energy {off:+.2f} eV/atom from the median of {len(known) - 1} labels of "
                f"{atoms.get_chemical_formula()}; GATE.max_energy_deviation is "
                f"{self._limit:g} eV/atom",
                kind=LabelFailure.ENERGY,
            )


def check_beside(atoms: Atoms, label: Label, wanted: Collection[str]) -> None:
    """Let a label pass if it has, beside energy, forces and stress, what training needs.

    A structure that is periodic in any direction needs no dipole.

    Raises:
        LabelError: Not transient: something that is wanted is missing, has another shape than (3,)
            or (N,), or is not finite.
    """
    for name in lacking(atoms, label, wanted):
        raise LabelError(f"no {NAMES[name]}, but the models train on it", kind=LabelFailure.ANSWER)
    for name in BESIDE:
        if name in wanted and getattr(label, name) is not None:
            _check_one(atoms, label, name)


def lacking(atoms: Atoms, label: Label, wanted: Collection[str]) -> list[str]:
    """Return what a label lacks of what training needs beside energy, forces and stress."""
    none = (name for name in BESIDE if name in wanted and getattr(label, name) is None)
    return [name for name in none if not (name == "dipole" and atoms.pbc.any())]


def without_unfit(atoms: Atoms, label: Label) -> Label:
    """Return a label without what is unfit of `BESIDE`: what nobody wants costs no label."""
    unfit: dict[str, Any] = {}
    for name in BESIDE:
        if getattr(label, name) is not None:
            try:
                _check_one(atoms, label, name)
            except LabelError:
                unfit[name] = None
    return replace(label, **unfit)


def _check_one(atoms: Atoms, label: Label, name: str) -> None:
    """Refuse what a label has of `BESIDE` if it has another shape, or is not finite."""
    shape = (3,) if name == "dipole" else (len(atoms),)
    array = real(getattr(label, name), NAMES[name])
    if array.shape != shape:
        raise LabelError(
            f"{NAMES[name]} of shape {array.shape}; it should be {shape}",
            kind=LabelFailure.ANSWER,
        )
    if not np.isfinite(array).all():
        raise LabelError(f"{NAMES[name]} is not finite", kind=LabelFailure.ANSWER)


def check_stress(atoms: Atoms, label: Label) -> None:
    """Let a label pass if it has the stress that training on stress needs.

    A structure that is not periodic in all three directions needs no stress.

    Raises:
        LabelError: Not transient: the stress of a periodic structure is missing, not finite, or
            not a symmetric (3, 3).
    """
    if not atoms.pbc.all():
        return
    if label.stress is None:
        raise LabelError(
            "no stress of a periodic structure, but the models train on stress",
            kind=LabelFailure.STRESS,
        )
    if label.stress.shape != (3, 3):
        raise LabelError(
            f"a stress of shape {label.stress.shape}; it should be (3, 3)", kind=LabelFailure.STRESS
        )
    if not np.isfinite(label.stress).all():
        raise LabelError("the stress is not a finite number", kind=LabelFailure.STRESS)
    skew = float(np.abs(label.stress - label.stress.T).max())
    if skew > _SKEW:
        raise LabelError(
            f"the stress is not symmetric: by {skew:.1e} eV/Å³", kind=LabelFailure.STRESS
        )
