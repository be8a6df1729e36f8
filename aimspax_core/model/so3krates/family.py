"""The rows of functions of So3krates and SO3LR; see `aimspax_core.model.family.Family`."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from aimspax_core.errors import ModelError
from aimspax_core.model.checkpoint import write_atomically
from aimspax_core.model.family import Family, GivenModel
from aimspax_core.model.so3krates import network
from aimspax_core.model.so3krates.constants import Constants, constants_of
from aimspax_core.model.so3krates.evaluator import So3kratesEvaluator
from aimspax_core.model.so3krates.foundation import foundation
from aimspax_core.model.so3krates.given_file import (
    architecture_of,
    elements_told,
    given_model,
    pretrained,
)
from aimspax_core.model.so3krates.graphs import graphs
from aimspax_core.model.so3krates.lammps import write_lammps
from aimspax_core.model.so3krates.scripts import SCRIPTS
from aimspax_core.model.so3krates.steps import So3kratesSteps, misses
from aimspax_core.model.so3krates.tuned_weights import fused, tuned
from aimspax_core.settings.families.so3krates import far_cutoff, so3krates_architecture
from aimspax_core.settings.fine_tuning import Pretrained
from aimspax_core.settings.model import ModelSettings

_BROKEN = (pickle.UnpicklingError, RuntimeError, EOFError)
_OTHER_VERSION = (AttributeError, ImportError, LookupError, ValueError)


def load(name: str, file: Path) -> torch.nn.Module:
    """Load a model file; it is a pickle, so only from a path that the user named.

    Args:
        name: The family; a So3krates is no SO3LR, though SO3LR is built on it.
        file: Written by the package or by `Family.save`.

    Raises:
        ModelError: There is no such file, or it holds no model of the family.
    """
    if not file.is_file():
        raise ModelError(f"there is no model file {file}")
    try:
        model = torch.load(file, map_location="cpu", weights_only=False)
    except (*_BROKEN, *_OTHER_VERSION) as error:
        raise ModelError(f"{file} is not a readable {name} model file: {error}") from error
    if type(model) not in network.CLASSES[name]:
        raise ModelError(f"{file} holds no {name} model but a {type(model).__name__}")
    return model


def _build(
    settings: ModelSettings, elements: Sequence[int], constants: Constants, seed: int
) -> torch.nn.Module:
    """Build a model that trains what the settings ask for."""
    return tuned(network.build(settings, elements, constants, seed), settings, seed)


def _pretrained(
    name: str, source: Pretrained, settings: ModelSettings, elements: Sequence[int], seed: int
) -> GivenModel:
    """Return a model that is to be fine-tuned, and trains what the settings ask for."""
    given = pretrained(partial(load, name), source, settings, elements, seed)
    return replace(given, model=tuned(given.model, settings, seed))


def _loaded_by(settings: ModelSettings, file: str) -> tuple[str, ...]:
    name, dtype = settings.family.name, settings.GENERAL.default_dtype
    far = far_cutoff(so3krates_architecture(settings))
    stress = ", compute_stress=True" * settings.stress
    if settings.heads > 1:
        return (
            "from so3krates_torch.calculator.so3 import MultiHeadSO3LRCalculator",
            "atoms.calc = MultiHeadSO3LRCalculator(",
            f'    "{file}", r_max_lr={far}, device="cpu", default_dtype="{dtype}"{stress}',
            ")",
        )
    return (
        "from so3krates_torch.calculator.so3 import TorchkratesCalculator",
        "atoms.calc = TorchkratesCalculator(",
        f'    "{file}", model_type="{name}", r_max_lr={far}, device="cpu", '
        f'default_dtype="{dtype}"{stress}',
        ")",
    )


def _family(name: str, **more: Any) -> Family:
    return Family(
        graphs=graphs,
        constants=Constants,
        constants_of=constants_of,
        set_constants=network.set_constants,
        build=_build,
        steps=So3kratesSteps,
        evaluator=So3kratesEvaluator,
        copy_with=network.for_users,
        fused=fused,
        save=write_atomically,
        load=partial(load, name),
        misses=misses,
        given_model=partial(given_model, partial(load, name)),
        keeps_given_constants=True,  # an average of neighbours stands before all of the weights
        pretrained=partial(_pretrained, name),
        architecture_of=partial(architecture_of, partial(load, name)),
        elements_of=partial(elements_told, partial(load, name)),
        loaded_by=_loaded_by,
        scripts=SCRIPTS,
        **more,
    )


SO3KRATES = _family("so3krates")
SO3LR = _family(
    "so3lr",
    beside=("dipole", "hirshfeld_ratios"),
    foundation=partial(foundation, partial(load, "so3lr")),
    lammps=partial(write_lammps, partial(load, "so3lr")),
)
