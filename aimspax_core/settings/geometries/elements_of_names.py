"""Elements by the names of atoms, where a file (PDB, GRO) gives no others.

`CA` is calcium as an ion and carbon in an amino acid. What settles it is the place of the name
(PDB, format version 3.3, ATOM: the element's symbol is right-justified in columns 13-14), the
residue, or that only one of both is an element. What nothing settles is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ase.data import chemical_symbols

from aimspax_core.errors import StructureError

_SIMPLE = frozenset("HBCNOFPSKIVWUY")
_BUILT_OF = frozenset("HCNOPS")
"""Elements of proteins, nucleic acids and water."""

_ELEMENTS = frozenset(chemical_symbols[1:100])
"""Those that a file can be meant to hold; `OG` is no oganesson."""

_IONS = {
    "SOD": "Na",
    "CLA": "Cl",
    "POT": "K",
    "CAL": "Ca",
    "LIT": "Li",
    "RUB": "Rb",
    "CES": "Cs",
    "BAR": "Ba",
}
"""Ions by CHARMM's names of them, which are those of their residues too."""

_OF_IONS = ("ION", "IONS")
"""Residues of all ions."""

_FAR = frozenset(
    ("Ca", "Cd", "Ce", "Cf", "Cm", "Na", "Nb", "Nd", "Ne", "Pa", "Pb", "He", "Hf", "Hg", "Ho")
)
"""What a light element's letter and that of its place (alpha, beta, …) spell together."""

_RESIDUES = (
    " ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL"
    " HSD HSE HSP HID HIE HIP CYX ASH GLH LYN ACE NME"
    " A C G U I DA DC DG DT DI ADE GUA CYT THY URA HOH WAT SOL TIP TIP3 TIP4 SPC"
    " HEM HEME HEC FES SF4 F3S "
)
_BEADS = ("W", "WF", "PW")
"""Residues of coarse-grained water, of which one is four molecules; no tungsten."""

_GRAINS = re.compile(r"(BB|SC)\d?$")
"""Coarse grains of amino acids, which are no boron and no sulphur."""

_UNITED = re.compile(r"CH[1-4]?[A-Z]?$|C_?H[1-4]")
"""Names of carbons that stand for their hydrogens too, which are not written."""

_IN_RESIDUES = ("Fe", "Mg", "Se")
"""Other elements that residues of proteins hold."""

_SITES = re.compile(r"(M|MW|EP|EPW|LP|LPA|LPB|X|DUM|DU|Q|VS|UNX|UNK)\d*$")
"""Names of sites without a nucleus, of four-site water and force fields, and of unknown atoms."""

_ATOM = ("ATOM  ", "HETATM")
_ISOTOPES = ("D", "T")


def with_elements(text: str) -> tuple[str, bool]:
    """Return a PDB file's text with its element columns filled, and whether one was not.

    Raises:
        StructureError: The name of an atom does not tell its element, or it is an isotope; the text
            has its line.
    """
    lines, filled = text.splitlines(), False
    for at, line in enumerate(lines):
        if not line.startswith(_ATOM):
            continue
        name, residue, column = line[12:16], line[17:21].strip(), line[76:78]
        if _symbol(column) in _ISOTOPES:
            raise StructureError(
                f"line {at + 1}: atom {name.strip()} of {residue or 'no residue'} is of the "
                f"isotope {_symbol(column)}, which PDB files of elements have not; write H"
            )
        if _symbol(column) not in chemical_symbols[1:]:
            element = _by_place(name, residue)
            if element is None:
                raise StructureError(
                    f"line {at + 1}: atom {name.strip()} of {residue or 'no residue'} has no "
                    "element in columns 77-78, and its name does not tell one; allowed: an element"
                )
            lines[at], filled = f"{line[:76]:<76}{element:>2}", True
    return "\n".join((*lines, "")), filled


