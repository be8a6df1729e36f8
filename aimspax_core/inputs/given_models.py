"""Members and datasets that are there before a campaign begins: what active learning can adopt."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from ase import Atoms

from aimspax_core.errors import CampaignError, SettingsError
from aimspax_core.inputs.model_elements import elements_missing
from aimspax_core.labels.dataset import DataKeys, read_labels
from aimspax_core.run_directory import RunDir
from aimspax_core.safe_files import sha256
from aimspax_core.settings.fine_tuning import Pretrained
from aimspax_core.settings.settings import Settings

_MIN_MEMBERS = 2


@dataclass(frozen=True)
class GivenModels:
    """The files of an ensemble and its datasets, each by the member's tag.

    Attributes:
        models: The `.model` files; a member's tag is its file's stem.
        training: Training sets (extended XYZ).
        validation: Validation sets (extended XYZ).
    """

    models: dict[str, Path]
    training: dict[str, Path]
    validation: dict[str, Path]


def find_given_models(settings: Settings, run: RunDir) -> GivenModels:
    """Find the models in `model_dir`, and their datasets.

    These are `initial_train_dataset` and `initial_valid_dataset`, or else what lies in
    `data/initial` (`data/final` with `extend_existing_final_ds`) under the original's names.

    Raises:
        SettingsError: Something is missing; the text has a line for each mistake.
    """
    models = {path.stem: path for path in sorted(run.models.glob("*.model"))}
    heads = settings.model.heads
    if len(models) < (_MIN_MEMBERS if heads == 1 else 1):
        found = f"only {next(iter(models.values()))}" if models else "no *.model file"
        so3lr = settings.model.ARCHITECTURE.model_choice == "so3lr"
        alone = "; or one with several heads, and ARCHITECTURE.use_multihead_model: True"
        raise SettingsError(
            f"active learning needs an ensemble, and there is none yet: {found} in {run.models}\n"
            "`aimspax initial-dataset` makes one, `aimspax run` does all; or put trained models "
            "there, with their datasets (ACTIVE_LEARNING.initial_train_dataset)"
            f"{alone if so3lr else ''}"
        )
    training, wrong_training = _datasets(settings, run, tuple(models), "train")
    validation, wrong_validation = _datasets(settings, run, tuple(models), "valid")
    mistakes = [*_twins(models), *wrong_training, *wrong_validation]
    if heads > 1 and len(models) > 1:
        mistakes.append(
            f"{run.models}: found {len(models)} models ({_listed(models)}); allowed with "
            f"ARCHITECTURE.use_multihead_model: one, with {heads} heads"
        )
    given = settings.al.seeds_tags_dict
    if given is not None and set(given) != set(models):
        mistakes.append(
            f"ACTIVE_LEARNING.seeds_tags_dict: found {_listed(given)}; the models in {run.models} "
            f"are {_listed(models)}"
        )
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    return GivenModels(models, training, validation)


def require_fit(given: GivenModels, settings: Settings, geometries: Sequence[Atoms]) -> None:
    """Read the datasets that members begin from, and ask the models for their elements.

    Args:
        given: The models and their datasets.
        settings: The settings in force.
        geometries: The start geometries.

    Raises:
        SettingsError: A file cannot be read, holds nothing, or has no energies or forces; or it,
            or a geometry, has an element that a model does not know. The text has a line for each.
    """
    names, mistakes = DataKeys.of(settings.misc), []
    needed = {
        str(file): {*atoms.numbers.tolist()}
        for file, atoms in zip(settings.geometry_files, geometries, strict=True)
    }
    for file in sorted({*given.training.values(), *given.validation.values()}):
        try:
            labels = read_labels(file, names)
        except CampaignError as error:
            mistakes.append(str(error))
            continue
        if not labels:
            mistakes.append(f"{file}: holds no structures")
        needed[str(file)] = {z for atoms, _ in labels for z in atoms.numbers.tolist()}

    def missing(path: Path, elements: set[int]) -> str | None:
        unloaded = settings.model.family.elements_missing(path, elements)
        return unloaded or elements_missing(settings.model, Pretrained(str(path)), elements)

    for place, elements in needed.items():
        unknown = [text for path in given.models.values() if (text := missing(path, elements))]
        mistakes += [f"{place}: {text}" for text in unknown[:1]]
    if mistakes:
        raise SettingsError("\n".join(mistakes))


def _twins(models: dict[str, Path]) -> list[str]:
    """Return a mistake for each file that holds the model of another one.

    Two equal members always agree, so their spread says nothing.
    """
    first: dict[str, str] = {}
    mistakes = []
    for path in models.values():
        content = sha256(path)
        if content in first:
            same = f"{path} is the same model as {first[content]}"
            mistakes.append(f"{same}; their spread says nothing")
        first.setdefault(content, path.name)
    return mistakes


def seeds_of(tags: Iterable[str], settings: Settings, run: RunDir) -> dict[str, int]:
    """Return the members' seeds by tag.

    They are those of `seeds_tags_dict`, of the original's `data/seeds_tags_dict.npz`, or the
    number that a tag ends with; a tag without any gets its place in the list.
    """
    written = run.data / "seeds_tags_dict.npz"
    known: dict[str, int] = {}
    if settings.al.seeds_tags_dict is not None:
        known = settings.al.seeds_tags_dict
    elif written.exists():
        with np.load(written, allow_pickle=False) as arrays:
            known = {tag: int(seed) for tag, seed in arrays.items()}
    return {
        tag: known.get(tag, _ending_number(tag, otherwise=place)) for place, tag in enumerate(tags)
    }


def _ending_number(tag: str, otherwise: int) -> int:
    found = re.search(r"(\d+)$", tag)
    return int(found[1]) if found else otherwise


def _datasets(
    settings: Settings, run: RunDir, tags: tuple[str, ...], kind: Literal["train", "valid"]
) -> tuple[dict[str, Path], list[str]]:
    """Return each member's set of one kind, and what is wrong."""
    al = settings.al
    key = f"ACTIVE_LEARNING.initial_{kind}_dataset"
    given = al.initial_train_dataset if kind == "train" else al.initial_valid_dataset
    other = al.initial_valid_dataset if kind == "train" else al.initial_train_dataset
    if given is None and other is not None:
        return {}, [f"{key}: missing; both sets must be given, or neither"]
    if isinstance(given, dict):
        if set(given) != set(tags):
            found, models = f"found sets of {_listed(given)}", f"the models in {run.models}"
            return {}, [f"{key}: {found}; {models} are {_listed(tags)}"]
        return {tag: settings.directory / given[tag] for tag in tags}, []
    if given is not None:
        return dict.fromkeys(tags, settings.directory / given), []
    phase = "final" if al.extend_existing_final_ds else "initial"
    folder = run.data / phase / ("training" if kind == "train" else "validation")
    name = f"{'initial_' if phase == 'initial' else ''}{kind}_set_{{}}.xyz"
    files = {tag: folder / name.format(tag) for tag in tags}
    missing = ", ".join(path.name for path in files.values() if not path.is_file())
    wrong = [f"{folder}: {missing} not found; {key} may name another file"] if missing else []
    return files, wrong


def _listed(tags: Iterable[str]) -> str:
    return ", ".join(sorted(tags))
