"""A dataset that is labelled again: its frames, what became of each, and the output file.

The original (`aims-PAX-recalc`) writes labels in the order in which they are computed, as `energy`
and `forces`; here they are in the order of the dataset, under the names of all other datasets.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ase import Atoms
from ase.io.extxyz import per_atom_properties
from numpy.typing import NDArray

from aimspax_core.errors import StructureError
from aimspax_core.labels.dataset import DataKeys, write
from aimspax_core.labels.label import Label
from aimspax_core.safe_files import write_text
from aimspax_core.settings.engines import Gate
from aimspax_core.settings.geometries.files import frames_of, structure_of
from aimspax_core.settings.geometries.own_electrons import SAID_OF_ALL, unread_electrons

Property = Literal["energy", "forces", "stress"]

_NAMED_BY_ASE = ("energy", "free_energy", "energies", "forces", "stress", "stresses", "virial")
"""What ASE and other programs call the labels that are to be replaced."""

_OTHERS = 3
"""Labels of a composition that one is compared with at least; the same as in `EnergyGate`."""


@dataclass(frozen=True)
class Frame:
    """A frame of a dataset.

    Attributes:
        index: The frame's place in the file, from 0.
        atoms: The N atoms and all else that the file has of the frame, but no labels.
        energy: The energy (eV) in the file, if there is one.
        forces: The forces (N, 3) (eV/Å) in the file, if there are some.
    """

    index: int
    atoms: Atoms
    energy: float | None = None
    forces: NDArray[np.float64] | None = None

    def structure(self, keys: DataKeys) -> Atoms:
        """Return the structure for the reference, with its charge and multiplicity.

        Args:
            keys: Names of charge and multiplicity in the file.

        Raises:
            StructureError: There are no atoms, or something that should be a number is none.
        """
        return structure_of(self.atoms, keys.electrons)


def read_frames(
    path: Path, keys: DataKeys, start: int = 0, end: int | None = None
) -> tuple[list[Frame], tuple[str, ...]]:
    """Read the frames of a dataset, or some of them.

    Args:
        path: A file in any format that ASE reads.
        keys: Names of the labels in the file; those that ASE uses are known.
        start: The first frame, from 0.
        end: The frame after the last one; None: all.

    Returns:
        The frames; notes on how the file was read.

    Raises:
        StructureError: The file cannot be read, or has no such frames.
    """
    found, notes, _ = frames_of(path, slice(start, end))
    if not found:
        raise StructureError(f"{path}: there are no frames from {start} to {end or 'the end'}")
    unread = (f"{path.name}: {n}" for n in unread_electrons(found[0].info, keys.electrons))
    notes = (*notes, *unread)
    return [_frame(start + place, atoms, keys) for place, atoms in enumerate(found)], notes


def _frame(index: int, atoms: Atoms, keys: DataKeys) -> Frame:
    """Take the labels that are to be replaced out of a frame."""
    results: dict[str, Any] = dict(atoms.calc.results) if atoms.calc is not None else {}
    atoms.calc = None
    for name, value in results.items():
        (atoms.arrays if name in per_atom_properties else atoms.info).setdefault(name, value)
    energy = forces = None
    for name in (keys.energy, "energy"):
        energy = _numbers(atoms.info.get(name), ()) if energy is None else energy
    for name in (keys.forces, "forces"):
        shape = (len(atoms), 3)
        forces = _numbers(atoms.arrays.get(name), shape) if forces is None else forces
    for name in (keys.energy, keys.forces, keys.stress, keys.virials, *_NAMED_BY_ASE, SAID_OF_ALL):
        atoms.info.pop(name, None)
        atoms.arrays.pop(name, None)
    return Frame(index, atoms, None if energy is None else float(energy), forces)


def _numbers(value: Any, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    """Return finite numbers of a shape; None if it is anything else."""
    try:
        numbers = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        return None
    return numbers if numbers.shape == shape and np.isfinite(numbers).all() else None


@dataclass(frozen=True)
class Difference:
    """How far new labels are from old ones.

    Attributes:
        frames: Frames that have an old and a new energy.
        energy_per_atom: Mean absolute difference of the energies (eV/atom).
        forces: Mean absolute difference of the forces' components (eV/Å); None without old ones.
    """

    frames: int
    energy_per_atom: float
    forces: float | None


@dataclass(frozen=True)
class Summary:
    """How the labelling of a dataset went.

    Attributes:
        output: File of the labelled frames.
        frames: Frames of the dataset.
        labelled: Frames that have a label now.
        stored: Frames whose label was in the store.
        failed: Frames that get no label.
        computed: Structures that were labelled in this run.
        seconds: How long this run took.
        difference: How far the labels are from those of the file.
    """

    output: Path
    frames: int
    labelled: int
    stored: int
    failed: int
    computed: int
    seconds: float
    difference: Difference | None

    @property
    def per_minute(self) -> float:
        """Labels that were computed, per minute."""
        return 60 * self.computed / max(self.seconds, 1e-9)

    def __str__(self) -> str:
        """Return one line."""
        left = self.frames - self.labelled - self.failed
        parts = [f"{self.labelled} of {self.frames} frames labelled ({self.stored} from the store)"]
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += [f"{left} left"] if left else []
        return ", ".join(parts)


class Relabelled:
    """What has become of the frames of a dataset.

    Args:
        frames: The frames, in the order of the file.
        keys: Names of the labels in the output.
        properties: Which labels are written.
        gate: `max_energy_deviation` in eV/atom.

    Attributes:
        labels: Labels, by key.
        reasons: Why a structure has none, by key.
    """

    def __init__(
        self, frames: Sequence[Frame], keys: DataKeys, properties: Sequence[Property], gate: Gate
    ) -> None:
        self._frames, self._keys, self._properties, self._gate = frames, keys, properties, gate
        self._of_frame: dict[int, str] = {}
        self._unfit: dict[int, str] = {}
        self.labels: dict[str, Label] = {}
        self.reasons: dict[str, str] = {}

    def belongs(self, frame: Frame, key: str) -> None:
        """Note the key of a frame's label; frames of the same structure share one."""
        self._of_frame[frame.index] = key

    def unfit(self, frame: Frame, reason: str) -> None:
        """Note that a frame cannot be given to the reference."""
        self._unfit[frame.index] = reason

    @property
    def labelled(self) -> list[Frame]:
        """The frames with a label that the gate lets pass, in order."""
        off = self._outliers()
        return [f for f in self._frames if (k := self.key(f)) in self.labels and k not in off]

    @property
    def failed(self) -> list[tuple[Frame, str]]:
        """The frames that get no label, in order, and why."""
        of_key = {**self.reasons, **self._outliers()}
        found = [(f, self._unfit.get(f.index) or of_key.get(self.key(f))) for f in self._frames]
        return [(frame, reason) for frame, reason in found if reason is not None]

    def write(self, path: Path) -> None:
        """Write the labelled frames as extended XYZ, and a list of those that failed; atomically.

        With no labelled frames, a file of an earlier run stays.
        """
        if labelled := self.labelled:
            write(path, [self._atoms(frame) for frame in labelled])
        failed, listed = self.failed, failed_file(path)
        if not failed:
            listed.unlink(missing_ok=True)
            return
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(("frame", "formula", "reason"))
        for frame, reason in failed:
            table.writerow((frame.index, frame.atoms.get_chemical_formula(), reason))
        write_text(listed, text.getvalue())

    def difference(self) -> Difference | None:
        """Compare with the labels of the file; None if it has none."""
        energies, forces = [], []
        for frame in self.labelled:
            label = self.labels[self.key(frame)]
            if frame.energy is not None:
                energies.append(abs(label.energy - frame.energy) / len(frame.atoms))
            if frame.forces is not None:
                forces.append(np.abs(label.forces - frame.forces).ravel())
        if not energies:
            return None
        components = float(np.concatenate(forces).mean()) if forces else None
        return Difference(len(energies), float(np.mean(energies)), components)

    def key(self, frame: Frame) -> str:
        """Return the key of a frame's label; empty if the frame cannot have one."""
        return self._of_frame.get(frame.index, "")

    def _atoms(self, frame: Frame) -> Atoms:
        """Return a frame with its label, and all else that the file has of it."""
        label, keys = self.labels[self.key(frame)], self._keys
        atoms: Atoms = frame.atoms.copy()
        if "energy" in self._properties:
            atoms.info[keys.energy] = label.energy
        if "forces" in self._properties:
            atoms.arrays[keys.forces] = label.forces
        if "stress" in self._properties and label.stress is not None:
            atoms.info[keys.stress] = label.stress
        for name, key in (("charge", keys.total_charge), ("spin", keys.total_spin)):
            if name in atoms.info:
                atoms.info.setdefault(key, float(atoms.info[name]))
        return atoms

    def _outliers(self) -> dict[str, str]:
        """Return the keys of labels whose energy is too far from those of their composition.

        With each comes the reason. Each is compared with all others, so that the order in which
        they were computed does not matter.
        """
        limit = self._gate.max_energy_deviation
        groups: dict[str, dict[str, float]] = {}
        for frame in self._frames:
            if (key := self.key(frame)) in self.labels:
                formula = frame.atoms.get_chemical_formula("hill")
                energy = self.labels[key].energy / len(frame.atoms)
                groups.setdefault(formula, {})[key] = energy
        return dict(
            outlier
            for formula, energies in groups.items()
            if len(energies) > _OTHERS
            for outlier in _far(formula, energies, limit)
        )


def _far(formula: str, energies: Mapping[str, float], limit: float) -> Iterator[tuple[str, str]]:
    median = float(np.median([*energies.values()]))
    for key, energy in energies.items():
        if abs(energy - median) > limit:
            yield (
                key,
                f"refused by the gate: an energy {energy - median:+.2f} eV/atom from the median of "
                f"the {len(energies)} labels of {formula}; GATE.max_energy_deviation is "
                f"{limit:g} eV/atom",
            )


def failed_file(output: Path) -> Path:
    """Return the file that lists the failed frames of an output."""
    return output.with_name(f"{output.stem}.failed.csv")
