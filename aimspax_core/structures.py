"""Structures: geometries read and checked, exact as JSON, and told apart by a digest."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from aimspax_core.errors import StructureError

_PER_ATOM = ("initial_magmoms", "initial_charges", "masses")
_GLOBAL = ("charge", "spin")
_NAME = "config_type"
_BESIDE = ("masses", _NAME)


def encode(atoms: Atoms) -> dict[str, Any]:
    """Return what makes a structure as plain JSON data, floats at full precision.

    Args:
        atoms: N atoms; positions and cell in Å. `info["charge"]` (e) and `info["spin"]`
            (multiplicity) are carried if present, as are initial magnetic moments and charges,
            masses that are not those of the elements (u), and `info["config_type"]`, by which
            MACE weighs structures.

    Returns:
        Keys `numbers` (N), `positions` (N, 3), `cell` (3, 3), `pbc` (3), and those that are set of
        `initial_magmoms` (N), `initial_charges` (N), `masses` (N), `charge`, `spin`,
        `config_type`.
    """
    data: dict[str, Any] = {
        "numbers": [int(z) for z in atoms.numbers],
        "positions": np.asarray(atoms.positions, dtype=float).tolist(),
        "cell": np.asarray(atoms.cell.array, dtype=float).tolist(),
        "pbc": [bool(p) for p in atoms.pbc],
    }
    for name in _PER_ATOM:
        if atoms.has(name):
            data[name] = np.asarray(atoms.get_array(name), dtype=float).tolist()
    for name in _GLOBAL:
        if name in atoms.info:
            data[name] = float(atoms.info[name])
    if _NAME in atoms.info:
        data[_NAME] = str(atoms.info[_NAME])
    return data


def essence(atoms: Atoms) -> dict[str, Any]:
    """Return `encode` of what an energy can depend on: not masses, nor a name of the structure."""
    return {key: value for key, value in encode(atoms).items() if key not in _BESIDE}


def decode(data: dict[str, Any]) -> Atoms:
    """Return the atoms that `encode` wrote; exact to the last bit."""
    atoms = Atoms(
        numbers=data["numbers"], positions=data["positions"], cell=data["cell"], pbc=data["pbc"]
    )
    for name in _PER_ATOM:
        if name in data:
            atoms.set_array(name, np.asarray(data[name], dtype=float))
    for name in (*_GLOBAL, _NAME):
        if name in data:
            atoms.info[name] = data[name]
    return atoms


def digest(content: dict[str, Any]) -> str:
    """Return the SHA-256 of JSON data, independent of the order of its keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def symbols_text(numbers: Iterable[int]) -> str:
    """Return the symbols of elements as `H, C, O`, in the order of their atomic numbers."""
    return ", ".join(chemical_symbols[int(z)] for z in sorted(numbers))


def read_geometries(files: Sequence[Path]) -> list[Atoms]:
    """Read the start geometries.

    Args:
        files: Geometry files in any format that ASE reads (the last frame counts).

    Raises:
        StructureError: Not readable, no atoms, or a non-finite coordinate; the text has a line for
            every file that is wrong.
    """
    found, wrong = [], []
    for file in files:
        try:
            found.append(_read(file))
        except StructureError as error:
            wrong.append(str(error))
    if wrong:
        raise StructureError("\n".join(wrong))
    return found


def geometry_files(path: Path) -> list[Path]:
    """Return the geometry files of a path: the file itself, or those of a folder by name.

    Raises:
        StructureError: Nothing there.
    """
    if not path.exists():
        raise StructureError(f"{path}: no such file or folder")
    if not path.is_dir():
        return [path]
    files = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
    if not files:
        raise StructureError(f"{path}: the folder holds no geometry files")
    return files


def _read(path: Path) -> Atoms:
    """Read one geometry file, keeping only what makes a structure."""
    try:
        with warnings.catch_warnings():
            # ASE announces a plugin for FHI-aims geometries; its users cannot act on it.
            warnings.filterwarnings("ignore", "FHI-aims IO is moving", FutureWarning)
            atoms = ase.io.read(path, index=-1)
    # ASE's readers raise whatever their parsing trips over; any of it means: not a geometry.
    except Exception as error:
        raise StructureError(
            f"{path}: ASE cannot read this as a geometry ({type(error).__name__}: {error})"
        ) from error
    assert isinstance(atoms, Atoms)
    if len(atoms) == 0:
        raise StructureError(f"{path}: the geometry holds no atoms")
    if not np.isfinite(atoms.positions).all() or not np.isfinite(atoms.cell.array).all():
        raise StructureError(f"{path}: a coordinate is not a finite number")
    if (atoms.numbers <= 0).any():
        raise StructureError(f"{path}: an atom has no chemical element")
    return decode(encode(atoms))
