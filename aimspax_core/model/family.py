"""What a family of models is: the functions that members, committees and tasks are built on.

MACE is one family. A family has two parts: a row of `settings.families.known_families.FAMILIES`,
which needs no torch, and a `Family`, which the row names and which is imported when a model is
needed. `docs/extending/model-family.md` shows both.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray

from aimspax_core.errors import ModelError
from aimspax_core.model.committee import Evaluator
from aimspax_core.model.residuals import Residuals
from aimspax_core.model.steps import Settled, Steps
from aimspax_core.prediction import Prediction
from aimspax_core.settings.families.known_families import FAMILIES, row_of, row_of_foundation
from aimspax_core.settings.fine_tuning import Pretrained
from aimspax_core.settings.model import ModelSettings

Graph = Any
"""A structure as a family trains on it, with its labels; only the family looks inside."""


class Constants(Protocol):
    """The data-dependent constants of a model: a frozen dataclass of numbers, as the family likes.

    `dataclasses.asdict` of it is written to checkpoints, and `Family.constants` called with that.
    """

    @property
    def atomic_energies(self) -> dict[int, float]:
        """Energy (eV) of an atom of each element, by atomic number."""
        ...


class Driver(Protocol):
    """What can take the committee's place in molecular dynamics."""

    def evaluate(self, structures: Sequence[Atoms], stress: bool = False) -> list[Prediction]:
        """See `Committee.evaluate`."""
        ...


class Foundation(Protocol):
    """A foundation model: as one ASE calculator, and as a driver of many structures at once."""

    @property
    def calculator(self) -> Calculator:
        """With dispersion, if asked for."""
        ...

    @property
    def driver(self) -> Driver:
        """The same model, many structures at once."""
        ...


@dataclass(frozen=True)
class GivenModel:
    """Somebody's trained model, rebuilt as the settings build it.

    Attributes:
        model: With the file's weights.
        elements: Atomic numbers that it knows, sorted.
        constants: The file's constants.
    """

    model: torch.nn.Module
    elements: tuple[int, ...]
    constants: Any


class MakeGraphs(Protocol):
    """Turns structures into what a family trains on."""

    def __call__(
        self, structures: Sequence[Atoms], elements: Sequence[int], settings: ModelSettings
    ) -> list[Graph]:
        """Return a graph for each structure, in their order.

        Args:
            structures: Labels in `info["REF_energy"]` (eV), `arrays["REF_forces"]` (N × 3, eV/Å)
                and `info["REF_stress"]` (eV/Å³, Voigt or 3 × 3, ASE's sign), total charge in
                `info["charge"]` (e), multiplicity in `info["spin"]`; any may be missing.
            elements: Atomic numbers that the models know.
            settings: The user's.

        Raises:
            ModelError: A structure has an element that the models do not know.
        """
        ...


class ConstantsOf(Protocol):
    """Computes data-dependent constants."""

    def __call__(
        self,
        data: Sequence[Graph],
        elements: Sequence[int],
        settings: ModelSettings,
        atomic_energies: dict[int, float] | None = None,
    ) -> Any:
        """Return the constants that follow from a training set.

        Args:
            data: Graphs of the training set.
            elements: Atomic numbers that the models know.
            settings: `ARCHITECTURE.atomic_energies`, if given, are taken as they are.
            atomic_energies: Energies (eV) to take as they are, if the settings give none.

        Raises:
            ModelError: No graph is labelled, a label is not finite, or an element has no energy.
        """
        ...


class Build(Protocol):
    """Builds models."""

    def __call__(
        self, settings: ModelSettings, elements: Sequence[int], constants: Any, seed: int
    ) -> torch.nn.Module:
        """Return a new model in the number format of the settings.

        The same `seed` gives the same weights; torch's global random state is left as it was.

        Raises:
            ModelError: These settings cannot be built.
        """
        ...


class MakeEvaluator(Protocol):
    """Puts models side by side."""

    def __call__(
        self,
        models: Sequence[torch.nn.Module],
        device: str | torch.device = "cpu",
        dtype: str | None = None,
        kernel: str = "auto",
    ) -> Evaluator:
        """Return what evaluates the models; it takes them over.

        Args:
            models: Of one family.
            device: Where they are evaluated.
            dtype: Their number format; none: as they are.
            kernel: `MISC.kernel`; a family with one way of computing does not mind.

        Raises:
            ModelError: The models do not fit together, or need inputs beyond a structure.
        """
        ...


