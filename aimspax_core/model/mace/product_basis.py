"""In which basis a MACE model has the couplings of its product, and how weights get to another."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import permutations
from typing import Any

import torch
from e3nn import o3
from mace.modules import symmetric_contraction

from aimspax_core.errors import ModelError
from aimspax_core.model.mace.reduced_basis import reduced_couplings
from aimspax_core.settings.families.mace import mace_architecture
from aimspax_core.settings.model import ModelSettings

_TENSORS = re.compile(r"\.symmetric_contractions\.contractions\.\d+\.U_matrix_(\d+)$")
"""Names of coupling tensors in a state dict end so; the number is the order ν."""

_EQUAL = 1e-6
"""Relative: coupling tensors of one basis, computed in two number formats."""


@contextmanager
def couplings(reduced: bool) -> Iterator[None]:
    """Have MACE build products in the reduced basis within the block; else as it is asked.

    MACE asks one function for its coupling tensors, and that needs cuequivariance for these. What
    it draws and builds with them is its own business. Hold `model_lock`.
    """
    if not reduced:
        yield
        return
    place: Any = symmetric_contraction
    asked = place.U_matrix_real
    place.U_matrix_real = _reduced
    try:
        yield
    finally:
        place.U_matrix_real = asked


def _reduced(
    irreps_in: Any, irreps_out: Any, correlation: int, dtype: torch.dtype, **_: Any
) -> list[Any]:
    """Return what MACE's `U_matrix_real` does for one irrep, in the reduced basis."""
    ((_, irrep),) = o3.Irreps(irreps_out)
    return [str(irrep), reduced_couplings(o3.Irreps(irreps_in), irrep, correlation, dtype)]


def settings_of(settings: ModelSettings, weights: Mapping[str, torch.Tensor]) -> ModelSettings:
    """Return the settings, with `use_reduced_cg` as weights have it.

    Args:
        settings: The user's.
        weights: A state dict of a model with MACE's own kernels; of others nothing can be told.
    """
    asked = mace_architecture(settings)
    for reduced in (asked.use_reduced_cg, not asked.use_reduced_cg):
        if _is_basis(weights, reduced):
            held = asked.model_copy(update={"use_reduced_cg": reduced})
            return settings.model_copy(update={"ARCHITECTURE": held})
    return settings  # of another architecture, as whoever loads them will find


def is_reduced(weights: Mapping[str, torch.Tensor]) -> bool:
    """Whether a state dict has couplings that only the reduced basis has."""
    return _is_basis(weights, True) and not _is_basis(weights, False)


def _is_basis(weights: Mapping[str, torch.Tensor], reduced: bool) -> bool:
    """Whether the couplings of a state dict are as many as in one of the bases."""
    tensors = [(int(m[1]), one) for name, one in weights.items() if (m := _TENSORS.search(name))]
    return all(one.shape[-1] == _paths(one, order, reduced) for order, one in tensors)


def _paths(tensors: torch.Tensor, order: int, reduced: bool) -> int:
    """Return how many paths a basis has that couples what these tensors couple."""
    highest = math.isqrt(tensors.shape[-2]) - 1
    degree = (tensors.shape[0] - 1) // 2 if tensors.ndim > order + 1 else 0
    irreps, out = o3.Irreps.spherical_harmonics(highest), o3.Irrep(degree, (-1) ** degree)
    if reduced:
        return reduced_couplings(irreps, out, order, torch.float64).shape[-1]
    return full_paths(irreps, out, order)


def full_paths(irreps_in: Any, irrep_out: Any, order: int) -> int:
    """Count the paths of MACE's full basis: sequences of irreps that end with `irrep_out`.

    For four copies MACE leaves out irreps between whose parity is not (-1)^l. Where there is no
    path, MACE has one of zeros.
    """
    ways = Counter({ir: mul for mul, ir in irreps_in})
    for _ in range(order - 1):
        before, ways = ways, Counter()
        for left, count in before.items():
            for mul, right in irreps_in:
                for ir in left * right:
                    if order != 4 or ir.p == (-1) ** ir.l:
                        ways[ir] += count * mul
    return ways[irrep_out] or 1


def products(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield MACE's contractions, one an irrep and layer, with their names in the model.

    A model with other kernels has none.
    """
    for layer, product in enumerate(getattr(model, "products", ())):
        for index, one in enumerate(getattr(product.symmetric_contractions, "contractions", ())):
            yield f"products.{layer}.symmetric_contractions.contractions.{index}", one


def same_couplings(model: Any, other: Any) -> bool:
    """Whether weights of the same shape in the products of two models mean the same."""
    return all(
        _equal(ours.U_tensors(order), theirs.U_tensors(order))
        for (_, ours), (_, theirs) in zip(products(model), products(other), strict=True)
        for order in range(1, ours.correlation + 1)
    )


def take_products(model: Any, other: Any) -> None:
    """Give `model` the weights of the products of `other`, so that both compute the same.

    In the same basis they are copied; else the coupling tensors that both hold say what each
    weight means. From the reduced basis, of several that do, those of the smallest norm are taken.

    Raises:
        ModelError: They are products of different features.
    """
    for (name, ours), (_, theirs) in zip(products(model), products(other), strict=True):
        for order in range(1, ours.correlation + 1):
            try:
                _take(ours, theirs, order)
            except (RuntimeError, ValueError) as error:
                raise ModelError(f"weights of order {order} in {name}: {error}") from error


def _take(ours: Any, theirs: Any, order: int) -> None:
    """Set the weights of one order ν: U (…, paths) · W (elements, paths, channels) stays."""
    mine, given = ours.U_tensors(order).detach(), theirs.U_tensors(order).detach()
    target, source = _weights(ours, order), _weights(theirs, order)
    if _equal(mine, given):
        _copy(target, source)
        return
    copies = list(range(mine.ndim - 1 - order, mine.ndim - 1))
    wanted = _symmetric(given, copies) @ source.detach().double()
    basis = _symmetric(mine, copies)
    found = torch.linalg.pinv(basis, rtol=_EQUAL) @ wanted
    missing = torch.linalg.norm(basis @ found - wanted)
    if missing > _EQUAL * torch.linalg.norm(wanted):
        raise ValueError("they couple to what the basis that is asked for does not have")
    _copy(target, found)


def _equal(tensors: torch.Tensor, others: torch.Tensor) -> bool:
    return tensors.shape == others.shape and torch.allclose(tensors.to(others), others, atol=_EQUAL)


def _weights(contraction: Any, order: int) -> torch.nn.Parameter:
    """Return the weights (elements, paths, channels) of one order; MACE has the highest first."""
    if order == contraction.correlation:
        return contraction.weights_max
    return contraction.weights[contraction.correlation - 1 - order]


def _copy(target: torch.nn.Parameter, source: torch.Tensor) -> None:
    if target.shape != source.shape:
        raise ValueError(f"{tuple(source.shape)} there, {tuple(target.shape)} here")
    with torch.no_grad():
        target.copy_(source)


def _symmetric(tensors: torch.Tensor, copies: list[int]) -> torch.Tensor:
    """Return the part that is symmetric in the axes of the copies, as a matrix (…, paths)."""
    whole = tensors.double()
    last = whole.ndim - 1
    before = list(range(copies[0]))
    parts = [whole.permute(*before, *order, last) for order in permutations(copies)]
    return torch.stack(parts).mean(dim=0).reshape(-1, whole.shape[-1])
