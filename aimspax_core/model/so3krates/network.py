"""So3krates and SO3LR networks: built, called, given to users."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, cast

import torch
from ase.data import chemical_symbols
from so3krates_torch.modules.models import SO3LR, MultiHeadSO3LR, So3krates

from aimspax_core.errors import ModelError
from aimspax_core.model.number_format import number_format
from aimspax_core.model.so3krates.constants import Constants
from aimspax_core.model.so3krates.heads import for_the_package, for_us
from aimspax_core.model.so3krates.tuned_weights import all_trained, fused
from aimspax_core.settings.families.so3krates import so3krates_architecture
from aimspax_core.settings.model import ModelSettings

CLASSES: Mapping[str, tuple[type[So3krates], ...]] = {
    "so3krates": (So3krates,),
    "so3lr": (SO3LR, MultiHeadSO3LR),
}
"""The package's classes of a family: with one head and, of SO3LR, with several."""

N_ELEMENTS = len(chemical_symbols) - 1
"""118; a network has weights for all elements, whichever it is trained on."""

_OURS = {
    *("model_choice", "atomic_energies", "solve_energies"),
    *("use_multihead_model", "num_multihead_heads"),
}
"""Keys of ARCHITECTURE that the package does not take."""

_ELEMENTS = "aimspax_elements"
"""The attribute with the atomic numbers that a network was made for."""


def build(
    settings: ModelSettings,
    elements: Sequence[int],
    constants: Constants,
    seed: int,
    heads: int | None = None,
) -> torch.nn.Module:
    """Return a new model on the CPU; see `aimspax_core.model.family.Build`.

    Args:
        settings: As there, like all others.
        elements: See there.
        constants: See there.
        seed: See there.
        heads: How many it has; None: as many as the settings say.

    Raises:
        ModelError: The package cannot build this architecture.
    """
    architecture = so3krates_architecture(settings)
    given: dict[str, Any] = architecture.model_dump(exclude=_OURS)
    made = CLASSES[architecture.model_choice][0]
    heads = settings.heads if heads is None else heads
    if heads > 1:
        made, given["num_output_heads"] = MultiHeadSO3LR, heads
    dtype = settings.GENERAL.default_dtype
    with number_format(dtype), torch.random.fork_rng(devices=[]):
        # torch.manual_seed would seed CUDA's generators too, which are not forked here.
        torch.default_generator.manual_seed(seed)
        try:
            model: Any = made(
                **given,
                num_elements=N_ELEMENTS,
                avg_num_neighbors=constants.avg_num_neighbors,
                dtype=getattr(torch, dtype),
            )
        except (AssertionError, NotImplementedError, RuntimeError, ValueError) as error:
            raise ModelError(f"so3krates-torch cannot build this ARCHITECTURE: {error}") from error
    for_us(model)
    setattr(model, _ELEMENTS, tuple(sorted(int(z) for z in elements)))
    set_constants(model, constants, elements)
    return model


def plain(settings: ModelSettings, heads: int | None = None) -> torch.nn.Module:
    """Return a network as the package builds it, for whichever elements, with random weights."""
    model = build(settings, (), Constants({}, 1.0), 0, heads)
    delattr(model, _ELEMENTS)
    return for_users(model, dict(model.named_parameters()), settings)


def set_constants(model: torch.nn.Module, constants: Constants, elements: Sequence[int]) -> None:
    """Renew the data-dependent constants of `model` in place; its weights stay."""
    parts: Any = model
    head = parts.atomic_energy_output_block
    with torch.no_grad():
        for number in elements:
            head.free[int(number) - 1] = constants.atomic_energies[int(number)]
    parts.avg_num_neighbors = parts.avg_num_neighbors_param = constants.avg_num_neighbors
    for layer in parts.euclidean_transformers:  # plain attributes, so not in the state dict
        attention = layer.euclidean_attention_block
        attention.avg_num_neighbors = constants.avg_num_neighbors
        if attention.message_normalization == "avg_num_neighbors":
            attention.att_norm_inv = attention.att_norm_ev = constants.avg_num_neighbors


@contextmanager
def without_free_atoms(model: torch.nn.Module) -> Iterator[None]:
    """Leave energies of free atoms out within the block.

    In single precision those of heavy atoms have no meV.
    """
    free = cast(Any, model).atomic_energy_output_block.free
    kept = free.clone()
    try:
        free.zero_()
        yield
    finally:
        free.copy_(kept)


def call(model: torch.nn.Module, inputs: Mapping[str, Any], **asked: bool) -> dict[str, Any]:
    """Return what a model says, and leave nothing of it in the model."""
    before = set(vars(model))
    try:
        found: dict[str, Any] = model(dict(inputs), **asked)
    finally:
        for name in set(vars(model)) - before:
            delattr(model, name)
    return found


def for_users(
    model: torch.nn.Module, weights: dict[str, torch.Tensor], settings: ModelSettings
) -> torch.nn.Module:
    """Return a copy on the CPU with other weights, as the package itself builds and loads it."""
    copy: Any = deepcopy(model).to("cpu")
    with torch.no_grad():
        for name, parameter in copy.named_parameters():
            parameter.copy_(weights[name])
    return all_trained(fused(for_the_package(copy)))


def copied(model: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of a model on the CPU, as it is."""
    return deepcopy(model).to("cpu")


def elements_of(model: torch.nn.Module) -> tuple[int, ...]:
    """Return the atomic numbers that a model knows; all of them, if it does not tell."""
    return told_elements(model) or tuple(range(1, N_ELEMENTS + 1))


def told_elements(model: torch.nn.Module) -> tuple[int, ...] | None:
    """Return the atomic numbers that a model says or shows that it knows; None if it does not.

    Models of others do not say so. Scales of the energy begin alike, and of elements that were not
    trained on they stay so: gradients leave them, and a decay of weights takes the same of each.
    """
    known: tuple[int, ...] | None = getattr(model, _ELEMENTS, None)
    if known is not None:
        return known
    parts: Any = model
    scales = parts.atomic_energy_output_block.energy_scales
    scales = getattr(scales, "weight", scales).detach().flatten().tolist()
    ((untrained, count),) = Counter(scales).most_common(1)
    if count in (1, len(scales)):
        return None
    return tuple(z for z, scale in enumerate(scales, start=1) if scale != untrained)
