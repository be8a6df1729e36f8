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
from aimspax_core.model.family import family_of
from aimspax_core.run_directory import RunDir
from aimspax_core.safe_files import replacing, write_text
from aimspax_core.settings.settings import Settings

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
        ModelError: The family cannot write a format.
    """
    models = sorted(run.results.glob("*.model"))
    if not models:
        raise CampaignError(f"{run.results}: no models to export; a campaign's end writes them")
    family = family_of(settings.model)
    if lammps and family.lammps is None:
        raise ModelError(f"{settings.model.family.name} models cannot be written for LAMMPS")
    folder.mkdir(parents=True, exist_ok=True)
    for model in models:
        with replacing(folder / model.name) as aside:
            shutil.copyfile(model, aside)
        yield folder / model.name
        for form in lammps:
            assert family.lammps is not None, "refused above"
            yield family.lammps(model, folder, form)
    with replacing(folder / START) as aside:
        ase.io.write(aside, geometries[0], format="extxyz")
    yield folder / START
    names = [model.stem for model in models]
    files = ", ".join(f'"{model.name}"' for model in models)
    device = "cuda" if settings.model.MISC.device.startswith("cuda") else "cpu"
    for script, text in family.scripts.items():
        filled = Template(text).substitute(
            models=files, first=models[0].name, device=device, start=START, kelvin=_kelvin(settings)
        )
        write_text(folder / script, filled)
        yield folder / script
    write_text(folder / CARD, model_card(run, settings, geometries, names))
    yield folder / CARD


def _kelvin(settings: Settings) -> str:
    return f"{settings.md(0).temperature:g}"
