"""A row of the table of model families: all of a family that needs neither torch nor a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Protocol

from ase.data import atomic_numbers, chemical_symbols
from pydantic import BeforeValidator, Field

from aimspax_core.settings.reading.mistakes import (
    Mistake,
    MistakeKind,
    mistaken,
    value_text,
    wrong_value,
)
from aimspax_core.settings.values import Section

_ENERGIES = "an energy (eV) for each element, such as {H: -13.6, C: -1029.5}"


def _by_number(value: Any) -> Any:
    """Read energies by chemical symbol or atomic number as energies by atomic number."""
    if not isinstance(value, dict):
        return value
    energies: dict[int, Any] = {}
    for key, energy in value.items():
        number: Any = atomic_numbers.get(str(key), key)
        if isinstance(number, str) and number.isascii() and number.isdecimal():
            number = int(number)
        if number not in range(1, len(chemical_symbols)):
            raise wrong_value(_ENERGIES, found=f"{key}, which is no element")
        if number in energies:
            raise mistaken(Mistake(MistakeKind.TWICE, f"{chemical_symbols[number]} twice"))
        if type(energy) not in (int, float) or not math.isfinite(energy):
            raise wrong_value(_ENERGIES, found=f"{value_text(energy)} for {key}")
        energies[number] = energy
    return energies


class Architecture(Section):
    """ARCHITECTURE: what every family has in this section.

    A family's own section adds its keys and `model_choice: Literal["its name"]`, made with
    `model_choice("its name")`.
    """

    model_choice: str
    atomic_energies: Annotated[dict[int, float] | None, BeforeValidator(_by_number)] = Field(
        None,
        description="Energy (eV) of each element's isolated atom, by symbol or atomic number; "
        "none: least squares over the training set, renewed as it grows. A bare list, as the "
        "original's README has it, is refused: it does not say whose energy is whose.",
        json_schema_extra={"allowed": _ENERGIES},
    )


class ModelSections(Protocol):
    """The sections of the models' settings file: `settings.model.ModelSettings`, before it is made.

    Its fields are not typed further: a family's file may not import what is made of all families.
    """

    @property
    def GENERAL(self) -> Any:
        """What belongs to the whole campaign."""

    @property
    def ARCHITECTURE(self) -> Any:
        """The family's own section."""

    @property
    def TRAINING(self) -> Any:
        """Losses, optimizer, batches."""

    @property
    def MISC(self) -> Any:
        """Device, kernels, logs."""

    @property
    def beside(self) -> tuple[str, ...]:
        """What labels need beside energy, forces and stress, by its names in `Label`."""


def model_choice(name: str) -> Any:
    """Return the field `model_choice` of a family's section.

    `ModelSettings` reads it in any case, before pydantic chooses the section by it.
    """
    return Field(
        name,
        description="Kind of model; here or in GENERAL.",
        json_schema_extra={"any_case": []},
    )


def _no_mistakes(settings: ModelSections, elements: Sequence[int], here: bool) -> Iterator[str]:
    """Find nothing."""
    yield from ()


def _no_notes(settings: ModelSections) -> Iterator[str]:
    """Have nothing to say."""
    yield from ()


def _one_head(settings: ModelSections) -> int:
    """Have one."""
    return 1


def _installed() -> str | None:
    """Need nothing beyond what aimspax itself needs."""
    return None


def _elements_unread(path: Path | None, needed: Collection[int]) -> str | None:
    """Leave it to who loads the model."""
    return None


@dataclass(frozen=True)
class Example:
    """What `aimspax init` writes for a family, beside what it writes for all.

    Attributes:
        architecture: Keys of ARCHITECTURE: a network that a few labels and a CPU can train.
        training: Keys of TRAINING.
        fine_tuning: Keys of TRAINING for members that begin from a trained model.
        quick_architecture: What else of ARCHITECTURE, for a first result in minutes.
        quick_training: What else of TRAINING then, unless members begin from a trained model.
        called: The family's name in a sentence; not given: `FamilyRow.name`.
        names: Whose the names and meanings of the keys are.
        larger: Keys of ARCHITECTURE, with values, for those who have a GPU.
    """

    architecture: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    fine_tuning: Mapping[str, Any] = field(default_factory=dict)
    quick_architecture: Mapping[str, Any] = field(default_factory=dict)
    quick_training: Mapping[str, Any] = field(default_factory=dict)
    called: str = ""
    names: str = ""
    larger: str = ""


