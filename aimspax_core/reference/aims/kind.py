"""The kind `aims` of reference engine: what can be asked of it before it is made."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimspax_core.errors import SettingsError
from aimspax_core.reference.aims.section import (
    KEYWORDS_OF_CELLS,
    KEYWORDS_OF_SPIN,
    WORDS_OF_SHELLS,
    AimsReference,
)
from aimspax_core.reference.interface import Finding, Kind, Reference, Use
from aimspax_core.safe_files import write_text
from aimspax_core.settings.engines import EngineSection

if TYPE_CHECKING:
    from ase import Atoms


def _check(section: AimsReference, use: Use) -> Iterator[Finding]:
    """A launch line may begin with a program that only the nodes have."""
    first = section.launch_str.split()[0]
    plain = not set(first) & set("=$(){};&|<>\"'`") and first not in WORDS_OF_SHELLS
    if plain and shutil.which(first) is None and not Path(first).expanduser().exists():
        yield Finding("launch_str", f"{first} is not found on this machine", note=True)


def _check_structure(section: AimsReference, use: Use, atoms: Atoms) -> Iterator[Finding]:
    from aimspax_core.reference.aims.engine import mistakes, notes

    for key, text in mistakes(section, use.directory, atoms):
        yield Finding(key, text)
    for key, text in notes(section, use.directory, atoms):
        yield Finding(key, text, note=True)


def _frozen(section: AimsReference, directory: Path, elements: frozenset[str]) -> Mapping[str, Any]:
    """Return the identity by keyword, with the species that the campaign needs."""
    identity = _make(section, directory).identity()
    keywords: dict[str, str] = {}
    for name, *values in identity["control"]:
        text = " ".join(values) or "set"
        keywords[name] = f"{keywords[name]}; {text}" if name in keywords else text
    species = {name: sha[:16] for name, sha in identity["species"].items() if name in elements}
    return {**identity, "control": keywords, "species": species}


def _in_vacuum(
    section: AimsReference, directory: Path, folder: Path, multiplicity: int
) -> EngineSection:
    """Write a control file without what belongs to cells, spin-polarised above a singlet.

    Raises:
        SettingsError: The control file cannot be read.
    """
    from aimspax_core.settings.aims_control.control import Control
    from aimspax_core.settings.aims_control.keywords import PART_OF

    assert not isinstance(section.control, dict)
    control, wrong = Control.read(directory / section.control)
    if wrong:
        raise SettingsError("\n".join(str(mistake) for mistake in wrong))
    for name in (*KEYWORDS_OF_CELLS, *KEYWORDS_OF_SPIN, "output", *PART_OF):
        control = control.without(name)
    polarised = multiplicity > 1
    control = control.with_("spin", "collinear" if polarised else "none")
    file = folder / f"control-{'open' if polarised else 'closed'}-shell.in"
    write_text(file, control.text())
    return section.model_copy(update={"control": file, "compute_stress": False})


def _electrons(section: AimsReference, directory: Path) -> dict[str, float]:
    """Return the charge of the control file, and the multiplicity if that has a fixed moment."""
    from aimspax_core.settings.aims_control.control import Control

    assert not isinstance(section.control, dict)
    control, _ = Control.read(directory / section.control)
    found = {"charge": control.number("charge")}
    polarised = (control.get("spin") or ("none",))[0].lower() == "collinear"
    moment = control.number("fixed_spin_moment")
    if polarised and moment == round(moment) and control.get("fixed_spin_moment"):
        found["spin"] = abs(moment) + 1.0
    return found


_ANALYSES = ("vdw_correction_hirshfeld", "many_body_dispersion")
"""Keywords by which FHI-aims analyses and prints Hirshfeld volumes besides."""


def _lacks(section: AimsReference, directory: Path, quantity: str) -> str:
    """Say what control.in has to ask for."""
    from aimspax_core.settings.aims_control.control import Control

    assert not isinstance(section.control, dict)
    control, _ = Control.read(directory / section.control)
    asked = {"dipole": "dipole", "hirshfeld_ratios": "hirshfeld"}[quantity]
    outputs = [k.values[:1] for k in control.keywords if k.name.lower() == "output"]
    if (asked,) in [tuple(value.lower() for value in values) for values in outputs]:
        return ""
    if quantity == "hirshfeld_ratios" and any(control.flag(name) for name in _ANALYSES):
        return ""
    return f"FHI-aims gives them with `output {asked}`, which {section.control.name} has not"


def _make(section: AimsReference, directory: Path) -> Reference:
    from aimspax_core.reference.aims.engine import AimsEngine

    return AimsEngine(section, directory)


AIMS = Kind(
    section=AimsReference,
    make=_make,
    check=_check,
    check_structure=_check_structure,
    frozen=_frozen,
    identity_has_files=True,
    takes_aims_lines=True,
    in_vacuum=_in_vacuum,
    electrons=_electrons,
    lacks=_lacks,
)
