"""The shape of a MACE network: which blocks, which paths, where in each parameter they lie.

Read once off the model's own modules; says nothing about the values of its weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from e3nn import o3
from mace.modules import blocks
from torch import Tensor

from aimspax_core.model.mace.lean.monomials import Monomials, monomials


@dataclass(frozen=True)
class Block:
    """The part of a flat parameter that maps channels of one degree.

    Attributes:
        degree: l.
        start: Where it begins in the parameter.
        rows: Channels in (times elements, for products with an element).
        columns: Channels out.
        scale: e3nn's normalization.
    """

    degree: int
    start: int
    rows: int
    columns: int
    scale: float


class Path(NamedTuple):
    """One path of the convolution: features of degree l1 and harmonics of l2 give l3."""

    l1: int
    l2: int
    l3: int


@dataclass(frozen=True)
class Layer:
    """One interaction with its product and readout.

    Attributes:
        residual: Whether the features before the interaction are added after the product.
        skips_message: Whether the message is multiplied with the element.
        density: Whether messages are divided by 1 + density instead of the mean of neighbours.
        up: Of `linear_up`, a block a degree.
        skip: Of `skip_tp`, a block a degree.
        paths: Of `conv_tp`, sorted by l1, else in its own order, which sorts by l3.
        order: Where the weights of each of these stand among those of `conv_tp`.
        linear: Of `linear`, a block a degree; its rows are the paths' channels.
        product: Of the linear map after the contraction.
        radial: Activations' constant of the radial network.
        readout: Of the readout's one or two linear maps.
    """

    residual: bool
    skips_message: bool
    density: bool
    up: tuple[Block, ...]
    skip: tuple[Block, ...]
    paths: tuple[Path, ...]
    order: tuple[int, ...]
    linear: tuple[Block, ...]
    product: tuple[Block, ...]
    radial: float
    readout: tuple[tuple[Block, ...], ...]


@dataclass(frozen=True)
class Shape:
    """The network.

    Attributes:
        layers: One an interaction.
        embedding: Of the elements' embedding.
        gate: Activation of the last readout: "silu", "tanh", "abs" or "None".
        gate_scale: Its constant.
    """

    layers: tuple[Layer, ...]
    embedding: Block
    gate: str
    gate_scale: float


class LayerTables(NamedTuple):
    """Constant tensors of a layer.

    Attributes:
        coupling: Clebsch-Gordan coefficients of the paths with l1 > 0, each (2 l3 + 1) times
            (2 l1 + 1), side by side; their sum is the second axis of the shape (S, …).
        contractions: Of each degree L out, and each component.
        degree: Of each harmonic, shape (S,).
        together: Where each harmonic stands with its own degree among all pairs of harmonics and
            degrees, shape (S,).
    """

    coupling: Tensor
    contractions: tuple[tuple[Monomials, ...], ...]
    degree: Tensor
    together: Tensor


def shape(model: Any) -> Shape:
    """Return the shape of a model that has a lean form."""
    (embedding,) = _blocks(model.node_embedding.linear)
    activations = getattr(getattr(model.readouts[-1], "non_linearity", None), "acts", [None])
    activation = activations[0]
    return Shape(
        layers=tuple(map(_layer, model.interactions, model.products, model.readouts)),
        embedding=embedding,
        gate="None" if activation is None else activation.f.__name__,
        gate_scale=1.0 if activation is None else _constant(activation),
    )


def tables(model: Any) -> tuple[LayerTables, ...]:
    """Return the layers' constants, in the model's number format, where the model is."""
    return tuple(
        LayerTables(
            _coupling(interaction.conv_tp).to(model.r_max),
            tuple(map(monomials, product.symmetric_contractions.contractions)),
            *_places(interaction.conv_tp.irreps_in2.dim, model.r_max.device),
        )
        for interaction, product in zip(model.interactions, model.products, strict=True)
    )


def _layer(interaction: Any, product: Any, readout: Any) -> Layer:
    kind = type(interaction)
    paths = _paths(interaction.conv_tp)
    first = interaction.conv_tp_weights.layer0.act
    return Layer(
        residual=kind in RESIDUAL,
        skips_message=kind not in RESIDUAL,
        density=kind in DENSITY,
        up=_blocks(interaction.linear_up),
        skip=_element_blocks(interaction.skip_tp),
        paths=tuple(path for _, path in paths),
        order=tuple(index for index, _ in paths),
        linear=_blocks(interaction.linear),
        product=_blocks(product.linear),
        radial=1.0 if first is None else _constant(first),
        readout=tuple(map(_blocks, linears(readout))),
    )


RESIDUAL = (
    blocks.RealAgnosticResidualInteractionBlock,
    blocks.RealAgnosticDensityResidualInteractionBlock,
)
DENSITY = (
    blocks.RealAgnosticDensityInteractionBlock,
    blocks.RealAgnosticDensityResidualInteractionBlock,
)
"""Blocks of MACE that have a lean form, with `blocks.RealAgnosticInteractionBlock`."""


def linears(readout: Any) -> list[Any]:
    """Return the linear maps of a readout: one, or two with an activation between."""
    if isinstance(readout, blocks.LinearReadoutBlock):
        return [readout.linear]
    return [readout.linear_1, readout.linear_2]


def _constant(activation: Any) -> float:
    """Return the factor of e3nn's `normalize2mom`."""
    return 1.0 if activation._is_id else float(activation.cst)


