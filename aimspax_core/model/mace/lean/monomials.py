"""The symmetric contraction (MACE, arXiv:2206.07697, eqs. 10 and 11) on its non-zero monomials.

MACE contracts U[M, i, j, k, η] with a weight of each path η, element and channel, and with the
features a_i a_j a_k of each atom and channel. Few entries of U are not zero, and the product of
features does not care for the order of i, j and k: summed over orders, a few monomials are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

_NOTHING = 1e-9
"""Coefficients below this are rounding errors of what is zero; the others are of order 1."""


class Monomials(NamedTuple):
    """One component M of one output degree L: T monomials of features, K paths.

    Attributes:
        factors: Which features each monomial multiplies: its first, second, … factor, shape (T,)
            each; the index S, past the last feature, is the constant 1.
        coefficients: U, summed over orders of the same factors, shape (T, K).
    """

    factors: tuple[Tensor, ...]
    coefficients: Tensor


def order_weights(contraction: Any) -> list[Tensor]:
    """Return a `Contraction`'s weights (elements, K, channels) of its orders ν, ascending."""
    return [*reversed(contraction.weights), contraction.weights_max]


def monomials(contraction: Any) -> tuple[Monomials, ...]:
    """Return the monomials of one of MACE's `Contraction`s, for each component M.

    Those of all orders ν stand together, ascending. Reduced and full bases differ in U alone.
    """
    orders = range(1, contraction.correlation + 1)
    buffers = [contraction.U_tensors(nu).detach().double().cpu() for nu in orders]
    # MACE leaves the axis of M out where L = 0.
    split = [
        u.unbind() if u.dim() == nu + 2 else (u,) for u, nu in zip(buffers, orders, strict=True)
    ]
    like = contraction.U_tensors(1)
    return tuple(_component(parts, like) for parts in zip(*split, strict=True))


def _component(u_matrices: Sequence[Tensor], like: Tensor) -> Monomials:
    """Return the monomials of U[i, …, η] of the orders 1, 2, …."""
    width, constant = len(u_matrices), u_matrices[0].shape[0]
    keys, blocks = zip(*map(_sorted, u_matrices), strict=True)
    padded = [
        torch.nn.functional.pad(key, (0, width - key.shape[1]), value=constant) for key in keys
    ]
    return Monomials(
        torch.cat(padded).to(like.device).T.contiguous().unbind(),
        torch.block_diag(*blocks).to(like),
    )


def _sorted(u_matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Sum U[i, …, η] over the orders of its indices: monomials (T, ν), coefficients (T, K)."""
    where = torch.nonzero(u_matrix.abs().amax(dim=-1) > _NOTHING)
    if len(where) == 0:  # no path leads from these features to L
        return where, u_matrix.new_zeros(0, u_matrix.shape[-1])
    keys, place = torch.unique(where.sort(dim=1).values, dim=0, return_inverse=True)
    summed = u_matrix.new_zeros(len(keys), u_matrix.shape[-1])
    summed.index_add_(0, place, u_matrix[tuple(where.T)])
    kept = summed.abs().amax(dim=1) > _NOTHING
    return keys[kept], summed[kept]
