"""What formats say that ASE's readers leave out, or guess without a word."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, chemical_symbols
from ase.io.cif import CIFBlock, parse_cif
from ase.io.gaussian import read_gaussian_in

from aimspax_core.errors import StructureError
from aimspax_core.settings.geometries.doubts import REFUSED
from aimspax_core.settings.geometries.elements_of_names import elements_of_gro
from aimspax_core.settings.reading.fortran import fortran_number

SAID_OF_ALL = "aimspax_said_of_all"
"""Where a frame has, in `info`, those of `charge` and `spin` that earlier releases left out."""

_CODES = {1: 3, 2: 2, 3: 1, 5: -1, 6: -2, 7: -3}
"""Charges (e) by their code in the lines of atoms of an MDL Molfile V2000."""

_BY_NAMES = "the format has no elements; they are taken by the names of the atoms"
_BY_MASSES = "the format has no elements; they are taken by the masses"
_TYPES = (
    "it has types of atoms and not their elements; write them (in LAMMPS: dump_modify element), or "
    "another format, such as x.xyz"
)
_UNLIKE = 0.001
"""A mass (u) that is further from an element's than this part of it is of another, unless rounded.

What force fields make is further off: CH2 as one atom has 14.027, N has 14.007.
"""

_DEUTERIUM = 2.0141
"""Its mass (u)."""


def complete(kind: str, frames: Sequence[Atoms], text: Callable[[], str]) -> tuple[str, ...]:
    """Put into frames what a file says of them and ASE's reader has left out.

    Args:
        kind: The format as ASE calls it.
        frames: Those that were read; changed in place.
        text: Reads the content of the file, which may be large.

    Returns:
        Notes on what was taken; without the name of the file.

    Raises:
        StructureError: ASE's reader has guessed what nothing in the file says.
    """
    own = _BY_FORMAT.get(kind)
    notes = () if own is None else own(frames, text())
    return (*notes, *filter(None, map(_not_periodic, frames[-1:])), *_moving(frames[-1:]))


def _not_periodic(atoms: Atoms) -> str | None:
    if atoms.cell.rank == 3 and not atoms.pbc.any():
        return "it has lattice vectors and is not periodic; it is taken as a molecule"
    return None


def _moving(frames: Sequence[Atoms]) -> Sequence[str]:
    if any(atoms.has("momenta") and atoms.get_momenta().any() for atoms in frames):
        return ("its velocities are not taken; they are drawn for the temperature in MD",)
    return ()


def _gro(frames: Sequence[Atoms], text: str) -> tuple[str, ...]:
    symbols = list(elements_of_gro(text))
    for atoms in frames:
        if len(symbols) == len(atoms):
            atoms.set_chemical_symbols(symbols)
    return (_BY_NAMES,)


def _lammps_dump(frames: Sequence[Atoms], text: str) -> tuple[str, ...]:
    columns = next((line for line in text.splitlines() if line.startswith("ITEM: ATOMS")), "")
    if "element" in columns.split():
        return ()
    if "mass" not in columns.split():
        raise StructureError(_TYPES)
    _told_by_masses(frames, _masses_of_dump(text))
    return (_BY_MASSES,)


def _masses_of_dump(text: str) -> set[str]:
    """Return the masses that a LAMMPS dump holds, as they are written, each once."""
    found: set[str] = set()
    column = None
    for line in text.splitlines():
        if line.startswith("ITEM:"):
            names = line.split()[2:] if line.startswith("ITEM: ATOMS") else []
            column = names.index("mass") if "mass" in names else None
        elif column is not None:
            found.update(line.split()[column : column + 1])
    return found


def _lammps_data(frames: Sequence[Atoms], text: str) -> tuple[str, ...]:
    masses = re.search(r"^\s*Masses\b[^\n]*\n\s*\n((?:\s*\d+\s+\S+[^\n]*\n?)+)", text, re.MULTILINE)
    if masses is None:
        raise StructureError(_TYPES)
    _told_by_masses(frames, {line.split()[1] for line in masses.group(1).splitlines()})
    return (f"{_BY_MASSES}, and the units are those of LAMMPS's style metal",)


def _told_by_masses(frames: Sequence[Atoms], words: Iterable[str]) -> None:
    """Refuse masses that are those of no element, or of several; ASE takes the nearest one."""
    for word in sorted(words):
        doubt = _doubt_of_mass(word)
        if doubt is not None:
            raise StructureError(f"the mass {word} is that of {doubt}; {_TYPES}")
    for atoms in frames:
        atoms.numbers[atoms.numbers == 0] = 1  # ASE's X has the mass 1


def _doubt_of_mass(word: str) -> str | None:
    """Return of what a mass (u), as it is written, is, if that is not one element."""
    if re.fullmatch(r"\d*\.?\d+\.?(e[+-]?\d+)?", word, re.IGNORECASE) is None:
        return "no element"
    mass, of_all = float(word), atomic_masses[1:]
    rounded = 0.5 * 10.0 ** -len(word.partition(".")[2]) + 1e-9
    off = np.abs(of_all - mass)
    near = np.flatnonzero(off <= _UNLIKE * of_all)
    near = near if len(near) else np.flatnonzero(off <= rounded)
    if not len(near):
        heavy = abs(_DEUTERIUM - mass) <= max(_UNLIKE * _DEUTERIUM, rounded)
        return "D, an isotope of H" if heavy else "no element"
    first, *others = near[np.argsort(off[near])]
    if others and off[others[0]] < 2 * off[first]:
        return f"{chemical_symbols[first + 1]} and of {chemical_symbols[others[0] + 1]}"
    return None


def _molfile(frames: Sequence[Atoms], text: str) -> tuple[str, ...]:
    """Take the charge of an MDL Molfile V2000: lines `M  CHG`, or else codes of atoms."""
    several = text.count("$$$$") > 1
    lines = text.partition("$$$$")[0].splitlines()
    count = int(lines[3][:3])
    charges = [line.split()[3:] for line in lines if line.startswith("M  CHG")]
    if charges:
        charge = sum(int(value) for words in charges for value in words[1::2])
        told = True
    else:
        codes = [line[36:39].strip() for line in lines[4 : 4 + count]]
        told = any(code.isdecimal() and int(code) in _CODES for code in codes)
        charge = sum(_CODES.get(int(code), 0) for code in codes if code.isdecimal())
    if told:
        _said(frames, {"charge": charge})
    taken = ("it holds several molecules; the first one is taken",) if several else ()
    return (*taken, f"its charge is {charge:+d}, the sum of those of its atoms") if told else taken


def _gaussian(frames: Sequence[Atoms], text: str) -> tuple[str, ...]:
    """Take charge and multiplicity, which ASE's reader gives to a calculator."""
    given = read_gaussian_in(io.StringIO(text), attach_calculator=True).calc.parameters
    names = {"charge": "charge", "spin": "mult"}
    _said(frames, {name: given[other] for name, other in names.items() if other in given})
    return ()


