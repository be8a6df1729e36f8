"""The symmetric contraction of features, with its first and second derivatives.

One component of one output degree is B = Σ_t F_t t(a), with monomials t(a) = a_i a_j a_k and the
factor F_t = Σ_η U_{t,η} w_η of the atom's element. With Φ = Σ g B its derivatives are ∂Φ/∂a and
∂Φ/∂F. They are written out, since autograd would write and read each monomial many times more;
and worked through in pieces of some atoms, which stay in a processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from aimspax_core.model.mace.lean.monomials import Monomials

_PIECE = 2**16
"""Numbers in an intermediate result on a CPU: 256 KiB in float32, a part of its cache."""


def contract(
    components: Sequence[Monomials],
    features: Tensor,
    weights: Tensor,
    kinds: Tensor,
    attrs: Tensor,
    plain: bool,
) -> Tensor:
    """Return Σ_η w_η Σ_t U_{t,η} t(a) of each component of one degree L.

    Args:
        components: Monomials t and coefficients U.
        features: a, shape (members, S, N, C).
        weights: w of each path and element, shape (members, K, elements, C).
        kinds: Index of each atom's element, shape (N,).
        attrs: The same as one-hot vectors, shape (N, elements).
        plain: Leave derivatives and pieces to a compiler, which does both better.

    Returns:
        Shape (members, 2L+1, N, C).
    """
    # A constant past the features is a factor of the monomials of lower order.
    features = torch.nn.functional.pad(features, (0, 0, 0, 0, 0, 1), value=1.0)
    found = []
    for table in components:
        shape = (len(weights), -1, *weights.shape[2:])
        strengths = torch.matmul(table.coefficients, weights.flatten(2)).view(shape)
        if plain:
            found.append(_value(table, features, strengths.index_select(2, kinds)))
        else:
            found.append(_Contraction.apply(features, strengths, kinds, attrs, table))
    return torch.stack(found, dim=1)


class _Contraction(Function):
    """B of features and of each element's F, shape (members, T, elements, C)."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        strengths: Tensor,
        kinds: Tensor,
        attrs: Tensor,
        table: Monomials,
    ) -> Tensor:
        ctx.table = table
        ctx.save_for_backward(features, strengths, kinds, attrs)
        found = [
            _value(table, a, strengths.index_select(2, kinds[atoms]))
            for atoms, a in _pieces(table, features)
        ]
        return torch.cat(found, dim=1)

    @staticmethod
    def backward(ctx: Any, *by_output: Tensor) -> tuple[Tensor | None, ...]:
        found = _Gradient.apply(
            *ctx.saved_tensors, by_output[0], ctx.table, ctx.needs_input_grad[1]
        )
        return (*found, None, None, None)


class _Gradient(Function):
    """∂Φ/∂a and ∂Φ/∂F."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        strengths: Tensor,
        kinds: Tensor,
        attrs: Tensor,
        by_output: Tensor,
        table: Monomials,
        trained: bool,
    ) -> tuple[Tensor, Tensor | None]:
        ctx.table = table
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(features, strengths, kinds, attrs, by_output)
        by_features = torch.empty_like(features)
        by_strengths = torch.zeros_like(strengths) if trained else None
        for atoms, a in _pieces(table, features):
            factors, g = _factors(table, a), by_output[:, None, atoms]
            f = strengths.index_select(2, kinds[atoms]).mul_(g)
            by_features[:, :, atoms] = _pulled(table, factors, f, a)
            if by_strengths is not None:
                by_strengths += torch.matmul(attrs[atoms].T, _product(factors) * g)
        return by_features, by_strengths

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *along: Tensor | None) -> tuple[Tensor | None, ...]:
        """Differentiate ⟨ȧ, ∂Φ/∂a⟩ + ⟨Ḟ, ∂Φ/∂F⟩: how the derivatives of Φ change along ȧ and Ḟ."""
        features, strengths, kinds, attrs, by_output = ctx.saved_tensors
        table: Monomials = ctx.table
        ahead, aside = along
        by_features, by_strengths = torch.zeros_like(features), torch.zeros_like(strengths)
        by_slope = torch.zeros_like(by_output)
        for atoms, a in _pieces(table, features):
            factors, g = _factors(table, a), by_output[:, None, atoms]
            if ahead is not None:
                f = strengths.index_select(2, kinds[atoms])
                change, pulled = _along(
                    table, factors, _factors(table, ahead[:, :, atoms]), f * g, a
                )
                by_features[:, :, atoms] += pulled
                by_slope[:, atoms] += (f * change).sum(dim=1)
                by_strengths += torch.matmul(attrs[atoms].T, change.mul_(g))
            if aside is not None:
                step = aside.index_select(2, kinds[atoms])
                by_slope[:, atoms] += (step * _product(factors)).sum(dim=1)
                by_features[:, :, atoms] += _pulled(table, factors, step.mul_(g), a)
        return by_features, by_strengths, None, None, by_slope, None, None


def _value(table: Monomials, features: Tensor, strengths: Tensor) -> Tensor:
    """Return Σ_t F_t t(a), with F of each atom, shape (members, N, C)."""
    return (_product(_factors(table, features)) * strengths).sum(dim=1)


def _pulled(table: Monomials, factors: Sequence[Tensor], strengths: Tensor, like: Tensor) -> Tensor:
    """Return Σ_t f_t ∂t/∂a, shape (members, S + 1, N, C)."""
    found = torch.zeros_like(like)
    for place, index in enumerate(table.factors):
        found.index_add_(1, index, _product([strengths, *_without(factors, place)]))
    return found


def _along(
    table: Monomials,
    factors: Sequence[Tensor],
    steps: Sequence[Tensor],
    strengths: Tensor,
    like: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return how t(a), and how Σ_t f_t ∂t/∂a, change as a monomial's factors do.

    Args:
        table: Monomials t.
        factors: Of each monomial, shape (members, T, N, C) each.
        steps: Their changes.
        strengths: f_t of each atom.
        like: Features.
    """
    change: Tensor | None = None
    found = torch.zeros_like(like)
    for place, index in enumerate(table.factors):
        others, moving = _without(factors, place), _without(steps, place)
        change = _plus(change, [steps[place], *others])
        pull: Tensor | None = None
        for other, step in enumerate(moving):
            pull = _plus(pull, [step, *_without(others, other)])
        if pull is not None:
            found.index_add_(1, index, pull.mul_(strengths))
    assert change is not None
    return change, found


def _factors(table: Monomials, features: Tensor) -> list[Tensor]:
    """Return the factors of each monomial, shape (members, T, N, C) each."""
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


def _without(factors: Sequence[Tensor], place: int) -> list[Tensor]:
    return [*factors[:place], *factors[place + 1 :]]


def _pieces(table: Monomials, features: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield some atoms after another, as a slice and with their features."""
    members, _, n_atoms, channels = features.shape
    size = n_atoms
    if features.device.type == "cpu":
        size = max(1, _PIECE // (members * channels * max(1, len(table.coefficients))))
    for start in range(0, n_atoms, size):
        atoms = slice(start, start + size)
        yield atoms, features[:, :, atoms]
