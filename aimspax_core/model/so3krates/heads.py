"""SO3LR with several heads: one body, and M readouts whose spread is the uncertainty.

A readout is the energy's last layers; charges, Hirshfeld ratios and the long range are shared, and
so are shifts and scales of the energy. Structures that are trained on belong to all heads but one,
and each epoch trains one of these on them, so that a step costs what it costs with one readout.
Source: `so3krates_torch.modules.models.MultiHeadSO3LR`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from so3krates_torch.blocks.output_block import AtomicEnergyOutputHead, MultiAtomicEnergyOutputHead
from so3krates_torch.modules.models import SO3LR, MultiHeadSO3LR

from aimspax_core.model.number_format import number_format
from aimspax_core.model.so3krates.graphs import Graph

SHARES = "shares"
"""What a batch says of the heads, shape (n structures, M): whose weighted mean is asked for. A
batch without it asks for all."""

READOUT = tuple(
    f"atomic_energy_output_block.{name}"
    for name in ("layers_weights.", "layers_bias.", "final_layer_weights", "final_layer_bias")
)
"""How the names of the heads' own weights begin."""

_OF_ONE = ("layers.", "final_layer.")
"""Likewise those of one readout, which the package leaves beside the M, without a use."""


class _WithFreeAtoms:
    """Energies of free atoms beside the shifts that are trained, of a model's last layers.

    The package has one number an element for both. Averages of the weights and the steps of the
    optimizer are of the shifts alone here, so that the energies can follow the training set as it
    grows; `network.for_users` adds them up.
    """

    free: torch.Tensor

    @classmethod
    def in_place_of(cls, head: Any) -> Any:
        """Turn a model's last layers into these, with energies of zero."""
        head.__class__ = cls
        head.register_buffer("free", torch.zeros_like(head.energy_shifts.detach()))
        return head

    def _of_free_atoms(self, data: Any, like: torch.Tensor) -> torch.Tensor:
        """Return the energy (eV) of each atom by itself, shaped to be added to `like`."""
        return self.free[data["atomic_numbers"] - 1].view(-1, *(1 for _ in like.shape[1:]))


class TrainedEnergies(_WithFreeAtoms, AtomicEnergyOutputHead):
    """The energy's last layers of a model with one head."""

    def forward(self, inv_features: Any, data: Any, atomic_numbers: Any = None) -> torch.Tensor:
        """Return the energy (eV) of each atom, (N, 1)."""
        found: torch.Tensor = super().forward(inv_features, data, atomic_numbers)
        return found + self._of_free_atoms(data, found)


class TrainedReadouts(_WithFreeAtoms, MultiAtomicEnergyOutputHead):
    """The energy's last layers of a model with M heads."""

    def forward(self, inv_features: Any, data: Any, atomic_numbers: Any = None) -> torch.Tensor:
        """Return the energies (eV) of each atom, (N, M, 1), or the mean of them that is asked for.

        See `SHARES`; a mean has the shape (N, 1, 1).
        """
        found: torch.Tensor = super().forward(inv_features, data, atomic_numbers)
        found = found.view(-1, self.num_output_heads, 1)  # the package drops N where it is 1
        found = found + self._of_free_atoms(data, found)
        if SHARES not in data:
            return found
        return (found * data[SHARES][data["batch"]].unsqueeze(-1)).sum(dim=1, keepdim=True)


class SeveralHeads(MultiHeadSO3LR):
    """The package's model; where a mean of the heads is asked for, an SO3LR with one."""

    def _get_outputs(self, *, energy: torch.Tensor, **more: Any) -> Any:
        """Return forces and what else follows from energies of structures, (n, M) or (n, 1).

        The package derives those of all heads at once, which torch cannot for atoms by themselves.
        """
        if energy.shape[1] == 1:
            return SO3LR._get_outputs(self, energy=energy[:, 0], **more)
        if len(more["positions"]) > 1 and len(more["vectors"]) > 0:
            return super()._get_outputs(energy=energy, **more)
        kept = more | {"training": True}  # the graph, for the next head
        each = [SO3LR._get_outputs(self, energy=one, **kept) for one in energy.unbind(1)]
        return [
            None if parts[0] is None else torch.stack(parts) for parts in zip(*each, strict=True)
        ]

    def _create_output_dict(self, *, total_energy: torch.Tensor, **more: Any) -> Any:
        """Return what the model says, of M heads or of one."""
        if total_energy.shape[1] == 1:
            return SO3LR._create_output_dict(self, total_energy=total_energy[:, 0], **more)
        return super()._create_output_dict(total_energy=total_energy, **more)


