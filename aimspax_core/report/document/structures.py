"""Structures to look at: where it began, where the committee erred most, what has no label."""

from __future__ import annotations

from collections.abc import Iterator

from ase import Atoms

from aimspax_core.campaign.state import PointStatus
from aimspax_core.errors import LabelError
from aimspax_core.labels.store import LabelStore
from aimspax_core.labels.waiting import waiting_structure
from aimspax_core.report.document import contents
from aimspax_core.report.document.labels import label_content
from aimspax_core.report.document.source import Source
from aimspax_core.structures import decode

EACH = 6
"""Structures of each sort at most."""

ATOMS = 2000
"""Larger structures are not shown."""


def structures(source: Source) -> list[contents.Structure]:
    """Return the structures, each with its title."""
    found = [*_starts(source), *_worst(source), *_without_label(source)]
    return [_shown(title, atoms) for title, atoms in found if 0 < len(atoms) <= ATOMS]


def _starts(source: Source) -> Iterator[tuple[str, Atoms]]:
    for index, atoms in enumerate(source.geometries[:EACH]):
        yield f"Start geometry {index}: {atoms.get_chemical_formula()}", atoms


def _worst(source: Source) -> Iterator[tuple[str, Atoms]]:
    """Yield the labels at which the committee erred most before it had learnt them."""
    judged = [one for one in source.story.asked.values() if one.judged is not None]
    judged.sort(key=lambda one: -one.judged.error if one.judged is not None else 0.0)
    store, unit = LabelStore(source.run.labels), source.state.rules.uncertainty_unit
    for one in judged[:EACH]:
        content = label_content(store, one.key)
        if content is not None and one.judged is not None:
            error = f"{one.judged.error:.3g} {unit}"
            title = f"Label {one.key[:8]}: true error {error} before it was learnt"
            yield title, decode(content["structure"])


def _without_label(source: Source) -> Iterator[tuple[str, Atoms]]:
    points = [p for p in source.state.points.values() if p.status is PointStatus.FAILED]
    for point in points[: -EACH - 1 : -1]:
        try:
            atoms = waiting_structure(source.run.structure(point.key))
        except (LabelError, OSError):
            continue  # nothing to look at any more
        yield f"No label ({point.key[:8]}): {point.reason}", atoms


def _shown(title: str, atoms: Atoms) -> contents.Structure:
    cell = [tuple(vector) for vector in atoms.cell.array.tolist()] if atoms.pbc.any() else None
    return contents.Structure(
        title=title,
        symbols=atoms.get_chemical_symbols(),
        positions=[tuple(place) for place in atoms.positions.round(4).tolist()],
        cell=cell,
    )
