"""Structures and labels that the gate refused: kept with the reason, outside of all datasets."""

from __future__ import annotations

import io
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from aimspax_core.errors import LabelError, LabelFailure
from aimspax_core.labels.label import Label
from aimspax_core.safe_files import write_text

_NAME = 20
"""Characters of a key that name a file."""


def refuse(
    folder: Path,
    key: str,
    atoms: Atoms,
    reason: str,
    label: Label | None = None,
    kind: LabelFailure = LabelFailure.STRUCTURE,
) -> LabelError:
    """Write a refused structure as extended XYZ; return the error to raise.

    Args:
        folder: Folder of the file, which is named by the key.
        key: Key of the label.
        atoms: The structure.
        reason: Why the gate refused it.
        label: The refused label, if one was computed; written under names that no dataset uses.
        kind: What sort of failure it is.
    """
    frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    frame.info = {"reason": " ".join(reason.replace('"', "'").split()), "key": key}
    if label is not None:
        if _numbers(label.energy, ()):
            frame.info["refused_energy"] = float(label.energy)
        if _numbers(label.forces, (len(atoms), 3)):
            frame.arrays["refused_forces"] = np.array(label.forces)
        if _numbers(label.stress, (3, 3)):
            frame.info["refused_stress"] = np.array(label.stress)
    text = io.StringIO()
    ase.io.write(text, frame, format="extxyz")
    write_text(folder / f"{key[:_NAME]}.xyz", text.getvalue())
    return LabelError(f"refused by the gate: {reason}", refused=True, kind=kind)


def _numbers(value: object, shape: tuple[int, ...]) -> bool:
    """Return whether a value can be written: real numbers, in this shape."""
    try:
        array = np.asarray(value)
    except ValueError:  # rows of different lengths
        return False
    return array.dtype.kind in "iuf" and array.shape == shape