@dataclass(frozen=True)
class FamilyRow:
    """One family of models, as settings and checks know it.

    Attributes:
        name: What `model_choice` says, in small letters.
        architecture: Its section ARCHITECTURE.
        implementation: Where its `aimspax_core.model.family.Family` is: `module:name`. Imported
            when a model is needed, since that takes torch.
        losses: The names that `TRAINING.loss` may have.
        stress_losses: Those of them that train on stress or virials.
        trains: What losses train on beside energy, forces and stress, by the loss's name; by its
            names in `Label`.
        mistakes: Yields what is wrong with the settings and can be known before anything is
            launched, as `SECTION.key: text`. Given: the settings, the atomic numbers of all
            geometries, and whether the models run on this machine (else in batch jobs).
        notes: Yields what the log of a run should say of how these models are computed, as
            `SECTION.key: text`.
        frozen: Keys that may not change while a campaign goes on (pattern, reason); all of
            ARCHITECTURE may not anyhow.
        foundations: The values of `foundational_model` whose models this family loads.
        pretrained_keys: Keys of ARCHITECTURE that a pretrained model decides; none: models of this
            family cannot be fine-tuned.
        elements_missing: Says in a sentence which of some elements (by atomic number) the model of
            a file, or of a name in the place of a file, does not know, without torch; without
            either, the one that comes with the family's package. None if it knows all, or that
            cannot be read so, or the model is not on this machine.
        why_not_installed: Says in a sentence which package the family needs that is not installed
            here, and how it is installed; None if none is missing. Imports nothing.
        reads_electrons: Whether what a model predicts depends on the charge and multiplicity that a
            structure says of itself (`info["charge"]`, `info["spin"]`).
        calculator_note: What those should know who compute published models with the family's own
            calculator, in sentences.
        elements_by_loading: Whether a file's elements are found by loading its model, with torch.
        pretrained_names: Models that can be fine-tuned by a name.
        weights_alone: Whether members can begin from weights alone, in a network of ARCHITECTURE.
        tuning_lr: Learning rates of fine-tuning, by `finetuning_choice`, where `TRAINING.lr` is not
            given; else it is that of members that begin from nothing.
        example: What `aimspax init` writes.
        cites: What is to be cited for its models, by the keys of `references.toml`.
        foundation_cites: Likewise for its foundation models, beside those.
        told_keys: Keys of ARCHITECTURE that a paper tells of its models.
        heads: How many heads a network of some settings has, whose spread is the uncertainty. One
            with several takes the place of an ensemble.
    """

    name: str
    architecture: type[Architecture]
    implementation: str
    losses: tuple[str, ...]
    stress_losses: tuple[str, ...] = ()
    trains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    mistakes: Callable[[ModelSections, Sequence[int], bool], Iterator[str]] = _no_mistakes
    notes: Callable[[ModelSections], Iterator[str]] = _no_notes
    frozen: tuple[tuple[str, str], ...] = ()
    foundations: tuple[str, ...] = ()
    pretrained_keys: tuple[str, ...] = ()
    elements_missing: Callable[[Path | None, Collection[int]], str | None] = _elements_unread
    why_not_installed: Callable[[], str | None] = _installed
    reads_electrons: bool = False
    calculator_note: str = ""
    pretrained_names: tuple[str, ...] = ()
    weights_alone: bool = False
    tuning_lr: Mapping[str, float] = field(default_factory=dict)
    elements_by_loading: bool = False
    example: Example = Example()
    cites: tuple[str, ...] = ()
    foundation_cites: tuple[str, ...] = ()
    told_keys: tuple[str, ...] = ()
    heads: Callable[[ModelSections], int] = _one_head
