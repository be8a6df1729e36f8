"""Somebody's trained So3krates or SO3LR: held against what the settings build, and rebuilt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from aimspax_core.errors import ModelError, WeightsError
from aimspax_core.model.committee import Committee
from aimspax_core.model.family import GivenModel
from aimspax_core.model.so3krates.constants import Constants
from aimspax_core.model.so3krates.evaluator import So3kratesEvaluator
from aimspax_core.model.so3krates.foundation import packaged_file
from aimspax_core.model.so3krates.heads import copies_of_one, heads_of
from aimspax_core.model.so3krates.network import (
    build,
    copied,
    elements_of,
    plain,
    told_elements,
)
from aimspax_core.model.weights_file import weights_of
from aimspax_core.settings.families.so3krates import (
    FOUNDATION,
    USUAL_FAR,
    far_cutoff,
    so3krates_architecture,
)
from aimspax_core.settings.fine_tuning import Pretrained
from aimspax_core.settings.model import ModelSettings
from aimspax_core.structures import symbols_text

Load = Callable[[Path], torch.nn.Module]

_NAMED: Mapping[str, str] = {
    "activation_fn": "activation_fn_name",
    "cutoff_fn": "cutoff_fn_name",
    "energy_activation_fn": "energy_activation_fn_name",
}
"""Attributes of a model that are called otherwise than the key of ARCHITECTURE."""


def given_model(load: Load, path: Path, settings: ModelSettings, seed: int) -> GivenModel:
    """Return the model of a file as the settings build it; see `family.Family.given_model`.

    Raises:
        ModelError: The file cannot be read, or is not what the settings say.
    """
    theirs = _with_heads(load(path), str(path), settings)
    return _rebuilt(theirs, path, settings, elements_of(theirs), seed)


def pretrained(
    load: Load, source: Pretrained, settings: ModelSettings, elements: Sequence[int], seed: int
) -> GivenModel:
    """Return a model that is to be fine-tuned; see `family.Family.pretrained`.

    Raises:
        ModelError: It cannot be read, is not what the settings say, or does not know an element.
    """
    theirs = _loaded(load, source, settings)
    if unknown := set(elements) - set(elements_of(theirs)):
        raise ModelError(f"{source.name} does not know {symbols_text(unknown)}")
    return _rebuilt(theirs, source.name, settings, sorted(elements), seed)


def architecture_of(load: Load, source: Pretrained, settings: ModelSettings) -> dict[str, Any]:
    """Return the keys of ARCHITECTURE of a model by name; see `family.Family.architecture_of`.

    Raises:
        ModelError: It cannot be read, or members cannot be like it.
    """
    theirs, section = _loaded(load, source, settings), so3krates_architecture(settings)
    asked = {key: getattr(section, key) for key in settings.family.pretrained_keys}
    if source.model is None:
        return asked
    found = asked | _told(theirs, settings)
    found |= {key: usual for key, usual in USUAL_FAR.items() if found.get(key, usual) is None}
    try:
        made = type(section).model_validate(found | {"model_choice": section.model_choice})
    except ValueError as error:
        raise ModelError(f"{source.name} is a model that members cannot be: {error}") from error
    return {key: getattr(made, key) for key in asked}


def elements_told(load: Load, source: Pretrained, settings: ModelSettings) -> Sequence[int] | None:
    """Return the atomic numbers that a model tells that it knows; see `family.Family.elements_of`.

    Raises:
        ModelError: It cannot be read.
    """
    return told_elements(_loaded(load, source, settings))


def _loaded(load: Load, source: Pretrained, settings: ModelSettings) -> torch.nn.Module:
    """Return the model, or a network of the settings, with the weights of a file if one is named.

    Raises:
        ModelError: A file cannot be read, or the weights are not of that network.
    """
    if source.model is None:
        theirs = plain(settings, 1 if settings.TRAINING.convert_to_multihead else settings.heads)
    else:
        theirs = load(packaged_file() if source.model == FOUNDATION else Path(source.model))
    if source.weights is not None:
        _take_weights(theirs, source)
    return _with_heads(theirs, source.name, settings)


def _with_heads(theirs: torch.nn.Module, name: str, settings: ModelSettings) -> torch.nn.Module:
    """Return a model with as many heads as the settings ask for.

    Raises:
        ModelError: It has another number, and nothing says that they are copies of its one.
    """
    asked, found = settings.heads, heads_of(theirs)
    has = f"{name} has {found} heads" if found > 1 else f"{name} has one head"
    if settings.TRAINING.convert_to_multihead:
        if found > 1:
            raise ModelError(f"{has} already; allowed: TRAINING.convert_to_multihead: False")
        return copies_of_one(theirs, asked)
    if found == asked:
        return theirs
    if found == 1:
        raise ModelError(
            f"{has}, and ARCHITECTURE.num_multihead_heads is {asked}; allowed: TRAINING."
            "convert_to_multihead: True, by which each head of a fine-tuned model begins as a copy"
        )
    raise ModelError(
        f"{has}; allowed: ARCHITECTURE.use_multihead_model: True, num_multihead_heads: {found}, "
        "and ensemble_size: 1"
    )


def _take_weights(model: torch.nn.Module, source: Pretrained) -> None:
    """Put the weights of a file into a model, all of them.

    The package's own loading passes over what is missing where tables of other releases are.
    """
    assert source.weights is not None
    state = weights_of(source.weights)
    wanted = dict(model.named_parameters())
    others = {name for name in state if name not in model.state_dict()}
    unlike = {n for n, w in wanted.items() if n not in state or state[n].shape != w.shape}
    if others | unlike:
        network = "ARCHITECTURE" if source.model is None else source.name
        raise WeightsError(
            f"{source.weights} does not fit the network of {network}: weights differ in "
            f"{', '.join(sorted(others | unlike)[:3])}"
        )
    with torch.no_grad():
        for name, weight in wanted.items():
            weight.copy_(state[name])


def _told(model: torch.nn.Module, settings: ModelSettings) -> dict[str, Any]:
    """Return the keys of ARCHITECTURE that a model tells."""
    told = {}
    for key in settings.family.pretrained_keys:
        value = getattr(model, _NAMED.get(key, key), None)
        if value is not None:
            told[key] = list(value) if isinstance(value, list | tuple) else value
    return told


def _rebuilt(
    theirs: Any, path: Path | str, settings: ModelSettings, elements: Sequence[int], seed: int
) -> GivenModel:
    section = so3krates_architecture(settings)
    differ = [
        f"ARCHITECTURE.{key} is {value} in the file, {getattr(section, key)} in the settings"
        for key, value in _told(theirs, settings).items()
        if value != getattr(section, key)
    ]
    if differ:
        raise ModelError(f"{path} is not what the settings say: {'; '.join(differ)}")
    shifts = theirs.atomic_energy_output_block.energy_shifts.detach().double().tolist()
    constants = Constants(
        atomic_energies={z: shifts[z - 1] for z in elements},
        avg_num_neighbors=float(theirs.avg_num_neighbors),
    )
    ours: Any = build(settings, elements, constants, seed)
    source, wanted = (dict(model.named_parameters()) for model in (theirs, ours))
    if {n: w.shape for n, w in source.items()} != {n: w.shape for n, w in wanted.items()}:
        raise ModelError(f"{path} is not what the settings build: its weights have other shapes")
    with torch.no_grad():
        for name, weight in wanted.items():
            weight.copy_(source[name])
        for z in elements:  # they are energies of free atoms here
            ours.atomic_energy_output_block.energy_shifts[z - 1] = 0.0
    if not _alike(ours, theirs, elements, settings):
        raise ModelError(
            f"{path} has the weights that the settings ask for, but predicts something else with "
            "them: it was built with options that ARCHITECTURE does not have"
        )
    return GivenModel(ours, tuple(elements), constants)


def _alike(
    ours: torch.nn.Module, theirs: torch.nn.Module, elements: Sequence[int], settings: ModelSettings
) -> bool:
    """Whether both predict the same forces for a chain in which all elements meet."""
    kinds = [z for z in elements for _ in range(2)]
    places = 1.1 * np.arange(len(kinds))[:, None] * np.array([1.0, 0.3, 0.1])
    places += 0.2 * np.sin(np.arange(places.size)).reshape(places.shape)
    chain = Atoms(numbers=kinds, positions=places)
    section = so3krates_architecture(settings)
    found = []
    for model in (ours, theirs):
        one: Any = copied(model)
        if far_cutoff(section) is not None:
            for key in USUAL_FAR:  # a model may leave them open
                setattr(one, key, getattr(section, key))
        committee = Committee(So3kratesEvaluator([one], dtype="float64"))
        found.append(committee.evaluate([chain])[0].forces)
    # The file may have been made in float32 and ours rounded to it.
    mine, other = found
    return bool(np.allclose(mine, other, rtol=1e-3, atol=1e-3 * np.abs(other).max()))
