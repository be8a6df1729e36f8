"""Whether fixed atoms tell a model how a structure stands in a field that it does not know of.

An equivariant model gives a structure and its image by a rotation or reflection R the same energy,
and labels in a field E do not, unless R E = E. So no such image may come up. Atoms that are fixed
exclude all R but those that map what is fixed onto itself, as far as the model sees: of these, each
either leaves the field, or turns a direction n over on whose one side all free atoms are,

    R E = E    or    R n = -n,  n . (x[free] - x[fixed]) > 0 for all

The second holds for as long as no atom goes round to the other side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Array = NDArray[np.float64]

_APART = 0.1
"""Places that differ by less (Å) are the same, for a model too."""

_ALIKE = 0.15
"""Likewise directions, by the length of their difference: places above turn them by as much."""


@dataclass(frozen=True)
class Field:
    """A homogeneous field, point charges, or both, as lines of `geometry.in` say it.

    Attributes:
        along: Direction of the homogeneous field, (3,), of length 1; None: there is none.
        charges: Places of point charges (Å), order and strength of each, (k, 5).
    """

    along: Array | None
    charges: Array

    @classmethod
    def of(cls, lines: str) -> Field:
        """Return what lines say; those of other things are passed over."""
        words = [line.split() for line in lines.split(";") if line.strip()]
        given: dict[str, list[list[float]]] = {"homogeneous_field": [], "multipole": []}
        for name, *values in words:
            if name in given:
                given[name].append([float(value) for value in values])
        total = np.sum(given["homogeneous_field"] or [[0.0] * 3], axis=0)
        size = np.linalg.norm(total)
        return cls(total / size if size else None, np.array(given["multipole"]).reshape(-1, 5))

    def stays(self, turn: Array, start: Array, end: Array) -> bool:
        """Return whether x -> R (x - start) + end leaves it, (3, 3) and twice (3,)."""
        if self.along is not None and _differ(turn @ self.along, self.along):
            return False
        moved = (self.charges[:, :3] - start) @ turn.T + end
        return all(
            any(
                np.linalg.norm(place - other[:3]) < _APART and (charge[3:] == other[3:]).all()
                for other in self.charges
            )
            for place, charge in zip(moved, self.charges, strict=True)
        )


@dataclass(frozen=True)
class Sight:
    """How far a model sees.

    Attributes:
        cutoff: Å from atom to atom.
        steps: How many times from neighbour to neighbour.
    """

    cutoff: float
    steps: int

    @property
    def reach(self) -> float:
        """The farthest (Å) that an atom can be told of."""
        return self.cutoff * self.steps


def not_told(atoms: Atoms, fixed: tuple[int, ...], field: Field, sight: Sight) -> str:
    """Return why a model cannot tell how a structure stands in a field; empty if it can.

    Args:
        atoms: The structure as it starts.
        fixed: Indices of the atoms that do not move.
        field: The field.
        sight: Of the model.
    """
    if not fixed:
        return "no atom is fixed"
    first = _rarest(atoms, fixed)
    around = _around(atoms, fixed, sight.reach)[first]
    if len(_frame(around)) < 3:
        return f"the fixed atoms that a model sees at once ({sight.reach:g} Å) are on one line"
    lone = _out_of_reach(atoms, fixed, sight)
    if lone is not None:
        return (
            f"atom {lone + 1} is farther from fixed atoms than a model sees "
            f"({sight.steps} times {sight.cutoff:g} Å)"
        )
    others = _around(atoms, fixed, sight.reach + 2 * _APART)
    confused = list(_own_images(atoms, first, around, others, field))
    if not confused:
        return ""
    normal = np.linalg.svd(around.places - around.places.mean(axis=0))[2][-1]
    sides = [side for side in (field.along, normal) if side is not None]
    if any(_kept_apart(atoms, fixed, side, confused, sight.reach) for side in sides):
        return ""
    return (
        "what is fixed is its own image by a rotation or reflection that changes the field, and "
        "not all free atoms are on one side of it"
    )


@dataclass(frozen=True)
class _Around:
    """What is fixed around an atom: places relative to it (k, 3), its own first, and elements."""

    places: Array
    numbers: NDArray[np.int_]


def _rarest(atoms: Atoms, fixed: tuple[int, ...]) -> int:
    """Return a fixed atom of the element of which the fewest are fixed."""
    numbers = atoms.numbers[list(fixed)]
    return min(fixed, key=lambda index: (int((numbers == atoms.numbers[index]).sum()), index))


def _around(atoms: Atoms, fixed: tuple[int, ...], reach: float) -> dict[int, _Around]:
    """Return what is fixed around each fixed atom, the nearest first."""
    part = atoms[list(fixed)]
    i, j, places = neighbor_list("ijD", part, reach)
    found = {}
    for number, index in enumerate(fixed):
        of = i == number
        order = np.argsort(np.linalg.norm(places[of], axis=1), kind="stable")
        numbers = np.concatenate([[atoms.numbers[index]], part.numbers[j[of]][order]])
        found[index] = _Around(np.concatenate([np.zeros((1, 3)), places[of][order]]), numbers)
    return found


def _frame(around: _Around) -> list[int]:
    """Return the nearest atoms that are not on a line, the middle one first; fewer: all are."""
    places = around.places
    found = [0]
    for number in range(1, len(places)):
        spanned = np.linalg.svd(places[[*found, number]] - places[0])[1]
        if int((spanned > _APART).sum()) == len(found):
            found.append(number)
        if len(found) == 3:
            break
    return found


def _out_of_reach(atoms: Atoms, fixed: tuple[int, ...], sight: Sight) -> int | None:
    """Return an atom that no fixed one is told to, from neighbour to neighbour."""
    i, j = neighbor_list("ij", atoms, sight.cutoff)
    told = np.zeros(len(atoms), dtype=bool)
    told[list(fixed)] = True
    for _ in range(sight.steps):
        told[i[told[j]]] = True
    return None if told.all() else int(np.flatnonzero(~told)[0])


def _own_images(
    atoms: Atoms, first: int, around: _Around, others: dict[int, _Around], field: Field
) -> Iterator[Array]:
    """Yield rotations and reflections (3, 3) that map what is fixed on itself, not the field."""
    frame, origin = _frame(around), atoms.positions[first]
    for index, other in others.items():
        if atoms.numbers[index] != atoms.numbers[first]:
            continue
        for turn in _turns(around, frame, other):
            if not field.stays(turn, origin, atoms.positions[index]):
                yield turn


def _turns(around: _Around, frame: list[int], other: _Around) -> Iterator[Array]:
    """Yield what maps all that is around one atom on what is around another."""
    start, tree = around.places[frame[1:]], cKDTree(other.places)
    ones, twos = (_same(around, number, other) for number in frame[1:])
    between = np.linalg.norm(other.places[ones][:, None] - other.places[twos], axis=2)
    like = np.abs(between - np.linalg.norm(start[0] - start[1])) < _APART
    for one, two in zip(*like.nonzero(), strict=True):
        end = other.places[[ones[one], twos[two]]]
        for hand in (1.0, -1.0):
            turn = _axes(end, hand).T @ _axes(start, 1.0)
            away, at = tree.query(around.places @ turn.T, distance_upper_bound=_APART)
            if np.isfinite(away).all() and (other.numbers[at] == around.numbers).all():
                yield turn


def _same(around: _Around, number: int, other: _Around) -> NDArray[np.intp]:
    """Return which atoms around another are as far, and of the same element."""
    away = np.linalg.norm(other.places, axis=1) - np.linalg.norm(around.places[number])
    return np.flatnonzero((np.abs(away) < _APART) & (other.numbers == around.numbers[number]))


def _axes(pair: Array, hand: float) -> Array:
    """Return orthonormal axes, as rows, of two vectors that are not on a line."""
    x = pair[0] / np.linalg.norm(pair[0])
    y = pair[1] - (pair[1] @ x) * x
    y = y / np.linalg.norm(y)
    return np.array([x, y, hand * np.cross(x, y)])


def _differ(one: Array, other: Array) -> bool:
    return bool(np.linalg.norm(one - other) > _ALIKE)


def _kept_apart(
    atoms: Atoms, fixed: tuple[int, ...], side: Array, confused: list[Array], reach: float
) -> bool:
    """Return whether all that confuses turns a direction over, and free atoms are on one side."""
    if any(_differ(turn @ side, -side) for turn in confused):
        return False
    seen = [a for a in atoms.cell.array[atoms.pbc] if np.linalg.norm(a) <= reach]
    if any(abs(a @ side) > _APART for a in seen):
        return False
    heights = atoms.positions @ side
    free, taken = np.delete(heights, fixed), heights[list(fixed)]
    if not len(free):
        return True
    return bool(free.min() > taken.max() + _APART or free.max() < taken.min() - _APART)
