"""Real spherical harmonics of directions, and their derivatives, as few polynomials.

In e3nn's order, signs and normalization "component": the squares of the 2l+1 harmonics of a degree
add up to 2l+1. A harmonic of degree l is a homogeneous polynomial of degree l in the direction's
x, y and z; so harmonics and their derivatives are one product of monomials and coefficients.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from e3nn import o3
from torch import Tensor


class Polynomials(NamedTuple):
    """The harmonics up to a degree, S = (max_ell + 1)², as polynomials.

    Attributes:
        exponents: Of x, y and z in each of Q monomials, shape (3, Q).
        values: Coefficients of the harmonics, shape (Q, S).
        slopes: Coefficients of their derivatives by x, y and z, shape (Q, 3 * S).
        degrees: The degree l of each harmonic, shape (S,).
    """

    exponents: Tensor
    values: Tensor
    slopes: Tensor
    degrees: Tensor


@cache
def polynomials(max_ell: int, dtype: torch.dtype, device: torch.device) -> Polynomials:
    """Return the harmonics up to degree `max_ell`."""
    size = max_ell + 1
    dense = torch.cat([_dense(degree, size) for degree in range(size)])
    grid = torch.cartesian_prod(*3 * [torch.arange(size)])
    used = grid[grid.sum(dim=1) <= max_ell]
    values = dense[:, used[:, 0], used[:, 1], used[:, 2]].T
    slopes = torch.stack([_derivative(dense, axis) for axis in range(3)])
    slopes = slopes[:, :, used[:, 0], used[:, 1], used[:, 2]].permute(2, 0, 1).flatten(1)
    degrees = torch.cat([torch.full((2 * d + 1,), d) for d in range(size)])
    return Polynomials(
        used.T.contiguous().to(device),
        values.contiguous().to(device, dtype),
        slopes.contiguous().to(device, dtype),
        degrees.to(device, dtype),
    )


def harmonics(vectors: Tensor, lengths: Tensor, up_to: Polynomials) -> tuple[Tensor, Tensor]:
    """Return harmonics of the vectors' directions and their derivatives by the vectors.

    Args:
        vectors: Shape (P, 3), in Å.
        lengths: Their lengths, shape (P, 1), in Å.
        up_to: Of `polynomials`.

    Returns:
        Harmonics (P, S), and derivatives (P, 3, S) in 1/Å.

    Notes:
        With direction u = v/r and a polynomial Y of degree l, Euler's u·∂Y/∂u = l Y gives
        ∂Y/∂v = (∂Y/∂u - l Y u) / r.
    """
    directions = vectors / lengths
    top = int(up_to.degrees[-1])
    powers = torch.cat(
        [torch.ones_like(directions).unsqueeze(-1)]
        + [directions.unsqueeze(-1) ** k for k in range(1, top + 1)],
        dim=-1,
    )
    x, y, z = (powers[:, axis].index_select(1, up_to.exponents[axis]) for axis in range(3))
    monomials = x * y * z
    values = monomials @ up_to.values
    slopes = (monomials @ up_to.slopes).view(len(vectors), 3, -1)
    radial_part = (values * up_to.degrees).unsqueeze(1) * directions.unsqueeze(2)
    return values, (slopes - radial_part) / lengths.unsqueeze(2)


@cache
def _dense(degree: int, size: int) -> Tensor:
    """Return the harmonics of one degree, shape (2l+1, size, size, size), by exponents of x, y, z.

    Degree l+1 is the part of that degree in the product of degrees 1 and l, so Clebsch-Gordan
    coefficients lead from one to the next; factor and sign are those of e3nn.
    """
    if degree == 0:
        constant = torch.zeros(1, size, size, size, dtype=torch.float64)
        constant[0, 0, 0, 0] = 1.0
        return constant
    lower = _dense(degree - 1, size)
    coupling = o3.wigner_3j(1, degree - 1, degree, dtype=torch.float64)
    product = sum(
        torch.einsum("jk,jabc->kabc", coupling[axis], _times(lower, axis)) for axis in range(3)
    )
    assert isinstance(product, Tensor)
    somewhere = torch.tensor([[0.36, 0.48, 0.8]], dtype=torch.float64)
    wanted = o3.spherical_harmonics(degree, somewhere, normalize=True, normalization="component")
    powers = somewhere[0].unsqueeze(1) ** torch.arange(size)
    found = torch.einsum("kabc,a,b,c->k", product, *powers)
    return product * (wanted[0] @ found / (found @ found))


def _times(polynomial: Tensor, axis: int) -> Tensor:
    """Multiply polynomials, below the highest degree, by x, y or z."""
    return polynomial.roll(1, dims=1 + axis)


def _derivative(polynomial: Tensor, axis: int) -> Tensor:
    """Differentiate polynomials by x, y or z."""
    shape = [1, 1, 1, 1]
    shape[1 + axis] = -1
    exponents = torch.arange(polynomial.shape[1 + axis], dtype=torch.float64).view(shape)
    return (polynomial * exponents).roll(-1, dims=1 + axis)
