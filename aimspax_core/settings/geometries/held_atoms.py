"""Atoms that cannot move, or only in some directions: as files say it, as JSON data, and for MD.

However it was said, an atom a is free in a subspace of its own, whose dimension is 3, 2 (a plane),
1 (a line) or 0 (fixed). What several constraints say of one atom is the intersection of theirs:
each holds the atom along some vectors n[k], and

    held[a] = span of all n[k],    free[a] = its orthogonal complement

| constraint of ASE | n[k] |
| --- | --- |
| `FixAtoms` | x, y, z |
| `FixCartesian` | the axes of its mask |
| `FixedPlane` | its normal |
| `FixedLine` | all that is normal to it |
| `FixScaled` (selective dynamics) | the reciprocal vectors of the coordinates in its mask |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian, FixCom, FixedLine, FixedPlane, FixScaled
from ase.constraints.constraint import FixConstraint
from numpy.typing import NDArray

Vector = tuple[float, float, float]

HOLDING = ("FixAtoms", "FixCartesian", "FixScaled", "FixedPlane", "FixedLine")
"""Constraints of ASE that MD can hold: those that leave each atom a subspace of its own."""

_ALIKE = 1e-6
"""Sines of angles below it are zero: files write few digits."""

_DIGITS = 12
"""Decimals of directions: what is left out differs from machine to machine."""


@dataclass(frozen=True)
class HeldAtoms:
    """Which of a structure's N atoms are held, and how; false if none is.

    Attributes:
        fixed: Indices of atoms that do not move, sorted.
        planes: Normals of planes, each with the indices of the atoms that move in one.
        lines: Directions of lines, each with the indices of the atoms that move on one.
    """

    fixed: tuple[int, ...] = ()
    planes: tuple[tuple[Vector, tuple[int, ...]], ...] = ()
    lines: tuple[tuple[Vector, tuple[int, ...]], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.fixed or self.planes or self.lines)

    @classmethod
    def of(cls, atoms: Atoms) -> Self:
        """Return what the constraints of atoms hold; of those not in `HOLDING`, nothing."""
        normals: dict[int, list[NDArray[np.float64]]] = {}
        whole = [one for one in atoms.constraints if isinstance(one, FixAtoms)]
        fixed = {int(index) % len(atoms) for one in whole for index in one.index}
        for constraint in atoms.constraints:
            for index, own in _normals(constraint, atoms):
                normals.setdefault(index, []).append(own)
        planes: dict[Vector, list[int]] = {}
        lines: dict[Vector, list[int]] = {}
        for index in sorted(normals.keys() - fixed):
            held, free = _split(np.concatenate(normals[index]))
            if len(free) == 0:
                fixed.add(index)
            elif len(free) == 1:
                lines.setdefault(_direction(free[0]), []).append(index)
            elif len(held) == 1:
                planes.setdefault(_direction(held[0]), []).append(index)
        return cls(tuple(sorted(fixed)), _grouped(planes), _grouped(lines))

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """Return what `data` wrote, exactly."""
        along = (
            {tuple(map(float, vector)): indices for vector, indices in data.get(name, ())}
            for name in ("planes", "lines")
        )
        planes, lines = map(_grouped, along)
        return cls(tuple(map(int, data.get("fixed", ()))), planes, lines)

    def data(self) -> dict[str, Any]:
        """Return it as JSON data; keys are those of the attributes that hold something."""
        found: dict[str, Any] = {"fixed": list(self.fixed)} if self.fixed else {}
        for name, groups in (("planes", self.planes), ("lines", self.lines)):
            if groups:
                found[name] = [[list(vector), list(indices)] for vector, indices in groups]
        return found

    def constraints(self) -> list[FixConstraint]:
        """Return ASE's constraints: of each atom one, so that ASE counts what they take right.

        Along the axes it is `FixCartesian`, under which a coordinate stays to the last bit.
        """
        made: list[FixConstraint] = [FixAtoms(indices=list(self.fixed))] if self.fixed else []
        for vector, indices in self.planes:
            axis = np.array(vector) != 0
            on_axis = axis.sum() == 1
            made.append(
                FixCartesian(list(indices), axis) if on_axis else FixedPlane(list(indices), vector)
            )
        for vector, indices in self.lines:
            axis = np.array(vector) != 0
            on_axis = axis.sum() == 1
            made.append(
                FixCartesian(list(indices), ~axis) if on_axis else FixedLine(list(indices), vector)
            )
        return made

    def removed(self) -> int:
        """Return how many of the 3N coordinates are held."""
        planes, lines = (sum(len(i) for _, i in group) for group in (self.planes, self.lines))
        return 3 * len(self.fixed) + planes + 2 * lines

    def movable(self, number: int) -> NDArray[np.bool_]:
        """Return which of N atoms can move at all, (N,)."""
        free = np.ones(number, dtype=bool)
        free[list(self.fixed)] = False
        return free

    def common_directions(self) -> NDArray[np.float64]:
        """Return orthonormal directions, (k, 3), in which all atoms can be shifted together.

        The forces on free atoms have no sum there only; elsewhere what is held takes it up.
        """
        if self.fixed:
            return np.zeros((0, 3))
        held = [np.array([vector]) for vector, _ in self.planes]
        held += [_normal_to(np.array(vector)) for vector, _ in self.lines]
        free = _split(np.concatenate(held))[1] if held else np.eye(3)
        return np.array([_direction(vector) for vector in free]).reshape(-1, 3)


NOTHING_HELD = HeldAtoms()


def not_holding(constraints: Iterable[object]) -> list[str]:
    """Return the names of constraints that MD cannot hold; `FixCom` is not among them."""
    names = (type(one).__name__ for one in constraints if not isinstance(one, FixCom))
    return sorted({name for name in names if name not in HOLDING})


def held_text(held: HeldAtoms) -> str:
    """Say what is held: `6 atoms fixed, 2 in planes`."""
    planes, lines = (sum(len(i) for _, i in group) for group in (held.planes, held.lines))
    counts = ((len(held.fixed), "fixed"), (planes, "in planes"), (lines, "on lines"))
    named = [f"{n} {how}" for n, how in counts if n]
    if not named:
        return "no atom held"
    first, _, rest = named[0].partition(" ")
    return ", ".join([f"{first} {'atom' if first == '1' else 'atoms'} {rest}", *named[1:]])


def _normals(constraint: object, atoms: Atoms) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield atoms with the vectors (k, 3) along which a constraint of directions holds them."""
    if isinstance(constraint, FixCartesian):
        held = np.eye(3)[constraint.mask]
    elif isinstance(constraint, FixScaled):
        held = atoms.cell.reciprocal().array[constraint.mask]
    elif isinstance(constraint, FixedPlane):
        held = constraint.dir[np.newaxis]
    elif isinstance(constraint, FixedLine):
        held = _normal_to(constraint.dir)
    else:
        return
    if len(held):
        for index in constraint.index:
            yield int(index) % len(atoms), held


