"""Model files of a user's whose family tells its elements only when it is loaded."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

from aimspax_core.errors import ModelError
from aimspax_core.model.family import family
from aimspax_core.settings.families.row import FamilyRow
from aimspax_core.structures import symbols_text


def wrong_with_file(row: FamilyRow, file: Path, needed: Collection[int]) -> str | None:
    """Say in a sentence why a model file cannot serve as a foundation model; None if it can.

    Args:
        row: The family that its model has to be of.
        file: The file, which is there.
        needed: Atomic numbers of the elements that it has to know.

    Returns:
        None also where nobody can say: the family need not load its files to tell their elements
        (see `FamilyRow.elements_missing`), or cannot be loaded on this machine.
    """
    if not row.elements_by_loading or row.why_not_installed() is not None:
        return None
    status = file.stat()
    try:
        known = _known(row.name, file, status.st_mtime_ns, status.st_size)
    except ModelError as error:
        return str(error)
    unknown = set(needed) - known
    if not unknown:
        return None
    return f"{file.name} does not know {symbols_text(unknown)}; it knows {symbols_text(known)}"


@lru_cache(maxsize=8)
def _known(name: str, file: Path, *version: int) -> frozenset[int]:
    found = family(name)
    return frozenset(found.evaluator([found.load(file)]).elements)
