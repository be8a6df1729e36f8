"""A MACE model that members begin from, cut down to the elements of a campaign."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch
from mace.tools import AtomicNumberTable
from mace.tools.finetuning_utils import load_foundations_elements

from aimspax_core.errors import ModelError, WeightsError
from aimspax_core.model.family import GivenModel
from aimspax_core.model.mace.build import build
from aimspax_core.model.mace.cueq import to_cueq
from aimspax_core.model.mace.foundation import foundation_file
from aimspax_core.model.mace.given_file import READERS, alike, read, rebuilt, require_adoptable
from aimspax_core.model.mace.graphs import heads
from aimspax_core.model.mace.heads import with_one_head
from aimspax_core.model.mace.model_files import load_model, model_lock
from aimspax_core.model.mace.product_basis import settings_of
from aimspax_core.model.weights_file import weights_of
from aimspax_core.settings.families.mace import Interaction, MaceArchitecture, mace_architecture
from aimspax_core.settings.fine_tuning import Pretrained
from aimspax_core.settings.model import ModelSettings
from aimspax_core.structures import symbols_text

_BASES = {"BesselBasis": "bessel", "GaussianBasis": "gaussian", "ChebychevBasis": "chebyshev"}


def architecture_of(source: Pretrained, settings: ModelSettings) -> dict[str, Any]:
    """Return the keys of ARCHITECTURE of a model that is to be fine-tuned, by name.

    What a model does not tell, such as the gate of one without a hidden layer, is as in the
    settings; so is `use_reduced_cg` where it is named, as weights are converted.

    Raises:
        ModelError: It cannot be read, or members cannot be like it.
    """
    theirs, settings = _loaded(source), _plain(settings)
    require_adoptable(theirs, [int(z) for z in theirs.atomic_numbers], source.name, settings)
    found: dict[str, Any] = {key: read(reader, theirs) for key, reader in READERS.items()}
    found["radial_type"] = _BASES.get(found["radial_type"])
    found["model"] = type(theirs).__name__
    for key, known in (
        ("model", ("MACE", "ScaleShiftMACE")),
        ("interaction", get_args(Interaction)),
        ("interaction_first", get_args(Interaction)),
    ):
        if found[key] not in known:
            raise ModelError(f"{source.name} has the {key} {found[key]}, which members cannot be")
    asked = mace_architecture(settings)
    if not settings.MISC.enable_cueq and "use_reduced_cg" not in asked.model_fields_set:
        held = mace_architecture(settings_of(settings, theirs.state_dict()))
        found["use_reduced_cg"] = held.use_reduced_cg
    own = {key: getattr(asked, key) for key in (*READERS, "model", "use_reduced_cg")}
    told = {key: value for key, value in found.items() if value is not None}
    made = MaceArchitecture.model_validate(own | told | {"model_choice": "mace"})
    like_it = settings.model_copy(update={"ARCHITECTURE": made})
    rebuilt(theirs, source.name, like_it, seed=0, converted=False)  # says what keys cannot say
    return {key: getattr(made, key) for key in own}


def pretrained(
    source: Pretrained, settings: ModelSettings, elements: Sequence[int], seed: int
) -> GivenModel:
    """Return a model that is to be fine-tuned, as the settings build it for some elements.

    Its weights are those of the file for these elements (`mace.tools.finetuning_utils`), and so are
    all constants; of a foundation model's elements few are left, and it is as much faster.

    Args:
        source: The model.
        settings: Settings of the members; their ARCHITECTURE must be that of the model.
        elements: Atomic numbers of the campaign.
        seed: Of the model that the weights are put into.

    Raises:
        ModelError: The file cannot be read, is of another architecture, or does not know an
            element.
    """
    theirs, settings = _loaded(source), _plain(settings)
    elements = sorted(int(z) for z in elements)
    unknown = {*elements} - {int(z) for z in theirs.atomic_numbers}
    if unknown:
        raise ModelError(f"{source.name} does not know {symbols_text(unknown)}")
    whole = rebuilt(theirs, source.name, settings, seed, converted=False)
    if list(whole.elements) == elements:
        return replace(whole, model=to_cueq(whole.model, settings))
    energies = {z: whole.constants.atomic_energies[z] for z in elements}
    constants = replace(whole.constants, atomic_energies=energies)
    held = settings_of(settings, whole.model.state_dict())
    ours = build(held, elements, constants, seed)
    _take_elements(ours, whole.model, elements, held)
    if not alike(ours, whole.model, elements, held):
        raise ModelError(
            f"{source.name}: its weights for {symbols_text(elements)} alone predict something else"
        )
    return GivenModel(to_cueq(ours, settings), tuple(elements), constants)


def with_replay_head(given: GivenModel, settings: ModelSettings, seed: int) -> GivenModel:
    """Return a model with a second head, if the settings replay data; both begin as the model's.

    Args:
        given: A model with one head.
        settings: Settings of the members.
        seed: Of the model that the weights are put into.

    Raises:
        ModelError: MACE does not bring the weights of such a model to two heads, or back to one.
    """
    if not settings.TRAINING.replays:
        return given
    held = settings_of(settings, given.model.state_dict())
    ours = build(held, given.elements, given.constants, seed)
    _take_elements(ours, given.model, given.elements, held)
    singles = (with_one_head(ours, head) for head in heads(settings))
    if not all(alike(one, given.model, given.elements, held) for one in (ours, *singles)):
        raise ModelError(
            "TRAINING.multiheads_finetuning: with a second head, or with one alone again, the "
            "pretrained model predicts something else; MACE cannot do that with its architecture"
        )
    return replace(given, model=ours)


def _plain(settings: ModelSettings) -> ModelSettings:
    """Leave out energies that are given, of the campaign's elements and reference; and replay."""
    bare = mace_architecture(settings).model_copy(update={"atomic_energies": None})
    once = settings.TRAINING.model_copy(update={"multiheads_finetuning": False})
    return settings.model_copy(update={"ARCHITECTURE": bare, "TRAINING": once})


def _loaded(source: Pretrained) -> Any:
    """Return the model, with the weights that take the place of its own."""
    if source.model is None:
        raise ModelError(f"missing; {source.name} alone does not say how its network is made")
    model = load_model(foundation_file(source.model)).to("cpu")
    if source.weights is not None:
        _take_state(model, source.weights)
    return model


def _take_state(model: torch.nn.Module, file: Path) -> None:
    """Load a state dict, bare or in a checkpoint of MACE's `run_train`, into a model."""
    state, wanted = weights_of(file), model.state_dict()
    shapes, ours = (
        {k: getattr(v, "shape", None) for k, v in one.items()} for one in (state, wanted)
    )
    if others := {name for name, _ in shapes.items() ^ ours.items()}:
        raise WeightsError(
            f"{file} does not fit the pretrained model: weights differ in "
            f"{', '.join(sorted(others)[:3])}"
        )
    model.load_state_dict(state)


def _take_elements(
    ours: torch.nn.Module, whole: torch.nn.Module, elements: Sequence[int], settings: ModelSettings
) -> None:
    """Give `ours` the weights of `whole` for its elements.

    MACE's function makes new parameters, also of what is none: it works on a copy.
    """
    with model_lock:
        filled: Any = deepcopy(ours)
    load_foundations_elements(
        filled,
        whole,
        AtomicNumberTable(list(elements)),
        load_readout=True,
        max_L=mace_architecture(settings).max_L,
    )
    source = dict(filled.named_parameters())
    with torch.no_grad():
        for name, weight in ours.named_parameters():
            weight.copy_(source[name])
