"""Foundation models that drive MD: whether they know the elements of the start geometries."""

from __future__ import annotations

from collections.abc import Iterator

from ase import Atoms

from aimspax_core.settings.engines import FoundationalModel
from aimspax_core.settings.families.known_families import row_of_foundation
from aimspax_core.settings.settings import Settings

_IDG, _AL = "INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"
_SETTINGS = "foundational_model_settings"


def unknown_elements(settings: Settings, geometries: list[Atoms]) -> Iterator[tuple[str, str]]:
    """Yield the key and what is wrong, for each model that does not know an element.

    A model that is named, and that nobody has fetched to this machine yet, is asked when it is
    loaded.
    """
    needed = {int(z) for atoms in geometries for z in atoms.numbers}
    for key, kind, model in _drivers(settings):
        path = settings.directory / model.mace_model
        if missing := row_of_foundation(kind).elements_missing(path, needed):
            yield key, missing


def _drivers(settings: Settings) -> Iterator[tuple[str, str, FoundationalModel]]:
    """Yield the key, the kind and the settings of each foundation model that drives MD."""
    idg, al = settings.idg, settings.al
    if settings.has_initial and idg.initial_sampling == "foundational":
        plain = idg.foundational_model_settings is None
        key = "initial_foundational_size" if plain else f"{_SETTINGS}.mace_model"
        yield f"{_IDG}.{key}", idg.foundational_model, idg.foundation
    if settings.project.ACTIVE_LEARNING is not None and al.use_foundational:
        yield f"{_AL}.{_SETTINGS}.mace_model", al.foundational_model, al.foundational_model_settings
