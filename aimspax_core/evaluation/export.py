"""Models of a finished campaign with what people run MD with: LAMMPS files, scripts, a card."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import Template

import ase.io

from aimspax_core.errors import CampaignError, ModelError
from aimspax_core.evaluation.finished import Finished
from aimspax_core.evaluation.model_card import CARD, model_card
from aimspax_core.evaluation.whose import files_of
from aimspax_core.model.family import family_of
from aimspax_core.safe_files import replacing, write_text
from aimspax_core.settings.settings import Settings

ENSEMBLE = "ensemble"
"""Folder of the models whose spread is the uncertainty, where they are not those that drive MD."""

START = "start.xyz"
"""The first start geometry, beside the scripts that begin with it."""


def export(campaign: Finished, folder: Path, lammps: Sequence[str] | None = None) -> Iterator[Path]:
    """Write a folder that needs nothing beside it; yield each file once it is there.

    Args:
        campaign: A finished campaign.
        folder: Where to write; what an earlier export wrote there is replaced.
        lammps: Formats of models for LAMMPS, by the family's names; None: `mliap`, if the models
            can be written for LAMMPS.

    Raises:
        CampaignError: The campaign has no results yet, or the folder has models that no export
            has written.
        ModelError: The family cannot write a format, or results are not complete.
    """
    run, settings = campaign.run, campaign.settings
    if next(run.results.glob("*.model"), None) is None:
        raise CampaignError(f"{run.results}: no models to export; a campaign's end writes them")
    family = family_of(settings.model)
    why_not = _not_for_lammps(campaign)
    if lammps and why_not:
        raise ModelError(
            f"{settings.model.family.name} models cannot be written for LAMMPS{why_not}"
        )
    formats = lammps if lammps is not None else () if why_not else ("mliap",)
    files = files_of(run.results)
    models, ensemble = list(files.averaged.values()), list(files.ensemble.values())
    _begin(campaign, folder, list(files.averaged))
    for model in models:
        yield _copied(model, folder)
        for form in formats:
            assert family.lammps is not None, "refused above"
            yield family.lammps(model, folder, form)
    yield _start(campaign, folder)
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
    yield folder / CARD


def _not_for_lammps(campaign: Finished) -> str | None:
    """Say why models cannot be written for LAMMPS, as the end of a sentence; None if they can."""
    model = campaign.settings.model
    row = model.family
    if family_of(model).lammps is None:
        return ": the package has no way"
    if model.heads > 1:
        return f": the package has no way for those with several heads, and they have {model.heads}"
    for atoms in campaign.geometries if row.reads_electrons else ():
        charge, spin = atoms.info.get("charge", 0), atoms.info.get("spin", 1)
        if (charge, spin) != (0, 1):
            return (
                f": they take every structure for neutral and without unpaired electrons there, "
                f"and {atoms.get_chemical_formula()} has charge={charge:g} spin={spin:g}"
            )
    return None


def _begin(campaign: Finished, folder: Path, names: Sequence[str]) -> None:
    """Write the card, by which an export is known, and remove the models of an earlier one.

    Raises:
        CampaignError: There are models, and no card.
    """
    card = model_card(campaign, names)
    earlier = [*folder.glob("*.model"), *(folder / ENSEMBLE).glob("*.model")]
    if earlier and not (folder / CARD).is_file():
        raise CampaignError(
            f"{folder}: found models that no export has written, such as {earlier[0].name}; "
            "allowed: a folder of its own"
        )
    write_text(folder / CARD, card)
    for path in (*earlier, *folder.glob("*.model-*.pt")):
        path.unlink()


def _start(campaign: Finished, folder: Path) -> Path:
    """Write the first geometry; what MD holds of it along the axes is its `move_mask`."""
    atoms = campaign.geometries[0].copy()
    atoms.set_constraint(campaign.settings.held_atoms(0).constraints())
    with replacing(folder / START) as aside:
        ase.io.write(aside, atoms, format="extxyz")
    return folder / START


def _copied(model: Path, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / model.name) as aside:
        shutil.copyfile(model, aside)
    return folder / model.name


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _kelvin(settings: Settings) -> str:
    return f"{settings.md(0).temperature:g}"
