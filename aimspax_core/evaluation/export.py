"""Models of a finished campaign with what people run MD with: LAMMPS files, scripts, a card."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import Template

import ase.io
from ase import Atoms

from aimspax_core.errors import CampaignError, ModelError
from aimspax_core.evaluation.model_card import CARD, model_card
from aimspax_core.evaluation.whose import files_of
from aimspax_core.model.family import family_of
from aimspax_core.run_directory import RunDir
from aimspax_core.safe_files import replacing, write_text
from aimspax_core.settings.settings import Settings

ENSEMBLE = "ensemble"
"""Folder of the models whose spread is the uncertainty, where they are not those that drive MD."""

START = "start.xyz"
"""The first start geometry, beside the scripts that begin with it."""


def export(
    run: RunDir,
    settings: Settings,
    geometries: Sequence[Atoms],
    folder: Path,
    lammps: Sequence[str],
) -> Iterator[Path]:
    """Write a folder that needs nothing beside it; yield each file once it is there.

    Args:
        run: The run directory.
        settings: The settings in force.
        geometries: The start geometries.
        folder: Where to write; files of an earlier export are replaced.
        lammps: Formats of models for LAMMPS, by the family's names.

    Raises:
        CampaignError: The campaign has no results yet.
        ModelError: The family cannot write a format, or results are not complete.
    """
    if next(run.results.glob("*.model"), None) is None:
        raise CampaignError(f"{run.results}: no models to export; a campaign's end writes them")
    family = family_of(settings.model)
    if lammps and family.lammps is None:
        raise ModelError(f"{settings.model.family.name} models cannot be written for LAMMPS")
    files = files_of(run.results)
    models, ensemble = list(files.averaged.values()), list(files.ensemble.values())
    for model in models:
        yield _copied(model, folder)
        for form in lammps:
            assert family.lammps is not None, "refused above"
            yield family.lammps(model, folder, form)
    with replacing(folder / START) as aside:
        ase.io.write(aside, geometries[0], format="extxyz")
    yield folder / START
    apart = ensemble != models
    if apart:
        for model in ensemble:
            yield _copied(model, folder / ENSEMBLE)
    spread = [f"{ENSEMBLE}/{one.name}" for one in ensemble] if apart else [m.name for m in models]
    device = "cuda" if settings.model.MISC.device.startswith("cuda") else "cpu"
    for script, text in family.scripts.items():
        filled = Template(text).substitute(
            models=_quoted([model.name for model in models]),
            ensemble=_quoted(spread),
            first=models[0].name,
            device=device,
            start=START,
            kelvin=_kelvin(settings),
        )
        write_text(folder / script, filled)
        yield folder / script
    write_text(folder / CARD, model_card(run, settings, geometries, list(files.averaged)))
    yield folder / CARD


def _copied(model: Path, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / model.name) as aside:
        shutil.copyfile(model, aside)
    return folder / model.name


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _kelvin(settings: Settings) -> str:
    return f"{settings.md(0).temperature:g}"
