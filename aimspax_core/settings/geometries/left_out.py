"""What formats say that ASE's readers leave out, or guess without a word."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms
from ase.data import atomic_masses, chemical_symbols
from ase.io.gaussian import read_gaussian_in

from aimspax_core.errors import StructureError
from aimspax_core.settings.geometries.cif_files import complete_cif
from aimspax_core.settings.geometries.elements_of_names import elements_of_gro
from aimspax_core.settings.geometries.force_field_names import (
    complete_config,
    complete_gromos,
    complete_history,
)
from aimspax_core.settings.geometries.gaussian_inputs import frozen_atoms, without_freeze_codes
from aimspax_core.settings.geometries.own_electrons import NAMES, SAID_OF_ALL
from aimspax_core.settings.geometries.said_in_formats import (
    electrons_of,
    has_electrons,
    may_be_refused,
    notes_on_electrons,
    refused_of,
)
from aimspax_core.settings.geometries.vasp_files import complete_poscar

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

_REPEATED = re.compile(r"(?<!\S)(\d+)\*(\S+)")
"""ABINIT's `3*10.2`, which stands for three numbers."""

_FRACTION = re.compile(r"(?<!\S)([+-]?\d+\.?\d*)/(\d*[1-9]\.?\d*)(?!\S)")
"""ABINIT's `1/3`."""

_MOMENTS = ("magmoms", "magmom", "magnetic_moments")
_CHARGES = ("charges", "charge", "partial_charges")
_HALF = 0.5
"""Sums of atoms' charges that are further from 0 (e) are of charged systems."""

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
    if has_electrons(kind):
        if said := electrons_of(kind, text()):
            _said(frames, said)
        notes = (*notes, *notes_on_electrons(kind, text(), said))
    return (*notes, *(note for atoms in frames[-1:] for note in _of_any_format(atoms)))


def _of_any_format(atoms: Atoms) -> Iterator[str]:
    if atoms.cell.rank == 3 and not atoms.pbc.any():
        yield "it has lattice vectors and is not periodic; it is taken as a molecule"
    if atoms.has("momenta") and atoms.get_momenta().any():
        yield "its velocities are not taken; they are drawn for the temperature in MD"
    results = {} if atoms.calc is None else getattr(atoms.calc, "results", {})
    for name in _MOMENTS:
        values = results.get(name, atoms.arrays.get(name))
        if not atoms.has("initial_magmoms") and values is not None and np.any(values):
            yield (
                f"its moments ({name}) are results, and not taken; initial_magmoms are those that "
                "a calculation begins with"
            )
    for name in _CHARGES:
        values = results.get(name, atoms.arrays.get(name))
        if values is None or {*NAMES, *NAMES.values()} & {*atoms.info}:
            continue
        total = float(np.sum(np.asarray(values, dtype=float)))
        if np.ndim(values) == 1 and abs(total) > _HALF:
            yield (
                f"its {name} add up to {total:+.2g}, which is not taken as a total charge; charge "
                "would be"
            )


def readable(kind: str, text: Callable[[], str]) -> str | None:
    """Return the text of a file as ASE reads it; None if it reads the file as it is.

    Args:
        kind: The format as ASE calls it.
        text: Reads the content of the file.

    Raises:
        StructureError: The file says what changes the system, and no reader takes.
    """
    if may_be_refused(kind) and (why := refused_of(kind, text())) is not None:
        raise StructureError(why)
    if kind in ("sdf", "mol") and "V3000" in "".join(text().splitlines()[3:4]):
        raise StructureError("it is a Molfile V3000, which is not read; write it as V2000 or x.xyz")
    if kind == "abinit-in":
        plain = _REPEATED.sub(lambda found: f"{found[2]} " * int(found[1]), text())
        return _FRACTION.sub(lambda found: repr(float(found[1]) / float(found[2])), plain)
    return without_freeze_codes(text()) if kind == "gaussian-in" else None


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
    units = re.search(r"\bunits\s*=\s*(\w+)", text.partition("\n")[0])
    if units is not None and units[1] not in ("metal", "real"):
        raise StructureError(f"its units are {units[1]}, which are not read; allowed: metal, real")
    masses = re.search(r"^\s*Masses\b[^\n]*\n\s*\n((?:\s*\d+\s+\S+[^\n]*\n?)+)", text, re.MULTILINE)
    if masses is None:
        raise StructureError(_TYPES)
    _told_by_masses(frames, {line.split()[1] for line in masses.group(1).splitlines()})
    return (_BY_MASSES,) if units else (f"{_BY_MASSES}, and the units are taken for metal's",)


def _told_by_masses(frames: Sequence[Atoms], words: Iterable[str]) -> None:
    """Refuse masses that are those of no element, or of several; ASE takes the nearest one."""
    words = sorted(words)
    for word in words:
        doubt = _doubt_of_mass(word)
        if doubt is not None:
            raise StructureError(f"the mass {word} is that of {doubt}; {_TYPES}")
    if words and {float(word) for word in words} == {1.0}:
        raise StructureError(
            f"the mass {words[0]} is that of reduced units (lj) too, and the only one; {_TYPES}"
        )
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
    read = io.StringIO(without_freeze_codes(text))
    given = read_gaussian_in(read, attach_calculator=True).calc.parameters
    names = {"charge": "charge", "spin": "mult"}
    _said(frames, {name: given[other] for name, other in names.items() if other in given})
    frozen = frozen_atoms(text)
    for atoms in frames if frozen else ():
        atoms.set_constraint(FixAtoms(frozen))
    return ()


def _turbomole(frames: Sequence[Atoms], text: str) -> tuple[str, ...]:
    """Take the charge of a `coord` file."""
    eht = re.search(r"^\s*\$eht\b([^$]*)", text, re.MULTILINE)
    words = "" if eht is None else eht.group(1)
    charge = re.search(r"charge=\s*([+-]?\d+)", words)
    unpaired = re.search(r"unpaired=\s*(\d+)", words)
    said = {} if charge is None else {"charge": int(charge.group(1))}
    _said(frames, said | ({} if unpaired is None else {"spin": int(unpaired.group(1)) + 1}))
    return ()


def _eon(frames: Sequence[Atoms], text: str) -> tuple[str, ...]:
    """Take what eOn always is, and its files do not say."""
    del text
    for atoms in frames:
        atoms.pbc = True
    return ("it is periodic, as all files of eOn are",)


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
    "dlp4": complete_config,
    "dlp-history": complete_history,
    "eon": _eon,
    "gromos": complete_gromos,
    "vasp": complete_poscar,
    "cif": complete_cif,
    "cube": _cube,
}
