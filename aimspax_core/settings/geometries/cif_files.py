"""Crystallographic information files (CIF): what ASE's reader of them guesses or leaves out.

Source: the core dictionary of the IUCr, version 2.4 (`_atom_site_`, `_symmetry_`, `_chemical_`).
"""

from __future__ import annotations

import io
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.io.cif import CIFBlock, parse_cif
from ase.spacegroup import Spacegroup, crystal
from ase.spacegroup.spacegroup import SpacegroupNotFoundError
from numpy.typing import NDArray

from aimspax_core.errors import StructureError
from aimspax_core.settings.geometries.doubts import REFUSED
from aimspax_core.settings.geometries.elements_of_names import element_of_name, is_spelt

_LABEL, _TYPE = "_atom_site_label", "_atom_site_type_symbol"
_UNKNOWN = ("?", ".")
_NO_DISORDER = (*_UNKNOWN, 0, "0")

_OPERATIONS = (
    "_space_group_symop_operation_xyz",
    "_space_group_symop.operation_xyz",
    "_symmetry_equiv_pos_as_xyz",
)
_BY_NAME = (
    "_space_group_name_h-m_alt",
    "_symmetry_space_group_name_h-m",
    "_space_group.patterson_name_h-m",
)
_GROUPS = (
    *_BY_NAME,
    "_space_group.it_number",
    "_space_group_it_number",
    "_symmetry_int_tables_number",
)
_MAGNETIC = "_space_group_symop_magn_operation"
_SETTING = ("_symmetry_space_group_setting", "_space_group_it_coordinate_system_code")
_HALL = ("_space_group_name_hall", "_symmetry_space_group_name_hall")

_NEAR = 0.01
"""Distances (Å) are the same within it."""

_ALIKE = 0.02
"""Share by which the composition of sites may be off the formula's, which is often rounded."""


def complete_cif(frames: Sequence[Atoms], text: str) -> tuple[str, ...]:
    """Put into frames of a CIF what ASE's reader has left out, and refuse what it has guessed.

    Args:
        frames: Those that were read; changed in place.
        text: The content of the file.

    Returns:
        Notes on what was taken; without the name of the file.

    Raises:
        StructureError: The file is none of crystals.
    """
    if not frames and "_atom_site.Cartn_x" in text:
        raise StructureError("it is a macromolecular CIF, which is not read; write it as x.pdb")
    notes: dict[str, None] = {}
    if re.search(r"^\s*_atom_site_moment[._]", text, re.MULTILINE):
        notes["its magnetic moments are not taken; geometry.in has them as initial_moment"] = None
    for block in parse_cif(io.StringIO(text)):
        read = _read(block)
        same = [] if read is None else [atoms for atoms in frames if _is_same(atoms, read)]
        for atoms in same:
            refused = next(_refused(block, atoms), None)
            if refused is not None:
                atoms.info[REFUSED] = refused
            notes.update(dict.fromkeys(_notes(block, atoms)))
    return tuple(sorted(notes))


def unreadable_site(text: str) -> str | None:
    """Return why a CIF cannot be read: the first site that tells no element, or no place."""
    for block in parse_cif(io.StringIO(text)):
        for site in _column(block, _TYPE) or _column(block, _LABEL):
            if _element(block, str(site)) is None:
                return _no_element(block, str(site))
        places = (_column(block, f"_atom_site_fract_{axis}") for axis in "xyz")
        for index, place in enumerate(zip(*places, strict=False)):
            if any(value in _UNKNOWN for value in place):
                name = (*_column(block, _LABEL)[index : index + 1], f"number {index}")[0]
                return f"the place of site {name} is left open; allowed: sites with their places"
    return None


