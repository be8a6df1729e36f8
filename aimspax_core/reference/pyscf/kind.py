"""The kind `pyscf` of reference engine: what can be asked of it before it is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from aimspax_core.reference.electrons import beside, own_or
from aimspax_core.reference.interface import Finding, Kind, Reference, Use
from aimspax_core.reference.pyscf.section import PyscfReference
from aimspax_core.settings.engines import EngineSection

if TYPE_CHECKING:
    from ase import Atoms


def _check(section: PyscfReference, use: Use) -> Iterator[Finding]:
    from aimspax_core.reference.pyscf.refusals import method_refused

    yield from _finding(method_refused(section))


def _check_structure(section: PyscfReference, use: Use, atoms: Atoms) -> Iterator[Finding]:
    from aimspax_core.reference.pyscf.refusals import structure_refused

    yield from _finding(structure_refused(section, atoms, use.stress))
    yield from beside(atoms, *own_or(atoms, section.charge, section.spin), "PySCF")


def _finding(refused: str | None) -> Iterator[Finding]:
    if refused is not None:
        key, _, text = refused.partition(": ")
        yield Finding(key, text)


def _in_vacuum(
    section: PyscfReference, directory: Path, folder: Path, multiplicity: int
) -> EngineSection:
    return section.model_copy(update={"k_grid": None, "compute_stress": False})


def _lacks(section: PyscfReference, directory: Path, quantity: str) -> str:
    return "" if quantity == "dipole" else "it gives dipoles, and no Hirshfeld ratios"


def _make(section: PyscfReference, directory: Path) -> Reference:
    from aimspax_core.reference.pyscf.engine import PyscfEngine

    return PyscfEngine(section, directory)


PYSCF = Kind(
    section=PyscfReference,
    make=_make,
    check=_check,
    check_structure=_check_structure,
    in_vacuum=_in_vacuum,
    lacks=_lacks,
)