def elements_of_gro(text: str) -> Iterator[str]:
    """Yield the elements of a Gromacs file with one frame.

    Raises:
        StructureError: The name of an atom does not tell its element; the text has its line.
    """
    for number, line in enumerate(text.rstrip().splitlines()[2:-1], 3):
        residue, name = line[5:10].strip(), line[10:15].strip()
        element = element_of_name(name, residue)
        if element is None:
            raise StructureError(
                f"line {number}: the format has no elements, and atom {name} of "
                f"{residue or 'no residue'} does not tell its own by its name; write the "
                "structure in another format, such as x.xyz"
            )
        yield element


def element_of_name(name: str, residue: str) -> str | None:
    """Return the element of an atom by its name, if name and residue leave no other.

    Args:
        name: `CA`, `HG11`, `1HB`, `OW`, `NA+`, …
        residue: Name of what it is part of; that of an ion is its element's.
    """
    letters = re.sub(r"[^A-Za-z].*", "", name.strip().lstrip("0123456789*'"))
    if not letters or _SITES.match(name.strip().upper()):
        return None
    one = letters[0].upper()
    simple, double = one if one in _SIMPLE else None, _spelt(letters)
    kind = re.sub(r"[^A-Za-z]+", "", residue).upper()
    if kind in _BEADS:
        return None
    ion = _IONS.get(letters.upper())
    if ion is not None and kind in (letters.upper(), ion.upper(), *_OF_IONS):
        return ion
    if kind == letters.upper():
        return double or simple if len(letters) <= 2 else None
    if residue.strip().endswith(("+", "-")):
        return None  # of an ion that has another name
    if is_of_life(residue):
        if _GRAINS.match(name.strip().upper()):
            return None
        return one if one in _BUILT_OF else double if double in _IN_RESIDUES else None
    if _UNITED.match(name.strip().upper()):
        return None
    if double is not None and letters[:1].isupper() and letters[1:2].islower():
        return double
    if simple is not None and double not in (None, "Br"):
        return None
    return double or simple


def _by_place(name: str, residue: str) -> str | None:
    """Return the element of an atom by its name of four columns, and the place in them."""
    if _is_of_an_ion(name, residue):
        return element_of_name(name, residue)
    if name[:1].isspace() and name[1:2].upper() in _SIMPLE:
        return _of_second_column(name, residue)
    if len(name.strip()) == 4 and name[0].upper() == "H":
        return "H"  # of names with four letters: HG11
    if name[:1].isdigit() and name[1:2].upper() in _SIMPLE:
        return name[1].upper()  # of old names: 1HB
    return element_of_name(name, residue)


def _of_second_column(name: str, residue: str) -> str | None:
    """Return the element of an atom whose name is where those of one letter are, with such one."""
    if _SITES.match(name.strip().upper()):
        return None
    spelt = _spelt(name[1:])
    if spelt is None or (spelt in _FAR and not name[2].islower()):
        return name[1].upper()
    if name[2].islower() or is_of_life(residue):
        return element_of_name(name, residue)
    return None  # many write CL1 there


def _is_of_an_ion(name: str, residue: str) -> bool:
    """Whether an atom is a residue by itself."""
    named, kind = (re.sub(r"[\d+-]", "", word.strip()).upper() for word in (name, residue))
    return named == kind or residue.endswith(("+", "-")) or kind in _OF_IONS


def is_of_life(residue: str) -> bool:
    """Whether a residue's name is that of an amino acid, a nucleotide, water or a haem."""
    return f" {residue.strip().upper()} " in _RESIDUES


def is_spelt(symbol: str) -> bool:
    """Whether a word is the symbol of an element that a file can be meant to hold."""
    return symbol in _ELEMENTS


def _spelt(letters: str) -> str | None:
    """Return the symbol of two letters that a name begins with."""
    symbol = letters[:2].capitalize()
    return symbol if len(symbol) > 1 and symbol in _ELEMENTS else None


def _symbol(column: str) -> str:
    """Return what columns of an element say, in the spelling of symbols."""
    return re.sub(r"[^A-Za-z]+", "", column).capitalize()