def _read(block: CIFBlock) -> Atoms | None:
    """Return what ASE reads of a block; None if it holds no structure."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of what is looked for here
            return block.get_atoms()
    # Whatever ASE trips over, the block holds no structure, and none of the frames is of it.
    except Exception:
        return None


def _is_same(atoms: Atoms, read: Atoms) -> bool:
    return len(atoms) == len(read) and np.array_equal(atoms.positions, read.positions)


def _refused(block: CIFBlock, atoms: Atoms) -> Iterator[str]:
    """Yield why a frame is refused; its elements are set on the way."""
    yield from _elements(block, atoms)
    yield from _disorder(block)
    yield from _symmetry(block)
    other = _other_at_same_place(block, atoms)
    if other:
        yield other


def _notes(block: CIFBlock, atoms: Atoms) -> Iterator[str]:
    if _TYPE not in block:
        yield "it names no elements; they are taken by the labels of its sites"
    if not _is_said(block) and not any(_said(block, name) for name in _HALL):
        yield "it says no symmetry; its sites are taken as all that there are (P 1)"
    if _merged(block, atoms):
        yield "sites that repeat others are left out"
    yield from _formula(block, atoms)


# ---- elements -------------------------------------------------------------------------------


def _elements(block: CIFBlock, atoms: Atoms) -> Iterator[str]:
    """Set elements by type symbols or, if there are none, labels; yield one that tells none."""
    kinds = _kinds(atoms)
    for index, site in enumerate(_column(block, _TYPE) or _column(block, _LABEL)):
        symbol = _element(block, str(site))
        if symbol is None:
            yield _no_element(block, str(site))
            return
        atoms.numbers[kinds == index] = 1 if symbol == "D" else atomic_numbers[symbol]


def _element(block: CIFBlock, site: str) -> str | None:
    return _of_type(site) if _column(block, _TYPE) else _of_label(site)


def _no_element(block: CIFBlock, site: str) -> str:
    if _column(block, _TYPE):
        return f"the type symbol '{site}' is none of an element"
    return f"the label '{site}' does not tell its element, and no type symbol says it"


def _of_type(word: str) -> str | None:
    """Return the element of a type symbol: `Fe`, `Fe3+`, `O2-`, `CL`; `OH` and `Wat` are none."""
    letters = re.fullmatch(r"([A-Za-z]+)[^A-Za-z]*", word)
    symbol = letters[1].capitalize() if letters else ""
    return symbol if symbol == "D" or is_spelt(symbol) else None


def _of_label(word: str) -> str | None:
    """Return the element that a label begins with; none if it may be another, as of `CA1`."""
    letters = re.sub(r"[^A-Za-z].*", "", word)
    if letters in ("D", "T"):
        return "D" if letters == "D" else None
    if letters[2:3].islower():
        return None  # a word: Wat
    return element_of_name(letters, "")


# ---- sites ----------------------------------------------------------------------------------


def _disorder(block: CIFBlock) -> Iterator[str]:
    """Yield the sites that are not all there at once, where no occupancy says so."""
    groups = _column(block, "_atom_site_disorder_group")
    assemblies = _column(block, "_atom_site_disorder_assembly") or ["."] * len(groups)
    found: dict[str, set[str]] = {}
    for assembly, group in zip(assemblies, groups, strict=False):
        if group not in _NO_DISORDER:
            found.setdefault(str(assembly), set()).add(str(group))
    for assembly, there in found.items():
        named = "" if assembly in _UNKNOWN else f" of assembly {assembly}"
        if len(there) > 1:
            first, second, *_ = sorted(there)
            yield (
                f"it is disordered: the groups {first} and {second}{named} are not there at once; "
                "allowed: an ordered structure, with one of them"
            )
        elif next(iter(there)).startswith("-"):
            yield (
                f"it is disordered: the group {next(iter(there))}{named} lies on a place of "
                "symmetry, whose copies are not there at once; allowed: an ordered structure"
            )


def _symmetry(block: CIFBlock) -> Iterator[str]:
    """Yield what ASE does not read of symmetry, or reads for other axes than those of the cell."""
    if any(name.startswith(_MAGNETIC) for name in block) and not _is_said(block):
        yield (
            "its symmetry is that of its magnetic moments, which is not read; allowed: the "
            "operations of symmetry of the atoms, or all of them with P 1"
        )
    hall = next((str(block[name]) for name in _HALL if _said(block, name)), "")
    if hall and not _is_said(block) and hall.replace(" ", "").upper() != "P1":
        yield (
            f"its symmetry is given by Hall's symbol alone ('{hall}'), which is not read; allowed: "
            "its operations, or the symbol of Hermann and Mauguin"
        )
    group = _space_group(block)
    if group is not None and not _fits(group, block.get_cell().array):
        yield (
            f"the cell does not have the symmetry of its space group ({group.symbol}, setting "
            f"{group.setting}), which is one of other axes; allowed: the operations of symmetry"
        )
    elif group is not None and (other := _other_setting(block, group)) is not None:
        one, two = _of_setting(block, group), _of_setting(block, other)
        if not _are_alike(one, two):
            yield (
                f"it gives its space group ({group.symbol}) by name or number alone, which has two "
                "settings (origins or axes) for such a cell, and its sites make two structures by "
                f"them ({one.symbols} and {two.symbols}); allowed: the "
                "operations of symmetry, or all sites with P 1"
            )


def _fits(group: Spacegroup, cell: NDArray[np.float64]) -> bool:
    """Whether rotations R of a space group leave the metric G = A A^T of a cell: R^T G R = G."""
    metric = cell @ cell.T
    turned = [turn.T @ metric @ turn for turn in group.get_op()[0]]
    return bool(np.allclose(turned, metric, rtol=0, atol=_ALIKE * metric.max()))


def _other_setting(block: CIFBlock, group: Spacegroup) -> Spacegroup | None:
    """Return the setting of a group that a block may mean as well as the one that ASE takes."""
    if not _has_setting(group.no, 2) or any(
        str(block.get(name)) == str(group.setting) for name in _SETTING
    ):
        return None
    other = Spacegroup(group.no, 3 - group.setting)
    if other.symbol != group.symbol and any(_said(block, name) for name in _BY_NAME):
        return None
    return other if _fits(other, block.get_cell().array) else None


def _of_setting(block: CIFBlock, group: Spacegroup) -> Atoms:
    """Return the crystal that a block's sites make by a group; its arrays have their sites."""
    sites = block.get_unsymmetrized_structure()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of sites that repeat others
        atoms: Atoms = crystal(sites, spacegroup=group, onduplicates="keep")
    return atoms


