"""The kinds `mace` and `mace-mp` of reference engine: teachers, MACE models in place of DFT."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimspax_core.devices import missing_gpu
from aimspax_core.reference.interface import Finding, Kind, Reference, Use
from aimspax_core.reference.mace.section import MaceMpReference, MaceReference
from aimspax_core.settings.families.mace_file import elements_missing
from aimspax_core.versions import version_of

if TYPE_CHECKING:
    from ase import Atoms


def _check(section: MaceReference | MaceMpReference, use: Use) -> Iterator[Finding]:
    """A GPU that is asked for must be there; jobs of a cluster have theirs."""
    missing = missing_gpu(section.device) if use.here else None
    if missing is not None:
        yield Finding("device", missing)


def _check_structure(
    section: MaceReference | MaceMpReference, use: Use, atoms: Atoms
) -> Iterator[Finding]:
    """A model knows some elements only; of one that is not fetched yet it is not known which."""
    if isinstance(section, MaceReference):
        key, path = "model_path", use.directory / section.model_path
    else:
        key, path = "mace_model", use.directory / section.mace_model
    if missing := elements_missing(path, set(atoms.numbers.tolist())):
        yield Finding(key, missing)


def _frozen(
    section: MaceReference | MaceMpReference, directory: Path, elements: frozenset[str]
) -> Mapping[str, Any]:
    """Keys and the file's content say all else; to make the engine would import torch."""
    packages = {"version": "mace-torch"}
    if isinstance(section, MaceMpReference) and section.dispersion:
        packages["dispersion_version"] = "torch-dftd"
    return {key: version_of(name) for key, name in packages.items()}


def _make(section: MaceReference, directory: Path) -> Reference:
    from aimspax_core.reference.mace.engine import MaceTeacher

    return MaceTeacher(section, directory)


def _make_mp(section: MaceMpReference, directory: Path) -> Reference:
    from aimspax_core.reference.mace.engine import FoundationTeacher

    return FoundationTeacher(section, directory)


MACE = Kind(
    section=MaceReference,
    make=_make,
    check=_check,
    check_structure=_check_structure,
    frozen=_frozen,
)
MACE_MP = Kind(
    section=MaceMpReference,
    make=_make_mp,
    check=_check,
    check_structure=_check_structure,
    frozen=_frozen,
)
