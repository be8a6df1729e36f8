"""Geometry files as releases until 0.1 have read them, for campaigns that were begun with those."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

import ase.io
from ase import Atoms

from aimspax_core.errors import StructureError
from aimspax_core.settings.geometries.files import read_file
from aimspax_core.structures import decode, encode


class Earlier(StrEnum):
    """How an earlier release has read a geometry file."""

    LESS = "without the charge, spin or field that the file says"
    BY_ASE = "as ASE alone reads it"


def structures_as_begun(
    files: Sequence[Path], begun: Mapping[int, Earlier], names: Mapping[str, str]
) -> list[Atoms]:
    """Return the structures of geometry files; see `files.read_files`.

    Args:
        files: The files.
        begun: How those that the campaign was not begun with as they are read today were read, by
            place.
        names: What datasets call `charge` and `spin`.

    Raises:
        StructureError: See `files.read_files`.
    """
    found, wrong = [], []
    for place, file in enumerate(files):
        earlier = begun.get(place)
        before = read_as_before(file) if earlier is Earlier.BY_ASE else None
        if before is not None:
            found.append(before)
            continue
        try:
            read = read_file(file, names)
        except StructureError as error:
            wrong.append(str(error))
        else:
            found.append(read.before if earlier is Earlier.LESS else read.atoms)
    if wrong:
        raise StructureError("\n".join(wrong))
    return found


def read_as_before(path: Path) -> Atoms | None:
    """Return the last structure that ASE alone reads of a file; None if it reads none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on what the file's reader of today has said
            atoms = ase.io.read(path, index=-1)
            return decode(encode(atoms)) if isinstance(atoms, Atoms) and len(atoms) else None
    # ASE's readers raise whatever their parsing trips over; the error of today's reader is told.
    except Exception:
        return None
