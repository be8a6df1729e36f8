"""A model that members are fine-tuned from: the campaign's ARCHITECTURE is that of the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ase import Atoms

from aimspax_core.campaign.state import CampaignState
from aimspax_core.errors import ModelError, SettingsError, WeightsError
from aimspax_core.inputs.begun_choices import unless_named
from aimspax_core.inputs.model_elements import elements_missing, notes_on_elements
from aimspax_core.settings.families.known_families import FAMILIES
from aimspax_core.settings.fine_tuning import Pretrained
from aimspax_core.settings.model import Training
from aimspax_core.settings.reading.mistakes import value_text
from aimspax_core.settings.settings import Settings

_MODEL, _WEIGHTS = "TRAINING.pretrained_model", "TRAINING.pretrained_weights"


def _key(source: Pretrained) -> str:
    """Return the key that names what members begin from."""
    given = source.model is not None or source.weights is None
    return _MODEL if given else _WEIGHTS


def with_its_architecture(settings: Settings, state: CampaignState | None) -> Settings:
    """Return settings with the ARCHITECTURE of the model that members begin from, if they do.

    The model is read as a campaign begins, which takes torch; from then on the campaign's record
    has its ARCHITECTURE. Where nobody names a learning rate, it is the family's for fine-tuning.

    Raises:
        SettingsError: The model cannot be used, or keys of ARCHITECTURE say otherwise; the text
            has a line for each.
    """
    training, section = settings.model.TRAINING, settings.model.ARCHITECTURE
    source, places = training.pretrained(settings.directory), settings.model_places
    if source is None:
        return settings
    if not settings.model.family.pretrained_keys:
        name = settings.model.family.name
        raise SettingsError(
            f"{places.of('TRAINING.perform_finetuning')}: found True, but {name} models cannot be "
            "fine-tuned; allowed: False"
        )
    if source.model is None and not settings.model.family.weights_alone:
        return settings  # its mistakes have it
    where = (
        "as the campaign was begun"
        if source.model is None
        else f"in {training.pretrained_model}, which members are fine-tuned from"
    )
    if state is not None:
        keys = dict(state.rules.architecture)
    else:
        if source.model is not None:
            _require_name(settings, source.model)
        from aimspax_core.model.family import family_of  # takes torch

        read = family_of(settings.model).architecture_of
        assert read is not None, f"the family {settings.model.family.name} has no such function"
        try:
            keys = read(source, settings.model)
        except ModelError as error:
            key = _WEIGHTS if isinstance(error, WeightsError) else _key(source)
            raise SettingsError(f"{places.of(key)}: {error}") from error
    wrong = [
        f"{places.of(f'ARCHITECTURE.{key}')}: found {value_text(getattr(section, key))}, but it is "
        f"{value_text(value)} {where}; allowed: {value_text(value)}, or no key"
        for key, value in keys.items()
        if key in section.model_fields_set and getattr(section, key) != value
    ]
    if wrong:
        raise SettingsError("\n".join(wrong))
    architecture = unless_named(section, keys)
    new = {"ARCHITECTURE": architecture, "TRAINING": _with_its_rate(settings, state)}
    return replace(settings, model=unless_named(settings.model, new, True))


def _with_its_rate(settings: Settings, state: CampaignState | None) -> Training:
    """Return TRAINING with the learning rate of fine-tuning, if the campaign begins with it."""
    training, rates = settings.model.TRAINING, settings.model.family.tuning_lr
    choice = "lora" if training.uses_lora else "naive"
    if choice not in rates or not (state is None or state.rules.tuning_lr):
        return training
    return unless_named(training, {"lr": rates[choice]})


def _require_name(settings: Settings, name: str) -> None:
    """Refuse a model that is no file, by a name that is not of the family.

    Raises:
        SettingsError: It is one; the text says of which family it is.
    """
    row = settings.model.family
    if Path(name).is_file() or name in row.pretrained_names or name.startswith("https:"):
        return
    owner = next((one.name for one in FAMILIES if name in one.pretrained_names), None)
    of = f", a model of `model_choice: {owner}`" if owner else ""
    named = f", or {', '.join(row.pretrained_names)}" if row.pretrained_names else ""
    raise SettingsError(
        f"{settings.model_places.of(_MODEL)}: found {value_text(name)}{of}; allowed with "
        f"`model_choice: {row.name}`: a model file{named}"
    )


def not_of_its_elements(settings: Settings, geometries: list[Atoms]) -> Iterator[str]:
    """Yield what is wrong if the file of the model does not know an element of a geometry."""
    source = settings.model.TRAINING.pretrained(settings.directory)
    if source is not None and source.model is not None:
        needed = {int(z) for atoms in geometries for z in atoms.numbers}
        if missing := settings.model.family.elements_missing(Path(source.model), needed):
            yield f"{settings.model_places.of(_MODEL)}: {missing}"


def not_of_its_loaded_elements(settings: Settings, geometries: list[Atoms]) -> Iterator[str]:
    """Yield the same of a model that tells its elements only when it is loaded."""
    source = settings.model.TRAINING.pretrained(settings.directory)
    if source is not None and not any(not_of_its_elements(settings, geometries)):
        needed = {int(z) for atoms in geometries for z in atoms.numbers}
        if missing := elements_missing(settings.model, source, needed):
            yield f"{settings.model_places.of(_key(source))}: {missing}"


def notes_on_fine_tuning(settings: Settings, begun: bool) -> Iterator[str]:
    """Yield what may not be meant: too much agreement of members, elements that nobody tells."""
    source = settings.model.TRAINING.pretrained(settings.directory)
    if source is not None and not begun:
        for note in notes_on_elements(settings.model, [source]):
            yield f"{settings.model_places.of(_key(source))}: {note}"
    alone = settings.model.heads > 1  # one member, whose heads differ by what trains them
    if source is not None and not alone and not settings.idg.distinct_model_sets:
        yield (
            f"{settings.project_places.file}: INITIAL_DATASET_GENERATION.distinct_model_sets is "
            "False, and all members begin from the same model: their spread is many times smaller "
            "than their error (docs/fine-tuning.md); usual: True"
        )


def refuse_beside_given_models(settings: Settings) -> None:
    """Refuse fine-tuning in a campaign that begins from members that are there.

    Raises:
        SettingsError: It is asked for.
    """
    if settings.model.TRAINING.perform_finetuning:
        raise SettingsError(
            f"{settings.model_places.of('TRAINING.perform_finetuning')}: found True, but the "
            "members are there already, and active learning begins from them; allowed: False"
        )
