"""Data that members are trained on beside their labels, held against the geometries."""

from __future__ import annotations

from collections.abc import Iterator

from ase import Atoms

from aimspax_core.errors import CampaignError
from aimspax_core.labels.dataset import DataKeys, read_labels
from aimspax_core.settings.settings import Settings
from aimspax_core.structures import symbols_text

_FILE = "TRAINING.pt_train_file"


def unfit_replay(settings: Settings, geometries: list[Atoms]) -> Iterator[str]:
    """Yield what is wrong with `TRAINING.pt_train_file`."""
    place = settings.model_places.of(_FILE)
    try:
        found = _frames(settings, geometries)
    except CampaignError as error:
        yield f"{place}: {error}"
        return
    if found is not None and not found[0]:
        yield (
            f"{place}: none of its {found[1]} frames is of {symbols_text(_elements(geometries))} "
            "alone, the elements of the geometries"
        )


def notes_on_replay(settings: Settings, geometries: list[Atoms], begun: bool) -> Iterator[str]:
    """Yield how much of the file is replayed, where that is not all of it."""
    found = None if begun else _frames(settings, geometries)
    if found is not None and found[0] < found[1]:
        yield (
            f"{settings.model_places.of(_FILE)}: {found[0]} of {found[1]} frames are of the "
            "geometries' elements; the others are left out"
        )


def _frames(settings: Settings, geometries: list[Atoms]) -> tuple[int, int] | None:
    """Return how many frames have the geometries' elements alone, and how many there are.

    Raises:
        CampaignError: The file cannot be read, or a frame has no energy or forces.
    """
    training = settings.model.TRAINING
    if not training.replays or training.pt_train_file is None:
        return None
    frames = read_labels(settings.directory / training.pt_train_file, DataKeys.of(settings.misc))
    known = _elements(geometries)
    fit = [atoms for atoms, _ in frames if known.issuperset(atoms.numbers.tolist())]
    return len(fit), len(frames)


def _elements(geometries: list[Atoms]) -> set[int]:
    return {int(z) for atoms in geometries for z in atoms.numbers}
