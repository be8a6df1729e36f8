"""The keywords of FHI-aims's `geometry.in`, the values they take, and what becomes of each here.

Sources: the manual of FHI-aims, section 3.2 and the sections on relaxation, embedding and magnetic
response (https://fhi-aims.org/uploads/manual); pyfhiaims 1.2, `pyfhiaims.geometry.geometry`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from aimspax_core.settings.aims_control.keywords import FLAG, Form
from aimspax_core.settings.reading.fortran import fortran_logical, fortran_number


class Fate(StrEnum):
    """What becomes of what a keyword says."""

    STRUCTURE = "part of the structure"
    PASSED_ON = "written into the geometry.in of each label"
    HELD = "holds while atoms move"
    NOTED = "means nothing for a single point"
    REFUSED = "refused"


class About(StrEnum):
    """What a keyword speaks of."""

    FILE = "the whole file"
    ATOM = "the atom before it"
    EITHER = "the atom or the lattice vector before it"


class GeometryKeyword(NamedTuple):
    """A keyword of `geometry.in`.

    Attributes:
        form: The values that it takes; None: any.
        fate: What becomes of it.
        about: What it speaks of.
        why: Why it is refused, or means nothing here.
        once: Whether it holds once for what it is about.
    """

    form: Form | None
    fate: Fate
    about: About = About.FILE
    why: str = ""
    once: bool = True


def _number(token: str) -> bool:
    return fortran_number(token) is not None


def _whole(token: str) -> bool:
    return token.lstrip("+-").isdecimal() and token.isascii()


def _word(token: str) -> bool:
    return fortran_number(token) is None


def _held(token: str) -> bool:
    return token.lower() in ("x", "y", "z") or fortran_logical(token) is not None


_SITE = Form((_number,) * 3 + (_word,), 4, "three numbers and a chemical element")
_VECTOR = Form((_number,) * 3, 3, "three numbers")
_NUMBER = Form((_number,), 1, "a number")
_BLOCK = Form((_whole,) * 2 + (_number,) * 9, 11, "two indices and nine numbers")

_HISTORY = "it is for relaxations, and has no effect"
_RESPONSE = "it is for the magnetic response, and has no effect"
_EMPTY = (
    "aimspax knows atoms only, and a site with basis functions alone would stay behind when the "
    "atoms move; leave it out"
)
_PSEUDO = (
    "aimspax knows atoms only, and a pseudopotential core would stay behind when the atoms move; "
    "leave it out"
)
_REGION = "constrained electrons are not carried from one structure to the next; leave it out"
_SYMMETRY = GeometryKeyword(None, Fate.HELD, once=False)

KEYWORDS: Mapping[str, GeometryKeyword] = {
    "atom": GeometryKeyword(_SITE, Fate.STRUCTURE, once=False),
    "atom_frac": GeometryKeyword(_SITE, Fate.STRUCTURE, once=False),
    "lattice_vector": GeometryKeyword(_VECTOR, Fate.STRUCTURE, once=False),
    "initial_moment": GeometryKeyword(_NUMBER, Fate.STRUCTURE, About.ATOM),
    "initial_charge": GeometryKeyword(_NUMBER, Fate.STRUCTURE, About.ATOM),
    "homogeneous_field": GeometryKeyword(_VECTOR, Fate.PASSED_ON),
    "multipole": GeometryKeyword(
        Form(
            (_number,) * 3 + (_whole, _number), 5, "three numbers, the order (0 or 1) and a charge"
        ),
        Fate.PASSED_ON,
        once=False,
    ),
    "set_vacuum_level": GeometryKeyword(_NUMBER, Fate.PASSED_ON),
    "constrain_relaxation": GeometryKeyword(
        Form((_held,), 1, "x, y, z, .true. or .false."), Fate.HELD, About.EITHER, once=False
    ),
    "symmetry_n_params": _SYMMETRY,
    "symmetry_params": _SYMMETRY,
    "symmetry_lv": _SYMMETRY,
    "symmetry_frac": _SYMMETRY,
    "symmetry_frac_change_threshold": GeometryKeyword(_NUMBER, Fate.NOTED, why=_HISTORY),
    "velocity": GeometryKeyword(
        _VECTOR, Fate.NOTED, About.ATOM, "velocities are drawn for the temperature in MD"
    ),
    "rt_tddft_initial_velocity": GeometryKeyword(
        _VECTOR, Fate.NOTED, About.ATOM, "it is for a propagation in time, and has no effect"
    ),
    "trust_radius": GeometryKeyword(_NUMBER, Fate.NOTED, why=_HISTORY),
    "hessian_file": GeometryKeyword(Form((), 0, "nothing"), Fate.NOTED, why=_HISTORY),
    "hessian_block": GeometryKeyword(_BLOCK, Fate.NOTED, why=_HISTORY, once=False),
    "hessian_block_lv": GeometryKeyword(_BLOCK, Fate.NOTED, why=_HISTORY, once=False),
    "hessian_block_lv_atoms": GeometryKeyword(_BLOCK, Fate.NOTED, why=_HISTORY, once=False),
    "magnetic_response": GeometryKeyword(FLAG, Fate.NOTED, About.ATOM, _RESPONSE),
    "magnetic_moment": GeometryKeyword(_NUMBER, Fate.NOTED, About.ATOM, _RESPONSE),
    "nuclear_spin": GeometryKeyword(_NUMBER, Fate.NOTED, About.ATOM, _RESPONSE),
    "isotope": GeometryKeyword(_NUMBER, Fate.NOTED, About.ATOM, _RESPONSE),
    "esp_constraint": GeometryKeyword(
        None, Fate.NOTED, About.ATOM, "it is for fitted charges, and has no effect"
    ),
    "verbatim_writeout": GeometryKeyword(FLAG, Fate.NOTED, why="it has no effect on a label"),
    "calculate_friction": GeometryKeyword(
        FLAG, Fate.NOTED, About.ATOM, "it is for electronic friction, and has no effect"
    ),
    "empty": GeometryKeyword(_SITE, Fate.REFUSED, why=_EMPTY, once=False),
    "pseudocore": GeometryKeyword(_SITE, Fate.REFUSED, why=_PSEUDO, once=False),
    "constraint_region": GeometryKeyword(None, Fate.REFUSED, About.ATOM, _REGION),
}
"""What is known of each keyword, by the keyword in lower case."""

SITES = ("atom", "atom_frac", "empty", "pseudocore")
"""Keywords that begin a site, which those after it speak of."""