def _normal_to(direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what projects on the plane normal to a direction: its rows span the plane."""
    unit = direction / np.linalg.norm(direction)
    return np.eye(3) - np.outer(unit, unit)


def _split(vectors: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return orthonormal bases of what vectors (k, 3) span, and of its complement."""
    lengths = np.linalg.norm(vectors, axis=1)
    units = vectors[lengths > _ALIKE * lengths.max()]
    units = units / np.linalg.norm(units, axis=1)[:, np.newaxis]
    _, singular, basis = np.linalg.svd(units)
    rank = int((singular > _ALIKE).sum())
    return basis[:rank], basis[rank:]


def _direction(vector: NDArray[np.float64]) -> Vector:
    """Return one of the two unit vectors of a direction; an axis exactly, with zeros."""
    largest = int(np.abs(vector).argmax())
    near = np.abs(vector) > _ALIKE
    if near.sum() == 1:
        vector = np.eye(3)[largest]
    first = vector[np.flatnonzero(near)[0]]
    x, y, z = np.round(vector * np.sign(first), _DIGITS) + 0.0  # no -0.0
    return float(x), float(y), float(z)


def _grouped(groups: Mapping[Any, Iterable[int]]) -> tuple[tuple[Vector, tuple[int, ...]], ...]:
    return tuple(sorted((vector, tuple(map(int, indices))) for vector, indices in groups.items()))
