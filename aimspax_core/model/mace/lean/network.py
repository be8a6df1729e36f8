"""The lean MACE network: energies of atoms, as a pure function of tensors.

MACE: Batatia et al., arXiv:2206.07697; names of blocks as in `mace.modules.blocks`. Nothing here
depends on the data but shapes, so `node_energies` can be compiled.

Features of degree l have shape (M, N, 2l+1, C): members, atoms, components, channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import silu

from aimspax_core.model.mace.lean.neighbours import Table
from aimspax_core.model.mace.lean.shape import Layer, LayerTables, Shape
from aimspax_core.model.mace.lean.weights import LayerWeights, Weights

_GATES: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": silu,
    "tanh": torch.tanh,
    "abs": torch.abs,
    "None": lambda x: x,
}
_NARROW = 32
"""Up to so many channels one product with all harmonics is faster than one a degree."""


def node_energies(
    shape: Shape,
    tables: Sequence[LayerTables],
    weights: Weights,
    harmonics: Tensor,
    radial: Tensor,
    neighbours: Table,
    kinds: Tensor,
) -> Tensor:
    """Return the interaction energy of each atom, scaled and shifted.

    Args:
        shape: The network's.
        tables: Its constants.
        weights: Of M models.
        harmonics: Of the pairs, shape (M, P, S).
        radial: Of the pairs, shape (M, P, B).
        neighbours: Of N atoms.
        kinds: Index of each atom's element, shape (N,).

    Returns:
        Shape (M, N), in eV.
    """
    around = _around(harmonics, neighbours)
    # Before the first layer an atom's features depend on its element alone: one row an element.
    n_elements = weights.embedding.shape[1]
    features = [weights.embedding.unsqueeze(2)]
    row = kinds
    one_hot = torch.eye(n_elements, dtype=radial.dtype, device=radial.device)
    kind_of_row = torch.arange(n_elements, device=kinds.device)
    energies: Tensor | None = None
    for index, (layer, own, constants) in enumerate(
        zip(shape.layers, weights.layers, tables, strict=True)
    ):
        if index == 1:
            row = torch.arange(len(kinds), device=kinds.device)
            kind_of_row = kinds
        attrs = one_hot.index_select(0, kind_of_row)
        messages = _interaction(layer, own, constants, features, row, around, radial, neighbours)
        if layer.skips_message:
            messages = _with_element(messages, own.skip, one_hot.index_select(0, kinds))
        mixed = _product(own, constants, messages, kinds)
        if layer.residual:
            skipped = _with_element(features, own.skip, attrs)
            if index == 0:
                skipped = [x.index_select(1, row) for x in skipped]
            mixed[: len(skipped)] = [new + old for new, old in zip(mixed, skipped, strict=False)]
        features = mixed
        energy = _readout(shape, own.readout, features[0].squeeze(2))
        energies = energy if energies is None else energies + energy
    assert energies is not None
    return energies * weights.scale + weights.shift


def _around(harmonics: Tensor, neighbours: Table) -> Tensor:
    """Return the harmonics of each atom's neighbours, zero in empty slots, shape (M, N * D, S)."""
    top = round(harmonics.shape[-1] ** 0.5)
    signs = torch.cat(
        [
            (neighbours.odd if degree % 2 else neighbours.even).expand(-1, 2 * degree + 1)
            for degree in range(top)
        ],
        dim=1,
    )
    return harmonics.index_select(1, neighbours.pair) * signs


def _interaction(
    layer: Layer,
    own: LayerWeights,
    constants: LayerTables,
    features: Sequence[Tensor],
    row: Tensor,
    around: Tensor,
    radial: Tensor,
    neighbours: Table,
) -> list[Tensor]:
    """Return the messages, of each degree: linear up, convolution, linear, normalization.

    An atom's features lie in one `row` of `features`; `around` has the harmonics of each atom's
    neighbours, shape (M, N * D, S).
    """
    up = torch.cat([_linear(x, w) for x, w in zip(features, own.up, strict=True)], dim=2)
    sent = up.index_select(1, row.index_select(0, neighbours.neighbour))
    strength = radial
    for matrix in own.radial[:-1]:
        strength = silu(strength @ matrix)
    strength = (strength @ own.radial[-1]).index_select(1, neighbours.pair)
    strength = strength.unflatten(-1, (len(layer.paths), -1))
    convolved = _convolution(layer, constants, sent, strength, around, len(row))
    messages = [_linear(x, w) for x, w in zip(convolved, own.linear, strict=True)]
    if layer.density:
        (matrix,) = own.density
        density = torch.tanh((radial @ matrix) ** 2)
        around_each = density.new_zeros(len(density), len(row), 1)
        around_each = around_each.index_add(1, neighbours.receivers, density)
        around_each = around_each.index_add(1, neighbours.senders, density)
        messages = [x / (around_each.unsqueeze(2) + 1) for x in messages]
    return messages


