"""ASE's databases: their pairs of key and value are of the structure, and `ase.io` leaves them."""

from __future__ import annotations

from pathlib import Path

import ase.db
from ase import Atoms

from aimspax_core.settings.geometries.own_electrons import NAMES, SAID_OF_ALL


def read_database(path: Path, which: slice) -> list[Atoms]:
    """Read rows of a database in a file.

    Args:
        path: The file, of SQLite or JSON.
        which: The rows that are wanted, by place.

    Returns:
        The structures, with pairs of key and value in `info`.
    """
    with ase.db.connect(str(path), serial=True) as database:
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
