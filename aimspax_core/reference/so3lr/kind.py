"""The kind `so3lr` of reference engine: SO3LR in place of DFT."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimspax_core.devices import missing_gpu
from aimspax_core.reference.interface import Finding, Kind, Reference, Use
from aimspax_core.reference.so3lr.section import So3lrReference
from aimspax_core.settings.families.known_families import row_of_foundation
from aimspax_core.versions import version_of

if TYPE_CHECKING:
    from ase import Atoms

PACKAGE = "so3krates-torch"
_ROW = row_of_foundation("so3lr")


def _check(section: So3lrReference, use: Use) -> Iterator[Finding]:
    """Package, GPU and a readable file must be there; jobs of a cluster have theirs."""
    if use.here and (why := _ROW.why_not_installed()) is not None:
        yield Finding("engine", why)
    if use.here and (missing := missing_gpu(section.device)) is not None:
        yield Finding("device", missing)
    if wrong := _wrong_with_file(section, use, ()):
        yield Finding("model_path", wrong)


def _check_structure(section: So3lrReference, use: Use, atoms: Atoms) -> Iterator[Finding]:
    """The model knows some elements only."""
    needed = set(atoms.numbers.tolist())
    if section.model_path is None:
        if missing := _ROW.elements_missing(None, needed):
            yield Finding("engine", missing)
    elif wrong := _wrong_with_file(section, use, needed):
        yield Finding("model_path", wrong)


def _wrong_with_file(section: So3lrReference, use: Use, needed: Collection[int]) -> str | None:
    """Say what is wrong with a file of the user's, which has to be loaded to tell its elements."""
    if section.model_path is None or not use.here:
        return None
    from aimspax_core.model.elements_of_files import wrong_with_file  # takes torch

    return wrong_with_file(_ROW, use.directory / section.model_path, needed)


def _frozen(
    section: So3lrReference, directory: Path, elements: frozenset[str]
) -> Mapping[str, Any]:
    """Keys and the file's content say all else; to make the engine would import torch."""
    return {"version": version_of(PACKAGE)}


def _make(section: So3lrReference, directory: Path) -> Reference:
    from aimspax_core.reference.so3lr.engine import So3lrTeacher

    return So3lrTeacher(section, directory)


SO3LR = Kind(
    section=So3lrReference,
    make=_make,
    check=_check,
    check_structure=_check_structure,
    frozen=_frozen,
)
