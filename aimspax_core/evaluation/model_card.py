"""The card of exported models: what they were made from and how, and what to expect of them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ase import Atoms

from aimspax_core.campaign.state import CampaignState
from aimspax_core.evaluation.delivered import delivered
from aimspax_core.evaluation.finished import Finished
from aimspax_core.evaluation.whose import TABLE
from aimspax_core.run_directory import RunDir
from aimspax_core.safe_files import sha256
from aimspax_core.sampling.dynamics import describe
from aimspax_core.settings.geometries.held_atoms import held_text
from aimspax_core.settings.settings import Settings
from aimspax_core.structures import symbols_text
from aimspax_core.uncertainty.chosen import Chosen
from aimspax_core.uncertainty.measures import measure_of
from aimspax_core.versions import versions_here

CARD = "MODEL_CARD.md"

_MIT, _ASL = "MIT", "ASL (Academic Software License: no commercial use)"
LICENCES = {
    **dict.fromkeys(["small", "medium", "large"], _MIT),
    **dict.fromkeys(["small-0b", "medium-0b", "small-0b2", "medium-0b2", "large-0b2"], _MIT),
    **dict.fromkeys(["medium-0b3", "medium-mpa-0"], _MIT),
    **dict.fromkeys(["small-omat-0", "medium-omat-0"], _ASL),
    **dict.fromkeys(["mace-matpes-pbe-0", "mace-matpes-r2scan-0", "mh-0", "mh-1"], _ASL),
    "so3lr": _MIT,
}
"""Licences of foundation models: by the names that MACE knows, by its list of them (README); of the
one that comes with so3krates-torch, that of the package."""


def model_card(campaign: Finished, names: Sequence[str]) -> str:
    """Return the card as Markdown.

    Args:
        campaign: A finished campaign.
        names: The members whose models are exported.

    Raises:
        ModelError: Files of the results are damaged.
    """
    run, settings = campaign.run, campaign.settings
    parts = (
        _what(settings, campaign.geometries, names),
        ["## Where they begin", "", *_origin(settings, campaign.state)],
        ["## Data", "", *_data(campaign)],
        ["## Errors", "", *_errors(run.results / TABLE)],
        ["## Uncertainty", "", *_uncertainty(run.results)],
        ["## Settings", "", *_settings(run, settings)],
    )
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _what(settings: Settings, geometries: Sequence[Atoms], names: Sequence[str]) -> list[str]:
    elements = {int(z) for atoms in geometries for z in atoms.numbers}
    return [
        f"# {settings.model.GENERAL.name_exp}",
        "",
        f"{len(names)} {settings.model.family.name} model{'s' * (len(names) != 1)} "
        f"({', '.join(f'`{name}.model`' for name in names)}{_heads(settings)}) for "
        f"{symbols_text(elements)}, trained "
        f"by active learning with aimspax on {settings.reference.engine_text}. Energies are total "
        "energies of that method in eV, forces in eV/Å.",
        "",
        "They are for the structures and conditions below. Of other elements they know nothing; "
        "far from these structures their errors are larger than what stands here.",
        *_of_the_calculator(settings),
    ]


def _heads(settings: Settings) -> str:
    heads = settings.model.heads
    return f", with {heads} heads, whose spread is its uncertainty" if heads > 1 else ""


def _of_the_calculator(settings: Settings) -> list[str]:
    row = settings.model.family
    return ["", f"Of {row.name}'s own calculator: {row.calculator_note}"] * bool(
        row.calculator_note
    )


def _origin(settings: Settings, state: CampaignState) -> Iterator[str]:
    if state.adopted:
        yield (
            f"The campaign was begun from models that were given ({', '.join(state.members)}). "
            "Where those are from, and under which licence, is not known here; whatever holds for "
            "them holds for these models too."
        )
        return
    training = settings.model.TRAINING
    source = training.pretrained(settings.directory)
    if source is None:
        yield "All weights were random at first: no foundation model is part of these models."
        return
    name = training.pretrained_model or training.pretrained_weights
    yield f"Fine-tuned ({training.tuning_text}) from `{name}`."
    model = None if source.model is None else Path(source.model)
    for what, path in (("The model", model), ("Its weights", source.weights)):
        if path is not None and path.is_file():
            yield f"{what}: `{path.name}`, SHA-256 `{sha256(path)}`."
    licence = LICENCES.get(str(name))
    whose = "so3krates-torch's, which it comes with" if name == "so3lr" else "as MACE's authors say"
    yield (
        "Its licence holds for these models too: "
        + (f"{licence}, {whose}." if licence else "ask those it is from.")
    )


def _data(campaign: Finished) -> Iterator[str]:
    settings, adopted, geometries = campaign.settings, campaign.state.adopted, campaign.geometries
    formulas = ", ".join(dict.fromkeys(atoms.get_chemical_formula() for atoms in geometries))
    yield f"- Geometries: {formulas}."
    for index in range(len(geometries)):
        yield f"- MD of geometry {index}: {describe(settings.md_section(index))}."
        if held := settings.held_atoms(index):
            yield (
                f"- MD of geometry {index} went with {held_text(held)}: what moves these atoms so, "
                "the models have not seen."
            )
    if adopted:
        yield (
            f"- The members began with datasets that were given ({_given_sets(settings)}); by which"
            " method those were labelled is not known here."
        )
    labels = "The campaign's own labels" if adopted else "Labels"
    yield f"- {labels} by {settings.reference.engine_text}; all of them pass the gate (GATE)."
    yield "- Each model's own sets are `train_set_NAME.xyz` and `valid_set_NAME.xyz` in `results/`."


def _given_sets(settings: Settings) -> str:
    """Name the datasets that members began with."""
    found: list[Path] = []
    for given in (settings.al.initial_train_dataset, settings.al.initial_valid_dataset):
        found += [*given.values()] if isinstance(given, dict) else [given] if given else []
    final = settings.al.extend_existing_final_ds
    return ", ".join(f"`{name}`" for name in dict.fromkeys(path.name for path in found)) or (
        f"`data/{'final' if final else 'initial'}`"
    )


def _errors(table: Path) -> Iterator[str]:
    """Yield the table of errors; `test_` is the held-out set."""
    with table.open(encoding="utf-8", newline="") as file:
        heading, *rows = csv.reader(file)
    yield "Validation sets helped to choose the weights; columns `test_` are of a held-out set."
    yield ""
    yield f"| {' | '.join(heading)} |"
    yield f"|{' --- |' * len(heading)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    if not any(name.startswith("test_") for name in heading):
        yield ""
        yield "There was no held-out set (`MISC.test_dataset`)."


def _uncertainty(results: Path) -> Iterator[str]:
    measure = measure_of(Chosen.read(results).measure)
    known = delivered(results, "calculator")
    fit = None if known is None else known.by_measure.get(measure.name)
    if known is None or fit is None:
        yield "Their spread is not calibrated: there were fewer than five labels to do it by."
        return
    rank = "" if fit.spearman is None else f"; rank correlation of the two {fit.spearman:.2f}"
    yield (
        f"The true error of their mean ({measure.name}, {measure.unit}) is on average "
        f"{fit.factor:.2f} times the spread of the ensemble, by {fit.points} labels that none was "
        f"trained on{rank}."
    )
    each = ", ".join(f"{symbol} {factor:.2f}" for symbol, factor in known.by_element.items())
    yield f"Of the atoms of each element: {each}."


def _settings(run: RunDir, settings: Settings) -> Iterator[str]:
    recorded = _versions(run) or versions_here()
    yield "Made with " + ", ".join(f"{name} {version}" for name, version in recorded.items()) + "."
    yield ""
    yield "```yaml"
    for section in ("ARCHITECTURE", "TRAINING"):
        yield f"{section}:"
        content = getattr(settings.model, section).model_dump(mode="json")
        yield from (f"  {key}: {json.dumps(value)}" for key, value in content.items())
    yield "```"


def _versions(run: RunDir) -> dict[str, Any]:
    """Return the versions that the campaign was last run with; nothing if they cannot be read."""
    try:
        found = json.loads(run.settings.read_text(encoding="utf-8")).get("versions", {})
    except (OSError, ValueError, AttributeError):
        return {}
    return found if isinstance(found, dict) else {}