class Settle(Protocol):
    """Settles how the steps of a training are computed: the form changes at no other time."""

    def __call__(
        self, steps: Steps, model: torch.nn.Module, train: Sequence[Graph], ahead_s: float
    ) -> Settled:
        """Settle it until the next call.

        Args:
            steps: What `Family.steps` returned.
            model: What is trained.
            train: Training graphs.
            ahead_s: Seconds of training that the campaign can still need, all members together:
                what to compile for.
        """
        ...


def _no_shift(settings: ModelSettings) -> bool:
    """Return that models have no constant of their own beside the atoms' energies."""
    return False


def _copy(model: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of a model that can be copied as anything else."""
    return deepcopy(model).to("cpu")


def _itself(model: torch.nn.Module) -> torch.nn.Module:
    """Return the model."""
    return model


def _by_committee(settings: ModelSettings, file: str) -> tuple[str, ...]:
    """Return how a model of any family is loaded."""
    return (
        "from aimspax_core.evaluation.calculator import CommitteeCalculator",
        f'atoms.calc = CommitteeCalculator("{Path(file).parent}")',
    )


def _one_form(settings: ModelSettings) -> str:
    """Return the name of the only form that the weights of a family have."""
    return "plain"


def _uncompiled(
    steps: Steps, model: torch.nn.Module, train: Sequence[Graph], ahead_s: float
) -> Settled:
    """Compile nothing."""
    return Settled()


def _as_given(settings: ModelSettings, weights: Mapping[str, torch.Tensor]) -> ModelSettings:
    """Return the settings: they say all of a model's shape."""
    return settings


@dataclass(frozen=True)
class Family:
    """One family of models.

    Attributes:
        graphs: Structures with labels as graphs; see `MakeGraphs`.
        constants: Makes a `Constants` from its fields.
        constants_of: Computes it from a training set; see `ConstantsOf`.
        set_constants: `(model, constants, elements)`: renew the constants of a model in place; its
            weights stay.
        build: See `Build`.
        steps: How the family trains under these settings; see `aimspax_core.model.steps.Steps`.
        evaluator: See `MakeEvaluator`.
        copy_with: `(model, weights by name, settings)`: a copy on the CPU with other weights, in
            the form that is given to users.
        save: `(model, file)`: write such a model; the file appears complete or not at all.
        load: `(file)`: read such a file. Raises `ModelError` if it holds no model of the family.
        replay: The same of structures that a model was trained on before, and that are trained on
            beside the labels; see `replay`. None: its models cannot.
        copy: A copy of a model on the CPU, as it is; quicker than building one.
        fused: Returns a model as it is published, with what was trained beside its weights added to
            them; it takes the model over. By default the model itself.
        kernels: The name of the form in which the members' weights are held under these settings;
            a checkpoint of another form is refused.
        settle: See `Settle`; by default nothing is compiled.
        settings_of: `(settings, state dict)`: the settings of a model with these weights, where
            they tell what the settings leave open: members that began as given models may differ.
        given_model: `(file, settings, seed)`: somebody's trained model as a `GivenModel`. Raises
            `ModelError` if it is not what the settings say. None: campaigns cannot begin from
            models of this family.
        keeps_given_constants: Whether a given model keeps all of its constants when its training
            set grows, not only the energies of free atoms.
        pretrained: `(pretrained, settings, elements, seed)`: a model that is to be fine-tuned as a
            `GivenModel` that knows these elements alone. None: models of this family cannot be.
        architecture_of: `(pretrained, settings)`: the keys of ARCHITECTURE, by name, with which it
            is built. Both raise `ModelError` if it cannot be read, or members cannot be like it.
        elements_of: `(pretrained, settings)`: the atomic numbers that a model knows, or None if it
            does not tell. None: its file says them without torch; see `FamilyRow.elements_missing`.
        foundation: Loads a foundation model: `(device=…, dtype=…, …)` with what
            `FoundationalModel.arguments` returns. None: there is none.
        misses: `(steps, model, graphs, constants)`: what a model, with the weights that are in it
            and these constants, misses of the energies of labelled structures, as `Residuals`.
            None: its atoms have no energies of their own that could be solved for.
        has_shift: Whether models of these settings have `Constants.shift`, an energy (eV) that each
            atom has besides.
        invariants: `(model, structures)`: features of each atom (N, K) that no rotation changes, by
            which structures are near or far. None: there are none, and `novelty` does nothing.
        lammps: `(model file, folder, format)`: writes a model for LAMMPS, and returns its file;
            formats are `mliap` and `libtorch`. None: it cannot be.
        scripts: Scripts that run MD with published models, by the name of their file; see
            `aimspax_core.evaluation.export`.
        loaded_by: `(settings, file)`: the lines of Python by which a user makes a published model
            the calculator of ASE's `atoms`; they are in `results/README.txt`.
        beside: What models may predict beside energy, forces and stress, by its names in `Label`.
    """

    graphs: MakeGraphs
    constants: Callable[..., Any]
    constants_of: ConstantsOf
    set_constants: Callable[[torch.nn.Module, Any, Sequence[int]], None]
    build: Build
    steps: Callable[[ModelSettings], Steps]
    evaluator: MakeEvaluator
    copy_with: Callable[[torch.nn.Module, dict[str, torch.Tensor], ModelSettings], torch.nn.Module]
    save: Callable[[torch.nn.Module, Path], None]
    load: Callable[[Path], torch.nn.Module]
    replay: MakeGraphs | None = None
    copy: Callable[[torch.nn.Module], torch.nn.Module] = _copy
    fused: Callable[[torch.nn.Module], torch.nn.Module] = _itself
    kernels: Callable[[ModelSettings], str] = _one_form
    settle: Settle = _uncompiled
    settings_of: Callable[[ModelSettings, Mapping[str, torch.Tensor]], ModelSettings] = _as_given
    given_model: Callable[[Path, ModelSettings, int], GivenModel] | None = None
    keeps_given_constants: bool = False
    pretrained: Callable[[Pretrained, ModelSettings, Sequence[int], int], GivenModel] | None = None
    architecture_of: Callable[[Pretrained, ModelSettings], dict[str, Any]] | None = None
    elements_of: Callable[[Pretrained, ModelSettings], Sequence[int] | None] | None = None
    foundation: Callable[..., Foundation] | None = None
    misses: Callable[[Any, torch.nn.Module, Sequence[Graph], Any], Residuals] | None = None
    has_shift: Callable[[ModelSettings], bool] = _no_shift
    invariants: Callable[[torch.nn.Module, Sequence[Atoms]], list[NDArray[np.float64]]] | None = (
        None
    )
    lammps: Callable[[Path, Path, str], Path] | None = None
    scripts: Mapping[str, str] = field(default_factory=dict)
    beside: tuple[str, ...] = ()
    loaded_by: Callable[[ModelSettings, str], tuple[str, ...]] = _by_committee


def family_of(settings: ModelSettings) -> Family:
    """Return the family that `model_choice` names."""
    return family(settings.ARCHITECTURE.model_choice)


@cache
def family(name: str) -> Family:
    """Return the family of this name, imported on the first call.

    Raises:
        ModelError: It needs a package that is not installed.
    """
    row = row_of(name)
    if (why := row.why_not_installed()) is not None:
        raise ModelError(f"{name}: {why}")
    return _imported(row.implementation)


def load_foundation(kind: str, **given: Any) -> Foundation:
    """Load a foundation model.

    Args:
        kind: What `foundational_model` says.
        **given: Arguments of the family's `foundation`.

    Raises:
        ModelError: It cannot be loaded; the text says why.
    """
    load = family(row_of_foundation(kind).name).foundation
    assert load is not None, f"the row that names {kind} has no loader"
    return load(**given)


def load_any(path: Path) -> tuple[Family, torch.nn.Module]:
    """Load a model file of whichever family it is.

    Raises:
        ModelError: No family can read it; the text has what each says.
    """
    problems = []
    for row in FAMILIES:
        try:
            found = family(row.name)
            return found, found.load(path)
        except ModelError as error:
            problems.append(str(error))
    raise ModelError("; ".join(dict.fromkeys(problems)))


def reads_electrons(found: Family) -> bool:
    """Whether what models of a family predict depends on charge and multiplicity; see its row."""
    return any(
        row.reads_electrons and row.why_not_installed() is None and family(row.name) is found
        for row in FAMILIES
    )


def _imported(place: str) -> Family:
    module, _, name = place.partition(":")
    found: Family = getattr(importlib.import_module(module), name)
    return found
