"""Structures: exact as JSON, and told apart by a digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

_PER_ATOM = ("initial_magmoms", "initial_charges", "masses")
_GLOBAL = ("charge", "spin")
_NAME = "config_type"
_BESIDE = ("masses", _NAME)

AIMS_LINES = "aims_geometry_in"
"""Name in `info` of what a `geometry.in` says beside the structure, and changes its energy: an
electric field, point charges. Lines as FHI-aims reads them, with `; ` between."""

_TEXTS = (_NAME, AIMS_LINES)


def encode(atoms: Atoms) -> dict[str, Any]:
    """Return what makes a structure as plain JSON data, floats at full precision.

    Args:
        atoms: N atoms; positions and cell in Å. `info["charge"]` (e) and `info["spin"]`
            (multiplicity) are carried if present, as are initial magnetic moments and charges,
            masses that are not those of the elements (u), and `info["config_type"]`, by which
            MACE weighs structures, and `info[AIMS_LINES]`.

    Returns:
        Keys `numbers` (N), `positions` (N, 3), `cell` (3, 3), `pbc` (3), and those that are set of
        `initial_magmoms` (N), `initial_charges` (N), `masses` (N), `charge`, `spin`,
        `config_type`, `aims_geometry_in`.
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
    for name in _TEXTS:
        if name in atoms.info:
            data[name] = str(atoms.info[name])
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
    for name in (*_GLOBAL, *_TEXTS):
        if name in data:
            atoms.info[name] = data[name]
    return atoms


def with_electrons(atoms: Atoms, given: Mapping[str, float]) -> Atoms:
    """Return a structure with a charge and a multiplicity where it says none of its own.

    Args:
        atoms: The structure; it stays as it is.
        given: `charge` (e) and `spin` (2S+1), either or both.
    """
    more = {key: value for key, value in given.items() if key not in atoms.info}
    if not more:
        return atoms
    told = atoms.copy()
    told.info |= more
    return told


def without_electrons(atoms: Atoms, given: Mapping[str, float]) -> Atoms:
    """Return a structure without a charge and a multiplicity that are those given."""
    less = [key for key, value in given.items() if atoms.info.get(key) == value]
    if not less:
        return atoms
    bare = atoms.copy()
    for key in less:
        del bare.info[key]
    return bare


def said_otherwise(atoms: Atoms, given: Mapping[str, float]) -> Iterator[Atoms]:
    """Yield a structure saying more or less of the charge and multiplicity that it has anyway.

    Args:
        atoms: The structure; it stays as it is, and is not yielded itself.
        given: `charge` (e) and `spin` (2S+1) that it has where it says nothing of them.
    """
    said = [key for key in given if atoms.info.get(key) == given[key]]
    unsaid = [key for key in given if key not in atoms.info]
    alike = [*said, *unsaid]
    for bits in product((False, True), repeat=len(alike)):
        says = [key for key, bit in zip(alike, bits, strict=True) if bit]
        if says != said:
            bare = without_electrons(atoms, {key: given[key] for key in said})
            yield with_electrons(bare, {key: given[key] for key in says})


def digest(content: dict[str, Any]) -> str:
    """Return the SHA-256 of JSON data, independent of the order of its keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def symbols_text(numbers: Iterable[int]) -> str:
    """Return the symbols of elements as `H, C, O`, in the order of their atomic numbers."""
    return ", ".join(chemical_symbols[int(z)] for z in sorted(numbers))
