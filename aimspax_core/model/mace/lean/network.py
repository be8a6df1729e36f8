"""The lean MACE network: energies of atoms, as a pure function of tensors.

MACE: Batatia et al., arXiv:2206.07697; names of blocks as in `mace.modules.blocks`.

Features of degree l have shape (M, 2l+1, N, C): members, components, atoms, channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import silu

from aimspax_core.model.mace.lean.contraction import contract
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
    strengths: Sequence[Tensor],
    neighbours: Table,
    kinds: Tensor,
    plain: bool = False,
) -> Tensor:
    """Return the interaction energy of each atom, scaled and shifted.

    Args:
        shape: The network's.
        tables: Its constants.
        weights: Of M models.
        harmonics: Of the pairs, shape (M, P, S).
        strengths: Of `radial.path_weights`, for each layer.
        neighbours: Of N atoms.
        kinds: Index of each atom's element, shape (N,).
        plain: With the contraction as a compiler wants it; see `contract`.

    Returns:
        Shape (M, N), in eV.
    """
    around = _around(harmonics, neighbours)
    elements = torch.arange(weights.embedding.shape[1], device=kinds.device)
    attrs = (kinds.unsqueeze(1) == elements).to(harmonics)
    # Before the first layer an atom's features are those of its element: one row an element.
    features, row_attrs = [weights.embedding.unsqueeze(1)], torch.eye(attrs.shape[1]).to(attrs)
    senders = kinds[neighbours.neighbour]
    energies = torch.zeros_like(weights.scale)
    for index, layer in enumerate(shape.layers):
        own, constants = weights.layers[index], tables[index]
        up = torch.cat([_linear(x, w) for x, w in zip(features, own.up, strict=True)], dim=1)
        messages = _interaction(
            layer, own, constants, up, senders, strengths[index], around, neighbours
        )
        if layer.skips_message:
            degrees = messages.split([2 * d + 1 for d in range(len(own.skip))], dim=1)
            messages = torch.cat(_with_element(degrees, own.skip, attrs), dim=1)
        mixed = _product(own, constants, messages, kinds, attrs, plain)
        if layer.residual:
            skipped = _with_element(features, own.skip, row_attrs)
            if index == 0:
                skipped = [x.index_select(2, kinds) for x in skipped]
            mixed = [*map(torch.add, mixed, skipped), *mixed[len(skipped) :]]
        features, row_attrs, senders = mixed, attrs, neighbours.neighbour
        energies = energies + _readout(shape, own.readout, features[0].squeeze(1))
    return energies * weights.scale + weights.shift


def _around(harmonics: Tensor, neighbours: Table) -> Tensor:
    """Return the harmonics of each atom's neighbours, zero in empty slots, shape (M, N, D, S)."""
    signs = torch.cat(
        [
            (neighbours.odd if degree % 2 else neighbours.even).expand(-1, -1, 2 * degree + 1)
            for degree in range(_top(harmonics) + 1)
        ],
        dim=-1,
    )
    return _at(harmonics, neighbours.pair) * signs


def _interaction(
    layer: Layer,
    own: LayerWeights,
    constants: LayerTables,
    up: Tensor,
    senders: Tensor,
    strength: Tensor,
    around: Tensor,
    neighbours: Table,
) -> Tensor:
    """Return the messages, shape (M, S, N, C): convolution, linear map, normalization.

    Neighbours' features are the rows `senders` (N, D) of `up`; the convolution weighs them with
    `strength`, and multiplies them with their harmonics `around`.
    """
    channels, n_degrees = up.shape[-1], _top(around) + 1
    n_scalar, n_paths = n_degrees * channels, len(layer.paths) * channels
    paths = _at(strength[..., :n_paths], neighbours.pair)
    summed = _scalar_paths(constants, up[:, 0], senders, paths[..., :n_scalar], around)
    if n_scalar == n_paths:  # one path a degree
        matrices = torch.stack(own.linear, dim=1).index_select(1, constants.degree)
        messages = torch.matmul(summed, matrices)
    else:
        parts = [[x] for x in summed.split([2 * d + 1 for d in range(n_degrees)], dim=1)]
        for degree, found in _other_paths(layer, constants, up, senders, paths, around):
            parts[degree].append(found)
        messages = torch.cat(
            [_linear(torch.cat(x, dim=-1), w) for x, w in zip(parts, own.linear, strict=True)],
            dim=1,
        )
    if not layer.density:
        return messages
    density = strength[..., n_paths:]
    nothing = density.new_zeros(len(density), len(neighbours.pair), 1)
    there = nothing.index_add(1, neighbours.receivers, density)
    return messages / (there.index_add(1, neighbours.senders, density) + 1).unsqueeze(1)


