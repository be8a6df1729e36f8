"""Points that the gate refused: kept aside with the reason, where no dataset looks for them."""

from __future__ import annotations

import io
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from aimspax_core.errors import LabelError
from aimspax_core.labels.label import Label
from aimspax_core.safe_files import write_text

_TOLD = 20
"""Characters of a key that name a file."""


def refuse(
    folder: Path, key: str, atoms: Atoms, reason: str, label: Label | None = None
) -> LabelError:
    """Keep a point aside as extended XYZ; return the error that says so.

    Args:
        folder: Where it goes, in a file named by the key.
        key: The key of its label.
        atoms: The structure.
        reason: Why it was refused.
        label: What the reference said, if it was asked; under names that no dataset has.
    """
    frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    frame.info = {"reason": " ".join(reason.replace('"', "'").split()), "key": key}
    if label is not None:
        frame.info["refused_energy"] = float(label.energy)
        if np.shape(label.forces) == (len(atoms), 3):
            frame.arrays["refused_forces"] = np.array(label.forces)
        if label.stress is not None and np.shape(label.stress) == (3, 3):
            frame.info["refused_stress"] = np.array(label.stress)
    text = io.StringIO()
    ase.io.write(text, frame, format="extxyz")
    write_text(folder / f"{key[:_TOLD]}.xyz", text.getvalue())
    return LabelError(f"refused by the gate: {reason}", refused=True)
