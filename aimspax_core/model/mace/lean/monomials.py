"""The symmetric contraction (MACE, arXiv:2206.07697, eqs. 10 and 11) on its non-zero monomials.

MACE contracts U[M, i, j, k, η] with a weight of each path η, element and channel, and with the
features a_i a_j a_k of each atom and channel. Few entries of U are not zero, and the product of
features does not care for the order of i, j and k: summed over orders, a few monomials are left.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor

_NOTHING = 1e-9
"""Coefficients below this are rounding errors of what is zero; the others are of order 1."""


class Monomials(NamedTuple):
    """One output degree L of a contraction: T monomials of features, K paths.

    Attributes:
        factors: Which features each monomial multiplies: its first, second, … factor, shape (T,)
            each; the index S, past the last feature, is the constant 1.
        coefficients: Shape ((2L+1) * K, T).
    """

    factors: tuple[Tensor, ...]
    coefficients: Tensor


def order_weights(contraction: Any) -> list[Tensor]:
    """Return a `Contraction`'s weights (elements, K, channels) of its orders ν, ascending."""
    return [*reversed(contraction.weights), contraction.weights_max]


def monomials(contraction: Any) -> Monomials:
    """Return the monomials of one of MACE's `Contraction`s, of all orders ν together, ascending.

    Reduced and full bases differ in U alone.
    """
    orders = range(1, contraction.correlation + 1)
    buffers = [contraction.U_tensors(nu) for nu in orders]
    constant, like = buffers[0].shape[-2], buffers[0]
    found = [_sorted(u_matrix, nu) for u_matrix, nu in zip(buffers, orders, strict=True)]
    keys = chain.from_iterable(keys for keys, _ in found)
    factors = [key + (constant,) * (len(orders) - len(key)) for key in keys]
    by_component = zip(*(blocks for _, blocks in found), strict=True)
    coefficients = torch.cat([torch.block_diag(*blocks) for blocks in by_component])
    return Monomials(
        tuple(torch.tensor(column, device=like.device) for column in zip(*factors, strict=True)),
        coefficients.to(like.device, like.dtype),
    )


def _sorted(u_matrix: Tensor, order: int) -> tuple[list[tuple[int, ...]], Tensor]:
    """Sum U over the orders of its indices: sorted monomials, coefficients (2L+1, K, T)."""
    dense = u_matrix.detach().double().cpu()
    if dense.dim() == order + 1:  # MACE leaves the axis of L = 0 out
        dense = dense.unsqueeze(0)
    dense = dense.movedim(0, -2)
    where = torch.nonzero(dense.abs().flatten(order).amax(dim=-1) > _NOTHING)
    if len(where) == 0:  # no path leads from these features to L
        return [], dense.new_zeros(*dense.shape[order:], 0)
    keys, place = torch.unique(where.sort(dim=1).values, dim=0, return_inverse=True)
    summed = dense.new_zeros(len(keys), *dense.shape[order:])
    summed.index_add_(0, place, dense[tuple(where.T)])
    kept = summed.abs().flatten(1).amax(dim=1) > _NOTHING
    return [tuple(key) for key in keys[kept].tolist()], summed[kept].permute(1, 2, 0)
