"""Foundation models that drive MD: whether they can run here, and know the elements."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ase import Atoms

from aimspax_core.settings.engines import FoundationalModel
from aimspax_core.settings.families.known_families import row_of_foundation
from aimspax_core.settings.families.row import FamilyRow
from aimspax_core.settings.settings import Settings

_IDG, _AL = "INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"
_KIND, _SETTINGS = "foundational_model", "foundational_model_settings"
_MODEL = {"mace-mp": "mace_model", "so3lr": "model_path"}


class Driver(NamedTuple):
    """A foundation model that drives MD: the section and the key that name it, and which it is."""

    section: str
    key: str
    kind: str
    model: FoundationalModel


def foundation_mistakes(settings: Settings, geometries: list[Atoms]) -> Iterator[tuple[str, str]]:
    """Yield the key and what is wrong: a package that is missing, elements that are not known.

    A model that is named, and that nobody has fetched to this machine yet, is asked when it is
    loaded.
    """
    needed = {int(z) for atoms in geometries for z in atoms.numbers}
    here = settings.cluster.ml_jobs is None
    for driver in drivers(settings):
        row = row_of_foundation(driver.kind)
        if here and (why := row.why_not_installed()):
            yield f"{driver.section}.{_KIND}", f"{driver.kind}: {why}"
        file = driver.model.file(driver.kind, settings.directory)
        if missing := row.elements_missing(file, needed):
            yield f"{driver.section}.{driver.key}", missing
        elif here and file is not None and file.is_file() and (wrong := _wrong(row, file, needed)):
            yield f"{driver.section}.{driver.key}", wrong
        if driver.kind != "mace-mp" and driver.model.dispersion:
            yield (
                f"{driver.section}.{_SETTINGS}.dispersion",
                f"found True; {driver.kind} has a dispersion of its own",
            )


def _wrong(row: FamilyRow, file: Path, needed: set[int]) -> str | None:
    """Say what is wrong with a file that has to be loaded to tell its elements."""
    if not row.elements_by_loading:
        return None
    from aimspax_core.model.elements_of_files import wrong_with_file  # takes torch

    return wrong_with_file(row, file, needed)


def drivers(settings: Settings) -> Iterator[Driver]:
    """Yield each foundation model that drives MD."""
    idg, al = settings.idg, settings.al
    if settings.has_initial and idg.initial_sampling == "foundational":
        kind, plain = idg.foundational_model, idg.foundational_model_settings is None
        key = _KIND if kind != "mace-mp" else "initial_foundational_size"
        yield Driver(_IDG, key if plain else _key(kind, idg.foundation), kind, idg.foundation)
    if settings.project.ACTIVE_LEARNING is not None and al.use_foundational:
        kind, model = al.foundational_model, al.foundational_model_settings
        yield Driver(_AL, _key(kind, model), kind, model)


def _key(kind: str, model: FoundationalModel) -> str:
    """Return the key that names the model of a kind."""
    named = kind == "mace-mp" or model.model_path is not None
    return f"{_SETTINGS}.{_MODEL[kind]}" if named else _KIND
