"""The held-out set, read and found fit to assess models by."""

from __future__ import annotations

from collections.abc import Iterator

from ase import Atoms

from aimspax_core.errors import CampaignError
from aimspax_core.labels.dataset import DataKeys, read_labels
from aimspax_core.settings.settings import Settings
from aimspax_core.structures import symbols_text


def unfit_held_out(settings: Settings, geometries: list[Atoms]) -> Iterator[str]:
    """Yield what is wrong with the files of `MISC.test_dataset`."""
    named, names = settings.misc.test_dataset, DataKeys.of(settings.misc)
    known = {int(z) for atoms in geometries for z in atoms.numbers}
    for index, file in settings.misc.test_files(settings.directory).items():
        place = "aimsPAX.yaml  MISC.test_dataset" + (f".{index}" if isinstance(named, dict) else "")
        if int(index) >= len(geometries):
            yield f"{place}: there are {len(geometries)} geometries; allowed: their index, from 0"
        try:
            frames = read_labels(file, names)
        except CampaignError as error:
            yield f"{place}: {error}"
            continue
        strange = {int(z) for atoms, _ in frames for z in atoms.numbers} - known
        if strange and settings.has_initial:  # given models may know more
            yield (
                f"{place}: {file} has {symbols_text(strange)}, which no geometry has; allowed: "
                f"{symbols_text(known)}"
            )
        if not frames:
            yield f"{place}: {file} holds no structures"
