"""What keeps a structure from being clear: cells that are none, sites that are half there.

An engine would answer all the same, for a structure that nobody meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np
from ase import Atoms

from aimspax_core.text import and_list

_FLAT = 1e-3
"""Lattice vectors of unit length are taken as dependent below this smallest singular value."""

_ALL = 0.999
"""Occupancies are written with few digits."""

_ALTERNATE = 16
"""Column (from 0) of the alternate location in ATOM and HETATM records of the PDB format."""

REFUSED = "aimspax_refused"
"""Where a frame says, in `info`, why whoever takes it for a structure is refused."""

_NO_CELL = re.compile(r"^CRYST1(\s+1\.0*){3}(\s+90\.0*){3}|^CRYST1(\s+0\.0+){3}", re.MULTILINE)


def unfit(atoms: Atoms) -> Iterator[str]:
    """Yield why a structure is none that an engine can be given; a sentence each.

    Args:
        atoms: N atoms; positions and cell in Å.
    """
    if len(atoms) == 0:
        yield "the geometry holds no atoms"
        return
    cell = atoms.cell.array
    if not np.isfinite(atoms.positions).all() or not np.isfinite(cell).all():
        yield "a coordinate is not a finite number"
        return
    if (atoms.numbers <= 0).any():
        first = int(np.flatnonzero(atoms.numbers <= 0)[0])
        yield f"an atom has no chemical element: atom {first}"
    lengths = np.linalg.norm(cell, axis=1)
    missing = [name for name, p, n in zip("abc", atoms.pbc, lengths, strict=True) if p and n == 0]
    if missing:
        yield (
            f"it is periodic along {and_list(missing)}, and has no cell there; allowed: lattice "
            "vectors, or no periodicity"
        )
    elif atoms.pbc.any() and _is_flat(cell[atoms.pbc] / lengths[atoms.pbc, np.newaxis]):
        vectors = "; ".join(" ".join(f"{x:g}" for x in vector) for vector in cell[atoms.pbc])
        yield f"the lattice vectors are linearly dependent: {vectors}"


def _is_flat(directions: np.ndarray) -> bool:
    return float(np.linalg.svd(directions, compute_uv=False).min()) < _FLAT


def handedness_note(atoms: Atoms) -> str | None:
    """Return a note on lattice vectors that are left-handed, as some programs want none."""
    if atoms.pbc.all() and np.linalg.det(atoms.cell.array) < 0:
        return "the lattice vectors are left-handed; they are kept so"
    return None


def partly_occupied(atoms: Atoms) -> str | None:
    """Return why a crystal is none of atoms: sites that are partly occupied, as CIF has them."""
    sites = atoms.info.get("occupancy")
    if not isinstance(sites, Mapping):
        return None
    kinds = atoms.arrays.get("spacegroup_kinds")
    for kind, there in sites.items():
        if len(there) == 1 and all(_is_unknown(s) or s >= _ALL for s in there.values()):
            continue
        where = [] if kinds is None else np.flatnonzero(kinds == int(kind)).tolist()
        shares = and_list(
            symbol if _is_unknown(share) else f"{symbol} {share:g}"
            for symbol, share in there.items()
        )
        first = f" (atom {where[0]}, {len(where)} in the cell)" if where else ""
        return (
            f"a site is occupied in part, by {shares}{first}; allowed: an ordered structure, such "
            "as a supercell with whole atoms"
        )
    return None


def occupancy_note(atoms: Atoms) -> str | None:
    """Return a note on sites whose occupancy a CIF leaves open (`?` or `.`), as databases do."""
    sites = atoms.info.get("occupancy")
    if isinstance(sites, Mapping) and any(
        _is_unknown(share) for there in sites.values() for share in there.values()
    ):
        return "an occupancy that is left open is taken as 1"
    return None


def _is_unknown(share: object) -> bool:
    return not isinstance(share, int | float)


def alternate_locations(text: str) -> dict[int, str]:
    """Return why models of a PDB file are refused: the first atom of each that has a second place.

    Args:
        text: The content of the file.

    Returns:
        Sentences by the place of the model among those that hold atoms, from 0.
    """
    found: dict[int, str] = {}
    seen: dict[tuple[str, ...], str] = {}
    model, filled = 0, False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("END"):
            model, filled = model + filled, False
            seen.clear()
        if not line.startswith(("ATOM", "HETATM")):
            continue
        filled = True
        label = line[_ALTERNATE : _ALTERNATE + 1]
        atom = (line[12:16], line[17:27])  # its name, and its residue
        if label.strip() and seen.setdefault(atom, label) != label and model not in found:
            name, residue = line[12:16].strip(), " ".join(line[17:27].split())
            found[model] = (
                f"line {number}: atom {name} of {residue} has alternate locations "
                f"({seen[atom]} and {label}); allowed: one of them"
            )
    return found


def stands_for_no_cell(text: str) -> bool:
    """Whether a PDB file has the cell of 1 Å (NAMD: of 0) that stands for none."""
    return _NO_CELL.search(text) is not None