def _convolution(
    layer: Layer,
    constants: LayerTables,
    sent: Tensor,
    strength: Tensor,
    around: Tensor,
    n_atoms: int,
) -> list[Tensor]:
    """Return, for each degree, Σ_neighbours strength · (features ⊗ harmonics), path by path.

    Of the neighbours are their features `sent`, shape (M, N * D, (max_L + 1)², C), the weight of
    each path, `strength`, shape (M, N * D, paths, C), and the harmonics `around`, shape
    (M, N * D, S). What is returned has shape (M, N, 2l+1, paths to l * C).
    """
    members, slots, n_paths, channels = strength.shape
    atoms, width = members * n_atoms, slots // n_atoms
    top = max(path.l3 for path in layer.paths) + 1
    if n_paths == top and channels <= _NARROW:  # scalar features, one path a degree
        weighted = (strength * sent).view(atoms, width, n_paths * channels)
        summed = around.view(atoms, width, -1).transpose(1, 2) @ weighted
        summed = summed.view(members, n_atoms, -1, n_paths, channels)
        return [summed[:, :, d**2 : (d + 1) ** 2, d] for d in range(top)]
    found: list[list[Tensor]] = [[] for _ in range(top)]
    for index, (path, coupling) in enumerate(zip(layer.paths, constants.couplings, strict=True)):
        one, three = 2 * path.l1 + 1, 2 * path.l3 + 1
        feature = sent[:, :, path.l1**2 : (path.l1 + 1) ** 2]
        weighted = (strength[:, :, index : index + 1] * feature).view(atoms, width * one, channels)
        angular = around[..., path.l2**2 : (path.l2 + 1) ** 2]
        if path.l1 == 0:
            coupled = angular.reshape(atoms, width, three).transpose(1, 2)
        else:
            coupled = (angular @ coupling).view(atoms, width, three, one)
            coupled = coupled.transpose(1, 2).reshape(atoms, three, width * one)
        found[path.l3].append((coupled @ weighted).view(members, n_atoms, three, channels))
    return [torch.cat(parts, dim=-1) for parts in found]


def _product(
    own: LayerWeights, constants: LayerTables, messages: Sequence[Tensor], kinds: Tensor
) -> list[Tensor]:
    """Return the product basis of each degree L: symmetric contraction and linear map."""
    together = torch.cat(list(messages), dim=2).permute(2, 0, 1, 3)
    n_features, members, n_atoms, channels = together.shape
    rows = together.reshape(n_features, -1)
    rows = torch.cat([rows, torch.ones_like(rows[:1])])
    found = []
    for table, weight, matrix in zip(
        constants.contractions, own.contraction, own.product, strict=True
    ):
        of_atoms = weight.index_select(2, kinds).view(weight.shape[0], -1)
        contracted = table.contract(rows, of_atoms).view(-1, members, n_atoms, channels)
        found.append(_linear(contracted.permute(1, 2, 0, 3), matrix))
    return found


def _readout(shape: Shape, matrices: Sequence[Tensor], scalars: Tensor) -> Tensor:
    """Return energies (M, N) of scalar features (M, N, C)."""
    if len(matrices) == 1:
        return (scalars @ matrices[0]).squeeze(-1)
    hidden = _GATES[shape.gate](scalars @ matrices[0]) * shape.gate_scale
    return (hidden @ matrices[1]).squeeze(-1)


def _with_element(
    features: Sequence[Tensor], matrices: Sequence[Tensor], attrs: Tensor
) -> list[Tensor]:
    """Multiply features with the one-hot vectors of elements (N, elements), fully connected."""
    found = []
    for x, matrix in zip(features, matrices, strict=False):
        product = x.unsqueeze(-1) * attrs.view(len(attrs), 1, 1, -1)
        found.append(_linear(product.flatten(-2), matrix))
    return found


def _linear(x: Tensor, matrix: Tensor) -> Tensor:
    """Multiply the channels of (M, N, 2l+1, C) by matrices (M, C, C')."""
    members, n_atoms, components, channels = x.shape
    return torch.bmm(x.reshape(members, -1, channels), matrix).view(
        members, n_atoms, components, -1
    )