def is_of_a_head(name: str) -> bool:
    """Whether a weight of this name is the heads' own, one for each along its first axis."""
    return name.startswith(READOUT)


def heads_of(model: Any) -> int:
    """Return the number of heads M of a model of these families; 1 for one without `heads`."""
    return int(model.num_output_heads) if isinstance(model, MultiHeadSO3LR) else 1


def for_us(model: Any) -> Any:
    """Return a model of the package as this program trains and evaluates it; changed in place."""
    block = model.atomic_energy_output_block
    if isinstance(model, MultiHeadSO3LR):
        model.__class__ = SeveralHeads
        for name, weight in block.named_parameters():
            if name.startswith(_OF_ONE):
                weight.requires_grad_(False)
    kind = TrainedReadouts if isinstance(model, MultiHeadSO3LR) else TrainedEnergies
    if not isinstance(block, kind):
        kind.in_place_of(block)
    return model


def for_the_package(model: Any) -> Any:
    """Return such a model as the package builds it, with free atoms' energies among the shifts."""
    block = model.atomic_energy_output_block
    if isinstance(block, TrainedEnergies | TrainedReadouts):
        with torch.no_grad():
            block.energy_shifts += block.free
        del block.free
        several = isinstance(block, TrainedReadouts)
        block.__class__ = MultiAtomicEnergyOutputHead if several else AtomicEnergyOutputHead
    if isinstance(model, SeveralHeads):
        model.__class__ = MultiHeadSO3LR
    return model


def copies_of_one(model: Any, heads: int) -> torch.nn.Module:
    """Return a model with M heads that are all the one of an SO3LR.

    Args:
        model: The SO3LR, as the package builds it; it stays as it is.
        heads: M.
    """
    made: Any = deepcopy(model)
    one = made.atomic_energy_output_block
    made.__class__ = MultiHeadSO3LR
    made.num_output_heads, made.select_heads, made.return_mean = heads, False, False
    block = made.atomic_energy_output_block = _readouts_like(made, heads, one.energy_shifts.dtype)
    with torch.no_grad():
        for layer, weight, bias in zip(
            (*one.layers, one.final_layer),
            (*block.layers_weights, block.final_layer_weights),
            (*block.layers_bias, block.final_layer_bias),
            strict=True,
        ):
            weight.copy_(layer.weight.T)
            bias.copy_(layer.bias)
        block.energy_shifts.copy_(one.energy_shifts)
        block.energy_scales.copy_(one.energy_scales.weight.T)
    block.layers, block.final_layer = one.layers, one.final_layer
    return made


def _readouts_like(model: Any, heads: int, dtype: torch.dtype) -> MultiAtomicEnergyOutputHead:
    """Return readouts of M heads as the package makes them, with weights of any kind."""
    with number_format(str(dtype).removeprefix("torch.")), torch.random.fork_rng(devices=[]):
        return MultiAtomicEnergyOutputHead(
            num_output_heads=heads,
            num_features=model.num_features,
            energy_regression_dim=model.energy_regression_dim,
            layers=model.final_mlp_layers,
            non_linearity=model.energy_activation_fn,
            energy_learn_atomic_type_shifts=model.energy_learn_atomic_type_shifts,
            energy_learn_atomic_type_scales=model.energy_learn_atomic_type_scales,
            num_elements=model.num_elements,
        )


def dealt(data: Sequence[Graph], heads: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return the head, 0 to M - 1, that each structure trains now.

    Each structure has one head that it never trains, by what it is; of the others one is drawn.

    Args:
        data: Structures.
        heads: M, at least 2.
        random: Draws.
    """
    drawn = random.integers(heads - 1, size=len(data))
    return drawn + (drawn >= np.array([_left_out(graph) % heads for graph in data]))


def one_each(heads: NDArray[np.int64], of: int, dtype: torch.dtype) -> torch.Tensor:
    """Return `SHARES` by which each structure is told by one head, (n, M)."""
    return torch.nn.functional.one_hot(torch.from_numpy(heads), of).to(dtype)


def alike(structures: int, of: int, dtype: torch.dtype) -> torch.Tensor:
    """Return `SHARES` by which all structures are told by the mean of all heads, (n, M)."""
    return torch.full((structures, of), 1.0 / of, dtype=dtype)


def _left_out(graph: Graph) -> int:
    """Return a number that follows from elements and positions alone."""
    content = graph.numbers.tobytes() + graph.positions.tobytes()
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big")
