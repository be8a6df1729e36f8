"""ASE's databases: their pairs of key and value are of the structure, and `ase.io` leaves them."""

from __future__ import annotations

import io
from pathlib import Path

import ase.db
from ase import Atoms

from aimspax_core.errors import StructureError
from aimspax_core.settings.geometries.formats import content_of, is_compressed
from aimspax_core.settings.geometries.own_electrons import NAMES, SAID_OF_ALL


def read_database(path: Path, kind: str, which: slice) -> list[Atoms]:
    """Read rows of a database in a file.

    Args:
        path: The file; its name is a name, whatever it ends with.
        kind: The format as ASE calls it: `db` (SQLite) or `json`, which may be compressed.
        which: The rows that are wanted, by place.

    Returns:
        The structures, with pairs of key and value in `info`.

    Raises:
        StructureError: It is a compressed database of SQLite.
    """
    if kind == "db" and is_compressed(path):
        raise StructureError("a database of SQLite is not read compressed; unpack it")
    source = str(path) if kind == "db" else io.StringIO(content_of(path, "")[0])
    with ase.db.connect(source, type=kind, serial=True) as database:
        start, stop, step = which.indices(database.count())
        rows = list(database.select(offset=start, limit=stop - start)) if stop > start else []
    found = []
    for row in rows[::step]:
        atoms: Atoms = row.toatoms()
        pairs = {key: vars(row)[key] for key in row.key_value_pairs}  # row.charge is another thing
        atoms.info.update(pairs)
        if said := tuple({*pairs} & {*NAMES}):
            atoms.info[SAID_OF_ALL] = said
        found.append(atoms)
    return found
