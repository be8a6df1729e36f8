"""The symmetric contraction of features, with its first and second derivatives.

For one output degree, Φ = Σ_M Σ_η Σ_t g_M w_η U_{Mη,t} t(a), with components M, paths η and
monomials t(a) = a_i a_j a_k, is linear in g and w. What is contracted is ∂Φ/∂g, and its gradients
are ∂Φ/∂a and ∂Φ/∂w. They are written out, since autograd would write and read each monomial many
times more; and worked through in pieces of atoms and channels that stay in a processor's cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from aimspax_core.model.mace.lean.monomials import Monomials

_PIECE = 2**15
"""Numbers in an intermediate result on a CPU: 128 KiB in float32, a fraction of its cache."""


def contract(table: Monomials, features: Tensor, weights: Tensor) -> Tensor:
    """Return ∂Φ/∂g = Σ_η w_η Σ_t U_{Mη,t} t(a).

    Args:
        table: Monomials t and coefficients U.
        features: a, shape (members, S, R); R counts atoms and channels.
        weights: w, of each atom's element, shape (members, K, R).

    Returns:
        Shape (members, 2L+1, R).
    """
    # A constant past the features is a factor of the monomials of lower order.
    features = torch.nn.functional.pad(features, (0, 0, 0, 1), value=1.0)
    if torch.compiler.is_compiling():  # a compiler derives and fuses this by itself
        return _of_paths(_basis(table, features), weights)
    found: Tensor = _Contraction.apply(features, weights, table)
    return found


class _Contraction(Function):
    """∂Φ/∂g."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weights: Tensor, table: Monomials) -> Tensor:
        pieces = [_basis(table, features[..., piece]) for piece in _pieces(table, features)]
        basis = torch.cat(pieces, dim=-1)
        ctx.table = table
        ctx.save_for_backward(features, weights, basis)
        return _of_paths(basis, weights)

    @staticmethod
    def backward(ctx: Any, *by_output: Tensor) -> tuple[Tensor | None, ...]:
        features, weights, basis = ctx.saved_tensors
        return (*_Gradient.apply(features, weights, by_output[0], basis, ctx.table), None)


class _Gradient(Function):
    """∂Φ/∂a and ∂Φ/∂w."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weights: Tensor,
        by_output: Tensor,
        basis: Tensor,
        table: Monomials,
    ) -> tuple[Tensor, Tensor]:
        ctx.table = table
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(features, weights, by_output, basis)
        pieces = [
            _by_features(table, features[..., piece], weights[..., piece], by_output[..., piece])
            for piece in _pieces(table, features)
        ]
        return torch.cat(pieces, dim=-1), _by_weights(basis, by_output, weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *along: Tensor | None) -> tuple[Tensor | None, ...]:
        features, weights, by_output, basis = ctx.saved_tensors
        table: Monomials = ctx.table
        ahead, aside = along
        found = []
        for piece in _pieces(table, features):
            change, by_piece = _along(
                table,
                features[..., piece],
                torch.zeros_like(features[..., piece]) if ahead is None else ahead[..., piece],
                _strength(table, by_output[..., piece], weights[..., piece]),
                None
                if aside is None
                else _strength(table, by_output[..., piece], aside[..., piece]),
            )
            found.append((table.coefficients @ change, by_piece))
        basis_change, by_features = (torch.cat(parts, dim=-1) for parts in zip(*found, strict=True))
        by_slope = _of_paths(basis_change, weights)
        if aside is not None:
            by_slope = by_slope + _of_paths(basis, aside)
        return by_features, _by_weights(basis_change, by_output, weights), by_slope, None, None


def _basis(table: Monomials, features: Tensor) -> Tensor:
    """Return Σ_t U t(a) of each component and path, shape (members, (2L+1) * K, R)."""
    return table.coefficients @ _product(_factors(table, features))


def _of_paths(basis: Tensor, weights: Tensor) -> Tensor:
    """Return Σ_η w_η · basis, shape (members, 2L+1, R)."""
    return (_by_path(basis, weights) * weights.unsqueeze(1)).sum(dim=2)


def _by_weights(basis: Tensor, by_output: Tensor, weights: Tensor) -> Tensor:
    """Return Σ_M g_M · basis, shape (members, K, R)."""
    return (_by_path(basis, weights) * by_output.unsqueeze(2)).sum(dim=1)


def _by_path(basis: Tensor, weights: Tensor) -> Tensor:
    members, n_paths, rows = weights.shape
    return basis.view(members, -1, n_paths, rows)


def _by_features(table: Monomials, features: Tensor, weights: Tensor, by_output: Tensor) -> Tensor:
    """Return ∂Φ/∂a."""
    factors = _factors(table, features)
    strength = _strength(table, by_output, weights)
    found = torch.zeros_like(features)
    for place, index in enumerate(table.factors):
        found.index_add_(1, index, _product([strength, *_without(factors, place)]))
    return found


def _along(
    table: Monomials, features: Tensor, ahead: Tensor, strength: Tensor, more: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return how monomials, and how ∂Φ/∂a, change along given directions.

    Args:
        table: Monomials t and coefficients U.
        features: a.
        ahead: Direction of a.
        strength: ∂Φ/∂t.
        more: Change of `strength` along the direction of w, if there is one.

    Returns:
        Shapes (members, T, R) and (members, S + 1, R).
    """
    factors, steps = _factors(table, features), _factors(table, ahead)
    others = [_without(factors, place) for place in range(len(factors))]
    change: Tensor | None = None
    found = torch.zeros_like(features)
    for place, index in enumerate(table.factors):
        change = _plus(change, [steps[place], *others[place]])
        pull: Tensor | None = None
        for other, step in enumerate(_without(steps, place)):
            pull = _plus(pull, [step, *_without(others[place], other)])
        if pull is not None:
            found.index_add_(1, index, pull * strength)
        if more is not None:
            found.index_add_(1, index, _product([more, *others[place]]))
    assert change is not None
    return change, found


def _strength(table: Monomials, by_output: Tensor, weights: Tensor) -> Tensor:
    """Return ∂Φ/∂t = Σ_M Σ_η g_M w_η U_{Mη,t}, shape (members, T, R)."""
    both = by_output.unsqueeze(2) * weights.unsqueeze(1)
    return table.coefficients.T @ both.flatten(1, 2)


def _factors(table: Monomials, features: Tensor) -> list[Tensor]:
    """Return the factors of each monomial, shape (members, T, R) each."""
    return [features.index_select(1, index) for index in table.factors]


def _product(factors: Sequence[Tensor]) -> Tensor:
    product = factors[0]
    for factor in factors[1:]:
        product = product * factor
    return product


def _plus(total: Tensor | None, factors: Sequence[Tensor]) -> Tensor:
    """Add a product to a total that is nobody else's."""
    if total is None:
        return _product(factors) if len(factors) > 1 else factors[0].clone()
    if len(factors) == 1:
        return total.add_(factors[0])
    return total.addcmul_(_product(factors[:-1]), factors[-1])


def _without(factors: list[Tensor], place: int) -> list[Tensor]:
    return factors[:place] + factors[place + 1 :]


def _pieces(table: Monomials, features: Tensor) -> list[slice]:
    """Return slices of the last axis."""
    members, _, rows = features.shape
    if features.device.type != "cpu":
        return [slice(0, rows)]
    size = max(64, _PIECE // (members * max(1, table.coefficients.shape[1])))
    return [slice(start, start + size) for start in range(0, rows, size)]
