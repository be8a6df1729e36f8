"""The present weights of MACE models, as the lean network multiplies with them.

Everything here is a view or a small product of the model's own parameters, so that gradients reach
them. Tensors carry a leading axis of M models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aimspax_core.model.mace.lean.monomials import order_weights
from aimspax_core.model.mace.lean.shape import Block, Layer, Shape, linears


class LayerWeights(NamedTuple):
    """Weights of one layer; tuples run over degrees, `radial` over layers of the radial network.

    Attributes:
        up: Shape (M, C, C) each.
        skip: Shape (M, C * elements, C) each.
        radial: Shape (M, in, out) each; activations' constants are in the layer that follows.
        density: Shape (M, B, 1), or none.
        linear: Shape (M, paths * C, C) each; the mean number of neighbours is in them.
        contraction: Shape (M, K, elements, C) each.
        product: Shape (M, C, C) each.
        readout: One linear map (M, C, 1), or two.
    """

    up: tuple[Tensor, ...]
    skip: tuple[Tensor, ...]
    radial: tuple[Tensor, ...]
    density: tuple[Tensor, ...]
    linear: tuple[Tensor, ...]
    contraction: tuple[Tensor, ...]
    product: tuple[Tensor, ...]
    readout: tuple[Tensor, ...]


class Weights(NamedTuple):
    """Weights of M models.

    Attributes:
        embedding: Shape (M, elements, C).
        layers: One an interaction.
        scale: Factor of the interaction energies, shape (M, 1).
        shift: Shape (M, 1), in eV.
        elements: Energy of a free atom of each element, shape (M, elements), in eV.
    """

    embedding: Tensor
    layers: tuple[LayerWeights, ...]
    scale: Tensor
    shift: Tensor
    elements: Tensor


def weights(shape: Shape, models: Sequence[Any]) -> Weights:
    """Return the weights of models of one shape, stacked."""
    each = [_weights(shape, model) for model in models]
    layers = [_stacked([one.layers[i] for one in each]) for i in range(len(shape.layers))]
    plain = {
        name: _stack([getattr(one, name) for one in each])
        for name in ("embedding", "scale", "shift", "elements")
    }
    return Weights(layers=tuple(layers), **plain)


def _stacked(each: Sequence[LayerWeights]) -> LayerWeights:
    return LayerWeights(
        *(tuple(map(_stack, zip(*parts, strict=True))) for parts in zip(*each, strict=True))
    )


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0].unsqueeze(0) if len(tensors) == 1 else torch.stack(list(tensors))


def _weights(shape: Shape, model: Any) -> Weights:
    """Return one model's weights, without the leading axis."""
    layers = tuple(map(_layer, shape.layers, model.interactions, model.products, model.readouts))
    embedding = model.node_embedding.linear.weight
    like, ones = embedding.detach(), embedding.new_ones(1)
    scaled = hasattr(model, "scale_shift")
    return Weights(
        embedding=_block(embedding, shape.embedding),
        layers=layers,
        scale=model.scale_shift.scale.view(-1).to(like) if scaled else ones,
        shift=model.scale_shift.shift.view(-1).to(like) if scaled else 0.0 * ones,
        elements=model.atomic_energies_fn.atomic_energies.view(-1).to(like),
    )


def _layer(layer: Layer, interaction: Any, product: Any, readout: Any) -> LayerWeights:
    normalization = 1.0 if layer.density else 1.0 / float(interaction.avg_num_neighbors)
    return LayerWeights(
        up=_blocks(interaction.linear_up.weight, layer.up),
        skip=_blocks(interaction.skip_tp.weight, layer.skip),
        radial=_radial(layer, interaction.conv_tp_weights),
        density=_perceptron(interaction.density_fn, 1.0) if layer.density else (),
        linear=_blocks(interaction.linear.weight, layer.linear, normalization),
        contraction=tuple(
            torch.cat(order_weights(one), dim=1).transpose(0, 1)
            for one in product.symmetric_contractions.contractions
        ),
        product=_blocks(product.linear.weight, layer.product),
        readout=tuple(
            block
            for linear, blocks in zip(linears(readout), layer.readout, strict=True)
            for block in _blocks(linear.weight, blocks)
        ),
    )


def _blocks(weight: Tensor, blocks: Sequence[Block], factor: float = 1.0) -> tuple[Tensor, ...]:
    return tuple(_block(weight, block, factor) for block in blocks)


def _block(weight: Tensor, block: Block, factor: float = 1.0) -> Tensor:
    """Return one degree's matrix (rows, columns) out of a flat parameter."""
    part = weight[block.start : block.start + block.rows * block.columns]
    return part.view(block.rows, block.columns) * (block.scale * factor)


def _radial(layer: Layer, network: Any) -> tuple[Tensor, ...]:
    """Return the matrices of the radial network; the last one has the paths in their order."""
    *first, last = _perceptron(network, layer.radial)
    if layer.order != tuple(sorted(layer.order)):
        last = last.unflatten(1, (len(layer.order), -1))[:, list(layer.order)].flatten(1)
    return (*first, last)


def _perceptron(network: Any, constant: float) -> tuple[Tensor, ...]:
    """Return the matrices of an e3nn `FullyConnectedNet`.

    The activation's constant goes into the matrix that follows it.
    """
    found = []
    for index in range(len(network.hs) - 1):
        weight = getattr(network, f"layer{index}").weight
        factor = (constant if index else 1.0) / weight.shape[0] ** 0.5
        found.append(weight * factor)
    return tuple(found)
