"""Structures with reference values that models are judged by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import ase.io
import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from aimspax_core.errors import CampaignError
from aimspax_core.labels.dataset import (
    DEFAULT_KEYS,
    DataKeys,
    beside_of,
    frame_name,
    stress_of,
    taken,
    without_calculator,
)

Array = NDArray[np.float64]


Quantity = Literal["energy", "forces", "stress"]


QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)


@dataclass(frozen=True)
class Frames:
    """A labelled dataset of F frames with A atoms in all; flat, to hold large sets.

    A label that a frame does not have is NaN.

    Attributes:
        path: Its file.
        groups: What each frame is called: `config_type`, or else its formula; F texts.
        starts: Index of each frame's first atom, and A at the end, shape (F + 1,).
        numbers: Atomic numbers, shape (A,).
        positions: Shape (A, 3), in Å.
        cells: Shape (F, 3, 3), in Å.
        pbc: Shape (F, 3).
        energy: Shape (F,), in eV.
        forces: Shape (A, 3), in eV/Å.
        stress: Shape (F, 3, 3), in eV/Å³, with ASE's sign.
        electrons: `charge` (e) and `spin` (2S+1) of each frame, as far as they are known; F.
        beside: What else of `label.BESIDE` was asked for: `dipole` (F, 3), `hirshfeld_ratios` (A,).
    """

    path: Path
    groups: tuple[str, ...]
    starts: NDArray[np.int_]
    numbers: NDArray[np.int_]
    positions: Array
    cells: Array
    pbc: NDArray[np.bool_]
    energy: Array
    forces: Array
    stress: Array
    electrons: tuple[Mapping[str, float], ...]
    beside: Mapping[str, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of frames F."""
        return len(self.groups)

    @cached_property
    def sizes(self) -> NDArray[np.int_]:
        """Atoms of each frame, shape (F,)."""
        return np.diff(self.starts)

    @cached_property
    def has_forces(self) -> NDArray[np.bool_]:
        """Whether each frame has forces, shape (F,)."""
        return np.isfinite(self.forces[self.starts[:-1], 0])

    def labelled(self, quantity: Quantity) -> int:
        """Return how many frames have a label of a quantity."""
        if quantity == "forces":
            return int(self.has_forces.sum())
        values = self.energy if quantity == "energy" else self.stress[:, 0, 0]
        return int(np.isfinite(values).sum())

    def own(self, frame: int) -> slice:
        """Return which atoms are those of a frame."""
        return slice(int(self.starts[frame]), int(self.starts[frame + 1]))

    def atoms(self, frame: int) -> Atoms:
        """Return the structure of a frame."""
        own, cell, pbc = self.own(frame), self.cells[frame], self.pbc[frame]
        info = dict(self.electrons[frame])
        return Atoms(self.numbers[own], self.positions[own], cell=cell, pbc=pbc, info=info)

    def where(self, frame: int) -> str:
        """Return the name of a frame in messages: file, index and formula."""
        return frame_name(self.path, frame, self.atoms(frame))


def read_frames(
    path: Path,
    keys: DataKeys = DEFAULT_KEYS,
    quantities: Sequence[Quantity] = QUANTITIES,
    electrons: Mapping[str, float] | None = None,
    beside: Sequence[str] = (),
) -> Frames:
    """Read a dataset frame by frame, with whatever labels each has.

    Args:
        path: Extended XYZ.
        keys: What the quantities are called in it.
        quantities: Which labels to take.
        electrons: `charge` (e) and `spin` (2S+1) of frames that say nothing of them.
        beside: Which of `label.BESIDE` to take, too.

    Raises:
        CampaignError: The file cannot be read, no frame has any label, a label is not finite or of
            a wrong shape, or a frame has no atoms; the text names file and frame (from 0).
    """
    rows: list[tuple[Any, ...]] = []
    more: dict[str, list[Array]] = {name: [] for name in beside}
    names: list[str] = []
    for frame, atoms in enumerate(_structures(path)):
        where = frame_name(path, frame, atoms)
        if len(atoms) == 0:
            raise CampaignError(f"{where}: the frame holds no atoms")
        without_calculator(atoms, keys, where)
        names = names or [*map(str, atoms.info), *map(str, atoms.arrays)]
        energy, forces, stress = np.nan, np.full((len(atoms), 3), np.nan), np.full((3, 3), np.nan)
        if "energy" in quantities and keys.energy in atoms.info:
            energy = float(taken(atoms.info, keys.energy, (), "energy", where))
        if "forces" in quantities and keys.forces in atoms.arrays:
            forces = taken(atoms.arrays, keys.forces, (len(atoms), 3), "forces", where)
        if "stress" in quantities and (label := stress_of(atoms, keys, where)) is not None:
            stress = label
        found = beside_of(atoms, keys, where, beside)
        for name, values in more.items():
            shape = 3 if name == "dipole" else len(atoms)
            values.append(found.get(name, np.full(shape, np.nan)))
        group = str(atoms.info.get("config_type") or atoms.get_chemical_formula())
        place = (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
        own = {key: atoms.info[key] for key in ("charge", "spin") if key in atoms.info}
        rows.append((group, *place, {**(electrons or {}), **own}, energy, forces, stress))
    if not any(np.isfinite(label).any() for row in rows for label in row[-3:]):
        wanted = ", ".join(f"{name} under {getattr(keys, name)!r}" for name in quantities)
        has = f"; the first has {', '.join(names)}" if names else ""
        raise CampaignError(f"{path}: none of its {len(rows)} frames has {wanted}{has}")
    groups, numbers, positions, cells, pbc, told, energies, all_forces, stresses = zip(
        *rows, strict=True
    )
    return Frames(
        path=path,
        groups=groups,
        starts=np.cumsum([0, *map(len, numbers)]),
        numbers=np.concatenate(numbers),
        positions=np.concatenate(positions),
        cells=np.array(cells),
        pbc=np.array(pbc),
        energy=np.array(energies),
        forces=np.concatenate(all_forces),
        stress=np.array(stresses),
        electrons=told,
        beside={n: (np.stack if n == "dipole" else np.concatenate)(v) for n, v in more.items()},
    )


def _structures(path: Path) -> Iterator[Atoms]:
    """Yield the structures of a file one by one, as ASE reads them."""
    if not path.is_file():
        raise CampaignError(f"there is no dataset {path}")
    if path.stat().st_size == 0:
        return
    try:
        yield from ase.io.iread(path, index=":", format="extxyz", do_not_split_by_at_sign=True)
    # ASE's reader raises whatever its parsing trips over; any of it means: not extended XYZ.
    except Exception as error:
        raise CampaignError(
            f"{path}: ASE cannot read this as extended XYZ ({type(error).__name__}: {error})"
        ) from error