def _blocks(linear: Any) -> tuple[Block, ...]:
    """Return the blocks of an `o3.Linear`; what goes into one degree lies one after another."""
    found: dict[int, Block] = {}
    start = 0
    for instruction in linear.instructions:
        rows, columns = instruction.path_shape
        degree = linear.irreps_out[instruction.i_out].ir.l
        before = found.get(degree, Block(degree, start, 0, columns, instruction.path_weight))
        assert before.start + before.rows * columns == start
        found[degree] = Block(
            degree, before.start, before.rows + rows, columns, instruction.path_weight
        )
        start += rows * columns
    return tuple(found.values())


def _element_blocks(product: Any) -> tuple[Block, ...]:
    """Return the blocks of a `FullyConnectedTensorProduct` with the element's one-hot vector."""
    found, start = [], 0
    for instruction in product.instructions:
        channels, elements, columns = instruction.path_shape
        degree = product.irreps_out[instruction.i_out].ir.l
        # wigner_3j(l, 0, l) is δ / sqrt(2l + 1).
        scale = instruction.path_weight / (2 * degree + 1) ** 0.5
        found.append(Block(degree, start, channels * elements, columns, scale))
        start += channels * elements * columns
    return tuple(found)


def _paths(tensor_product: Any) -> list[tuple[int, Path]]:
    """Return the paths of a `conv_tp` and their places, sorted by l1."""
    found = [
        Path(
            tensor_product.irreps_in1[instruction.i_in1].ir.l,
            tensor_product.irreps_in2[instruction.i_in2].ir.l,
            tensor_product.irreps_out[instruction.i_out].ir.l,
        )
        for instruction in tensor_product.instructions
    ]
    return sorted(enumerate(found), key=lambda item: item[1].l1)


def _coupling(tensor_product: Any) -> Tensor:
    """Return the coefficients of the paths with l1 > 0, with e3nn's normalization.

    For l1 = 0 they are 1, since e3nn multiplies wigner_3j(0, l, l) with sqrt(2l + 1).
    """
    size = tensor_product.irreps_in2.dim
    found = [torch.zeros(size, 0, dtype=torch.float64)]
    for index, (one, two, three) in _paths(tensor_product):
        if one > 0:
            scale = tensor_product.instructions[index].path_weight
            block = torch.zeros(size, 2 * three + 1, 2 * one + 1, dtype=torch.float64)
            coefficients = o3.wigner_3j(one, two, three, dtype=torch.float64) * scale
            block[two**2 : (two + 1) ** 2] = coefficients.permute(1, 2, 0)
            found.append(block.flatten(1))
    return torch.cat(found, dim=1)


def _places(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return of each of S harmonics s the degree l, and s * degrees + l."""
    degree = torch.tensor([math.isqrt(s) for s in range(size)], device=device)
    return degree, torch.arange(size, device=device) * math.isqrt(size) + degree
