"""What the network reads of a geometry, with its derivatives by the pairs' vectors."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from mace.modules.radial import ChebychevBasis
from torch import Tensor

from aimspax_core.model.mace.lean.harmonics import harmonics, polynomials


class Geometry(NamedTuple):
    """Harmonics and radial basis of P pairs, and how they change with the pairs' vectors.

    Attributes:
        vectors: Shape (P, 3), in Å.
        directions: Unit vectors, shape (P, 3).
        harmonics: Shape (P, S), S = (max_ell + 1)².
        harmonics_slope: By the vector, shape (P, 3, S), in 1/Å.
        radial: Radial basis times cutoff, shape (P, B).
        radial_slope: By the length, shape (P, B), in 1/Å.
    """

    vectors: Tensor
    directions: Tensor
    harmonics: Tensor
    harmonics_slope: Tensor
    radial: Tensor
    radial_slope: Tensor

    def pull_back(self, by_harmonics: Tensor, by_length: Tensor) -> Tensor:
        """Return dE/d(vector) of the pairs, shape (M, P, 3), in eV/Å.

        Args:
            by_harmonics: dE/d(harmonics), shape (M, P, S), in eV.
            by_length: dE/d(length) at constant harmonics, shape (M, P, 1), in eV/Å.
        """
        angular = (self.harmonics_slope * by_harmonics.unsqueeze(2)).sum(dim=-1)
        return angular + by_length * self.directions


def geometry(
    model: Any, vectors: Tensor, senders: Tensor, receivers: Tensor, kinds: Tensor
) -> Geometry:
    """Return the geometry as `model` sees it.

    Args:
        model: A MACE model, for its radial basis and the degree of its harmonics.
        vectors: Of P pairs, shape (P, 3), in Å.
        senders: Shape (P,).
        receivers: Shape (P,).
        kinds: Index of each atom's element, shape (N,).
    """
    lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    up_to = polynomials(int(model.spherical_harmonics._lmax), vectors.dtype, vectors.device)
    values, slopes = harmonics(vectors, lengths, up_to)
    radial, radial_slope = _radial(model, lengths, senders, receivers, kinds)
    return Geometry(vectors, vectors / lengths, values, slopes, radial, radial_slope)


def no_geometry(model: Any, like: Tensor) -> Geometry:
    """Return the geometry of one pair that does not count, where there is none."""
    size = (int(model.spherical_harmonics._lmax) + 1) ** 2
    n_basis = int(model.radial_embedding.out_dim)
    shapes = ((1, 3), (1, 3), (1, size), (1, 3, size), (1, n_basis), (1, n_basis))
    return Geometry(*(like.new_zeros(shape) for shape in shapes))


def _radial(
    model: Any, lengths: Tensor, senders: Tensor, receivers: Tensor, kinds: Tensor
) -> tuple[Tensor, Tensor]:
    """Return MACE's radial basis with cutoff and its derivative by the length, each (P, B).

    MACE's own functions are called with a length for each basis function, so that one pass back
    gives the derivatives of all of them.
    """
    embedding = model.radial_embedding
    with torch.enable_grad():
        once = lengths.detach().requires_grad_()
        cutoff = embedding.cutoff_fn(once)
        (cutoff_slope,) = torch.autograd.grad(cutoff.sum(), once)
        own = lengths.detach().repeat(1, int(embedding.out_dim)).requires_grad_()
        transformed = own
        if hasattr(embedding, "distance_transform"):
            one_hot = torch.nn.functional.one_hot(kinds, len(model.atomic_numbers))
            edges = torch.stack([senders, receivers])
            transformed = embedding.distance_transform(own, one_hot, edges, model.atomic_numbers)
        basis = _basis(embedding.bessel_fn, transformed)
        slope = torch.zeros_like(own)
        if basis.requires_grad:  # torch does not differentiate its Chebyshev polynomials
            (slope,) = torch.autograd.grad(basis.sum(), own)
    cutoff, basis = cutoff.detach(), basis.detach()
    return basis * cutoff, slope * cutoff + basis * cutoff_slope


def _basis(function: Any, lengths: Tensor) -> Tensor:
    """Return basis functions, each at its own length; MACE's Chebyshev basis repeats lengths."""
    if isinstance(function, ChebychevBasis):
        return torch.special.chebyshev_polynomial_t(lengths, function.n)
    values: Tensor = function(lengths)
    return values