def _turbomole(frames: Sequence[Atoms], text: str) -> tuple[str, ...]:
    """Take the charge of a `coord` file; periodic ones are not read right."""
    if re.search(r"^\s*\$periodic\s+[123]", text, re.MULTILINE):
        raise StructureError("$periodic is not read from Turbomole's coord; write it as x.xyz")
    eht = re.search(r"^\s*\$eht\b([^$]*)", text, re.MULTILINE)
    words = "" if eht is None else eht.group(1)
    charge = re.search(r"charge=\s*([+-]?\d+)", words)
    unpaired = re.search(r"unpaired=\s*(\d+)", words)
    said = {} if charge is None else {"charge": int(charge.group(1))}
    _said(frames, said | ({} if unpaired is None else {"spin": int(unpaired.group(1)) + 1}))
    return ()


def _espresso(frames: Sequence[Atoms], text: str) -> tuple[str, ...]:
    """Take the charge of an input of Quantum ESPRESSO."""
    charge = re.search(r"^[^!\n]*\btot_charge\s*=\s*([^\s,!]+)", text, re.MULTILINE | re.IGNORECASE)
    value = None if charge is None else fortran_number(charge.group(1))
    if value:
        _said(frames, {"charge": value})
    return ()


def _castep(frames: Sequence[Atoms], text: str) -> tuple[str, ...]:
    del frames
    if re.search(r"^\s*%BLOCK\s+EXTERNAL_EFIELD", text, re.MULTILINE | re.IGNORECASE):
        raise StructureError(
            "EXTERNAL_EFIELD is not read from a CASTEP file; write the structure as geometry.in, "
            "with homogeneous_field"
        )
    return ()


def _cif(frames: Sequence[Atoms], text: str) -> tuple[str, ...]:
    if not frames and "_atom_site.Cartn_x" in text:
        raise StructureError("it is a macromolecular CIF, which is not read; write it as x.pdb")
    notes = set(filter(None, map(_merged, parse_cif(io.StringIO(text)), repeat(frames))))
    if re.search(r"^\s*_atom_site_moment[._]", text, re.MULTILINE):
        notes.add("its magnetic moments are not taken; geometry.in has them as initial_moment")
    return tuple(sorted(notes))


def _merged(block: CIFBlock, frames: Sequence[Atoms]) -> str | None:
    """Look for sites of a block that ASE has left out, as others are at the same place."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of what is looked for here
            read, sites = block.get_atoms(), block.get_unsymmetrized_structure()
    # Whatever ASE trips over, the block holds no structure, and none of the frames is of it.
    except Exception:
        return None
    kinds = read.arrays.get("spacegroup_kinds")
    if kinds is None or "occupancy" in read.info or len({*kinds.tolist()}) == len(sites):
        return None
    same = [
        a for a in frames if len(a) == len(read) and np.array_equal(a.positions, read.positions)
    ]
    for site in sorted({*range(len(sites))} - {*kinds.tolist()}):
        away = read.get_scaled_positions() - sites.get_scaled_positions()[site]
        kept = read[int(np.linalg.norm(away - np.round(away), axis=1).argmin())]
        if kept.symbol != sites[site].symbol:
            for atoms in same:
                atoms.info[REFUSED] = (
                    f"{kept.symbol} and {sites[site].symbol} are at the same place (atom "
                    f"{kept.index}); allowed: an ordered structure, with one of them"
                )
            return None
    return "sites that repeat others are left out" if same else None


def _cube(frames: Sequence[Atoms], text: str) -> tuple[str, ...]:
    del text
    boxed = any(atoms.pbc.any() for atoms in frames)
    return ("the box of its grid is taken as a periodic cell",) if boxed else ()


def _said(frames: Sequence[Atoms], said: Mapping[str, float]) -> None:
    for atoms in frames:
        atoms.info.update(said)
        atoms.info[SAID_OF_ALL] = tuple(said)


_BY_FORMAT: Mapping[str, Callable[[Sequence[Atoms], str], tuple[str, ...]]] = {
    "gromacs": _gro,
    "lammps-dump-text": _lammps_dump,
    "lammps-data": _lammps_data,
    "sdf": _molfile,
    "mol": _molfile,
    "gaussian-in": _gaussian,
    "turbomole": _turbomole,
    "espresso-in": _espresso,
    "castep-cell": _castep,
    "cif": _cif,
    "cube": _cube,
}
