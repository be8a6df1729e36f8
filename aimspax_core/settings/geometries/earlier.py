"""Geometry files as releases until 0.1 have read them, for campaigns that were begun with those."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import ase.io
from ase import Atoms

from aimspax_core.errors import StructureError
from aimspax_core.settings.geometries.files import read_file
from aimspax_core.structures import decode, encode


def structures_as_begun(
    files: Sequence[Path], begun_without: frozenset[int], names: Mapping[str, str]
) -> list[Atoms]:
    """Return the structures of geometry files; see `files.read_files`.

    Args:
        files: The files.
        begun_without: Places of those of which the campaign was begun with less than they say.
        names: What datasets call `charge` and `spin`.

    Raises:
        StructureError: See `files.read_files`.
    """
    found, wrong = [], []
    for place, file in enumerate(files):
        try:
            read = read_file(file, names)
            found.append(read.before if place in begun_without else read.atoms)
        except StructureError as error:
            before = read_as_before(file) if place in begun_without else None
            if before is None:
                wrong.append(str(error))
            else:
                found.append(before)
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