def _scalar_paths(
    constants: LayerTables, up: Tensor, senders: Tensor, strength: Tensor, around: Tensor
) -> Tensor:
    """Return Σ_neighbours strength · feature · harmonics, of scalar features, (M, S, N, C).

    One path leads to each degree; `up` has shape (M, rows, C), `strength` (M, N, D, degrees * C).
    """
    members, n_atoms, _, size = around.shape
    channels, n_degrees = up.shape[-1], _top(around) + 1
    turned = around.flatten(0, 1).transpose(1, 2)
    if channels <= _NARROW:  # all harmonics with all paths, then those that belong together
        weighted = _at(up.repeat(1, 1, n_degrees), senders) * strength
        summed = torch.bmm(turned, weighted.flatten(0, 1)).view(-1, size * n_degrees, channels)
        summed = summed.index_select(1, constants.together)
    else:
        sent = _at(up, senders)
        each = [(sent * one).flatten(0, 1) for one in strength.split(channels, dim=-1)]
        harmonics = turned.split([2 * d + 1 for d in range(n_degrees)], dim=1)
        summed = torch.cat(list(map(torch.bmm, harmonics, each)), dim=1)
    return summed.view(members, n_atoms, size, channels).transpose(1, 2)


def _other_paths(
    layer: Layer,
    constants: LayerTables,
    up: Tensor,
    senders: Tensor,
    strength: Tensor,
    around: Tensor,
) -> Iterator[tuple[int, Tensor]]:
    """Yield degree l3 and Σ_neighbours strength · (features ⊗ harmonics) of each path with l1 > 0.

    What is summed has shape (M, 2 l3 + 1, N, C); the paths of scalar features are left out.
    """
    members, n_atoms, width, _ = around.shape
    channels, n_degrees = up.shape[-1], _top(around) + 1
    sent = _at(up.transpose(1, 2).flatten(2), senders)
    sent = sent.view(members, n_atoms, width, -1, channels)
    by_degree = sent.split([2 * d + 1 for d in range(math.isqrt(up.shape[1]))], dim=3)
    weights = strength.split(channels, dim=-1)
    paths = layer.paths[n_degrees:]
    sizes = [(2 * path.l3 + 1) * (2 * path.l1 + 1) for path in paths]
    coupled = torch.matmul(around, constants.coupling).split(sizes, dim=-1)
    for path, tensor, weight in zip(paths, coupled, weights[n_degrees:], strict=True):
        one, three = 2 * path.l1 + 1, 2 * path.l3 + 1
        weighted = (weight.unsqueeze(3) * by_degree[path.l1]).view(-1, width * one, channels)
        turned = tensor.view(-1, width, three, one).transpose(1, 2).flatten(2)
        summed = torch.bmm(turned, weighted).view(members, n_atoms, three, channels)
        yield path.l3, summed.transpose(1, 2)


def _product(
    own: LayerWeights,
    constants: LayerTables,
    messages: Tensor,
    kinds: Tensor,
    attrs: Tensor,
    plain: bool,
) -> list[Tensor]:
    """Return the product basis of each degree L: symmetric contraction and linear map."""
    return [
        _linear(contract(components, messages, weight, kinds, attrs, plain), matrix)
        for components, weight, matrix in zip(
            constants.contractions, own.contraction, own.product, strict=True
        )
    ]


def _readout(shape: Shape, matrices: Sequence[Tensor], scalars: Tensor) -> Tensor:
    """Return energies (M, N) of scalar features (M, N, C)."""
    if len(matrices) == 1:
        return (scalars @ matrices[0]).squeeze(-1)
    hidden = _GATES[shape.gate](scalars @ matrices[0]) * shape.gate_scale
    return (hidden @ matrices[1]).squeeze(-1)


def _with_element(
    features: Sequence[Tensor], matrices: Sequence[Tensor], attrs: Tensor
) -> list[Tensor]:
    """Multiply features with the one-hot vectors of elements (N, elements), fully connected.

    Where the product leaves the higher degrees out, there are fewer matrices than features.
    """
    return [
        _linear((x.unsqueeze(-1) * attrs.unsqueeze(1)).flatten(-2), matrix)
        for x, matrix in zip(features, matrices, strict=False)
    ]


def _linear(x: Tensor, matrix: Tensor) -> Tensor:
    """Multiply the channels of (M, 2l+1, N, C) by matrices (M, C, C')."""
    return torch.bmm(x.flatten(1, 2), matrix).view(*x.shape[:-1], -1)


def _at(rows: Tensor, index: Tensor) -> Tensor:
    """Return rows of (M, rows, C) in the shape (M, *index.shape, C)."""
    return rows.index_select(1, index.view(-1)).view(len(rows), *index.shape, -1)


def _top(harmonics: Tensor) -> int:
    """Return the highest degree of harmonics on the last axis."""
    return math.isqrt(harmonics.shape[-1]) - 1
