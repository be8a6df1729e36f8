"""Datasets as MACE reads them: extended XYZ with `REF_energy`, `REF_forces`, `REF_stress`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from aimspax_core.campaign.labels import StoredLabel
from aimspax_core.files import write_text

ENERGY, FORCES, STRESS = "REF_energy", "REF_forces", "REF_stress"


def labelled(stored: StoredLabel) -> Atoms:
    """Return a structure with its label in the keys of the datasets.

    Returns:
        `info["REF_energy"]` (eV), `arrays["REF_forces"]` (N, 3) (eV/Å), and `info["REF_stress"]`
        (3, 3) (eV/Å³) if there is one.
    """
    atoms = stored.atoms.copy()
    atoms.info[ENERGY] = stored.label.energy
    atoms.arrays[FORCES] = np.array(stored.label.forces)
    if stored.label.stress is not None:
        atoms.info[STRESS] = np.array(stored.label.stress)
    return atoms


def write(path: Path, structures: Sequence[Atoms]) -> None:
    """Write labelled structures as extended XYZ, atomically; an empty set is an empty file."""
    text = io.StringIO()
    if structures:
        ase.io.write(text, list(structures), format="extxyz")
    write_text(path, text.getvalue())


def read(path: Path) -> list[Atoms]:
    """Read a dataset; an empty file is an empty set."""
    if path.stat().st_size == 0:
        return []
    found = ase.io.read(path, index=":", format="extxyz")
    return list(found)
