"""Labels by which delivered models are calibrated: as independent of them as there are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ase import Atoms

from aimspax_core.campaign.final_sets import Unseen
from aimspax_core.evaluation.delivered import FEWEST, Point
from aimspax_core.labels.dataset import DataKeys, read_labels
from aimspax_core.labels.store import LabelStore
from aimspax_core.settings.settings import Settings


@dataclass(frozen=True)
class Judges:
    """Structures with labels, by where they are from.

    Attributes:
        points: The structures hold what their geometry holds.
        sources: How many are of the held-out set, of those for analysis, and of validation sets.
    """

    points: list[Point]
    sources: dict[str, int]


def judges(settings: Settings, store: LabelStore, unseen: Unseen) -> Judges:
    """Return the labels by which models are calibrated that were trained on none of them.

    The held-out set and labels for analysis steered nothing. The best epochs were chosen by the
    validation sets, so that errors on them are too small: they count where there is nothing else.

    Raises:
        CampaignError: The held-out set cannot be read.
        DamagedError: A label is.
    """
    found = {
        "test_dataset": list(_held_out(settings)),
        "analysis": list(_stored(settings, store, unseen.analysis)),
        "validation": [],
    }
    if sum(map(len, found.values())) < FEWEST:
        found["validation"] = list(_stored(settings, store, unseen.validation))
    points = [point for each in found.values() for point in each]
    return Judges(points, {source: len(each) for source, each in found.items()})


def _held_out(settings: Settings) -> Iterator[Point]:
    by_index = isinstance(settings.misc.test_dataset, dict)
    geometries = len(settings.geometry_files)
    for index, file in settings.misc.test_files(settings.directory).items():
        whose = int(index) if by_index or geometries == 1 else None
        told = settings.electrons_of_set(index)
        for atoms, label in read_labels(file, DataKeys.of(settings.misc), told):
            yield _holding(settings, atoms, whose), label


def _stored(
    settings: Settings, store: LabelStore, keys: Mapping[str, int | None]
) -> Iterator[Point]:
    for key, geometry in keys.items():
        if (stored := store.get(key)) is not None:
            yield _holding(settings, stored.atoms, geometry), stored.label


def _holding(settings: Settings, atoms: Atoms, geometry: int | None) -> Atoms:
    """Return a structure with the constraints of its geometry; its own where nobody knows which."""
    if geometry is None or settings.al.uncertainty_of == "all":
        return atoms
    held = settings.held_atoms(geometry)
    if max((0, *held.fixed)) < len(atoms):
        atoms.set_constraint(held.constraints())
    return atoms
