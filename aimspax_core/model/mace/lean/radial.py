"""The radial networks: weights of the convolution's paths, and their slopes with the distance.

They depend on a pair's distance alone. So they are followed forwards, value and slope at once, and
the derivative of the energy by a distance is Σ dE/d(weight) · slope, without a way back.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from aimspax_core.model.mace.lean.weights import LayerWeights


def path_weights(own: LayerWeights, radial: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a layer weighs the messages of each pair with.

    Args:
        own: The layer's, of M models.
        radial: Radial basis of P pairs, shape (P, B).
        slope: Its derivative by the distance, shape (P, B), in 1/Å.

    Returns:
        Weights of the paths and channels, shape (M, P, paths * C), in blocks that normalize by
        density with the pair's density as a last column; and their derivatives by the distance.
    """
    basis = torch.cat([radial, slope])
    both = basis
    for matrix in own.radial[:-1]:
        value, step = torch.matmul(both, matrix).chunk(2, dim=-2)
        gate = torch.sigmoid(value)
        activated = value * gate
        both = torch.cat([activated, step * (gate + activated * (1 - gate))], dim=-2)
    weights, slopes = torch.matmul(both, own.radial[-1]).chunk(2, dim=-2)
    for matrix in own.density:
        value, step = torch.matmul(basis, matrix).chunk(2, dim=-2)
        density = torch.tanh(value**2)
        steps = 2 * value * step * (1 - density**2)
        weights, slopes = torch.cat([weights, density], -1), torch.cat([slopes, steps], -1)
    return weights, slopes


def along_lengths(by_weights: Sequence[Tensor], slopes: Sequence[Tensor]) -> Tensor:
    """Return dE/d(length), shape (M, P, 1), of each layer's dE/d(weight) and slopes."""
    parts = [
        (by * slope).sum(-1, keepdim=True) for by, slope in zip(by_weights, slopes, strict=True)
    ]
    return torch.stack(parts).sum(dim=0)