def _are_alike(one: Atoms, other: Atoms) -> bool:
    """Whether two crystals of the same sites are the same but for where their origin is.

    All atoms of a site are the same by symmetry: the distances (Å) of its first one tell them.
    """
    if len(one) != len(other):
        return False
    return all(
        np.allclose(_distances(one, site), _distances(other, site), rtol=0, atol=_NEAR)
        for site in np.unique(_kinds(one))
    )


def _distances(atoms: Atoms, site: int) -> NDArray[np.float64]:
    """Return the distances (Å) of a site's first atom from all (N,), by site and length."""
    kinds = _kinds(atoms)
    first = int(np.flatnonzero(kinds == site)[0])
    away = atoms.get_distances(first, np.arange(len(atoms)), mic=True)
    return np.asarray(away[np.lexsort((away, kinds))])


def _space_group(block: CIFBlock) -> Spacegroup | None:
    """Return the space group that ASE has read without operations; None if there are some."""
    if any(_said(block, name) for name in _OPERATIONS) or block.get_cell().rank < 3:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return block.get_spacegroup(subtrans_included=True)


def _has_setting(number: int, setting: int) -> bool:
    try:
        Spacegroup(number, setting)
    except SpacegroupNotFoundError:
        return False
    return True


def _merged(block: CIFBlock, atoms: Atoms) -> list[int]:
    """Return the sites that ASE has left out, as others are at the same place."""
    if "spacegroup_kinds" not in atoms.arrays or "occupancy" in atoms.info:
        return []
    sites = len(block.get_unsymmetrized_structure())
    return sorted({*range(sites)} - {*_kinds(atoms).tolist()})


def _other_at_same_place(block: CIFBlock, atoms: Atoms) -> str:
    """Return why a frame is refused of which one site hides another of another element."""
    sites = block.get_unsymmetrized_structure()
    for site in _merged(block, atoms):
        away = atoms.get_scaled_positions() - sites.get_scaled_positions()[site]
        kept = atoms[int(np.linalg.norm(away - np.round(away), axis=1).argmin())]
        if kept.symbol != sites[site].symbol:
            return (
                f"{kept.symbol} and {sites[site].symbol} are at the same place (atom "
                f"{kept.index}); allowed: an ordered structure, with one of them"
            )
    return ""


def _formula(block: CIFBlock, atoms: Atoms) -> Iterator[str]:
    """Yield a note if sites are missing (hydrogens mostly) or left over by the file's formula."""
    said = block.get("_chemical_formula_sum")
    if not isinstance(said, str):
        return
    parts = re.findall(r"([A-Z][a-z]?)\s*(\d+\.?\d*|\.\d+)?", said)
    wanted = Counter[str]()
    for symbol, number in parts:
        wanted["H" if symbol == "D" else symbol] += float(number or 1)  # type: ignore[assignment]
    there = Counter(atoms.get_chemical_symbols())
    if not wanted or not there or not all(map(is_spelt, wanted)):
        return
    shares: list[Mapping[str, float]] = [
        {symbol: number / sum(one.values()) for symbol, number in one.items()}
        for one in (wanted, there)
    ]
    if any(abs(shares[0].get(s, 0) - shares[1].get(s, 0)) > _ALIKE for s in {*wanted, *there}):
        found = atoms.get_chemical_formula("hill")
        yield f"its sites make {found}, and its formula is '{said}'; the sites are taken"


def _kinds(atoms: Atoms) -> np.ndarray:
    """Return the site of each atom, (N,)."""
    return np.asarray(atoms.arrays.get("spacegroup_kinds", np.arange(len(atoms))))


def _is_said(block: CIFBlock) -> bool:
    """Whether a block says its symmetry in a way that ASE reads."""
    return any(_said(block, name) for name in (*_OPERATIONS, *_GROUPS))


def _said(block: CIFBlock, name: str) -> bool:
    value: Any = block.get(name)
    return bool(value) and value not in _UNKNOWN


def _column(block: CIFBlock, name: str) -> list[Any]:
    value = block.get(name)
    return list(value) if isinstance(value, list) else [] if value is None else [value]
