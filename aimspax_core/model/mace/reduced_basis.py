"""The reduced basis of MACE's product: couplings of equal factors that differ, each once.

MACE's symmetric contraction (Batatia et al., arXiv:2206.07697, eqs. 10 and 11) couples ν copies of
the same features A by tensors U to an irrep L. In the *full* basis these are all ways of coupling
one copy after another by Clebsch-Gordan coefficients (eq. 11). Only the part of U that is symmetric
in the ν copies counts, and of these parts fewer are independent (for L = 0, ν = 3 and degrees up to
3: 8 of 23). The *reduced* basis spans just them. MACE has it from the package cuequivariance, and
takes it, unless told otherwise, wherever that is installed. Here it is computed without it.

How: the symmetric power of a sum of irreps is the sum, over all ways of sharing ν copies out among
the irreps, of products of symmetric powers of each. A power of one irrep is the part of a product
of two smaller powers that is symmetric. At the end, combinations make the tensors sparser.

The tensors are those of cuequivariance 0.2 to 0.13, in its order, so that weights mean the same:
checked to rounding, in float64, for degrees up to 3 with ν up to 3 and L up to 3, and for most of
what is beyond. A few of the rest (ν = 3 with degree 4 and L ≥ 2, or ν = 4 with degree 3) come out
as other combinations of the same tensors, as they do in the package itself in float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import permutations
from typing import Any

import numpy as np
import torch
from e3nn import o3
from numpy.typing import NDArray

Tensors = NDArray[np.float64]
"""Coupling tensors of one irrep L, of shape (how many, 2L + 1, one axis a copy …)."""

Power = dict[Any, Tensors]
"""Coupling tensors by the irrep that they couple to."""

_ZERO = 1e-9
"""What is smaller in a coefficient is rounding."""

_SWEEPS = 20
"""Most sweeps of `_sparser` through the pairs of tensors."""


def reduced_couplings(
    irreps_in: o3.Irreps, irrep_out: o3.Irrep, correlation: int, dtype: torch.dtype
) -> torch.Tensor:
    """Return the reduced basis in the form of MACE's `U_matrix_real`.

    Args:
        irreps_in: Irreps of one copy of the features, one channel each.
        irrep_out: The irrep L that the product is coupled to.
        correlation: How many copies, ν.
        dtype: The number format to return.

    Returns:
        Tensors U, of shape (2L + 1, n, …, n, paths) with ν axes of n = `irreps_in.dim`, without the
        first axis for scalars; one path of zeros if there is none.
    """
    irreps = tuple(ir for mul, ir in irreps_in for _ in range(mul))
    found = _couplings(irreps, irrep_out, correlation)
    if found is None:
        found = np.zeros((1, irrep_out.dim, *[irreps_in.dim] * correlation))
    tensors = torch.from_numpy(np.moveaxis(found, 0, -1).copy()).to(dtype)
    return tensors[0] if irrep_out.dim == 1 else tensors


@cache
def _couplings(irreps: tuple[Any, ...], out: Any, copies: int) -> Tensors | None:
    """Return the symmetric coupling tensors of copies of a sum of irreps; None: no such."""
    blocks = []
    for shares in _shares(len(irreps), copies):
        chosen = [index for index, share in enumerate(shares) if share]
        degree = degree_of_all = sum(shares[index] * irreps[index].l for index in chosen)
        current: Power = {}
        for index in chosen:
            own = shares[index] * irreps[index].l
            power = _power(irreps[index], shares[index], out.l + degree_of_all - own, sparse=True)
            degree -= own  # of what is still to come
            current = _coupled(current, power, out.l + degree) if current else power
        if out in current:
            labels = [index for index in chosen for _ in range(shares[index])]
            blocks.append(_symmetrised(current[out], labels, irreps))
    return _sparser(np.concatenate(blocks)) if blocks else None


def _shares(parts: int, total: int) -> Iterator[tuple[int, ...]]:
    """Yield all ways of sharing out `total` among `parts`, those with most for the first first."""
    if parts == 1:
        yield (total,)
        return
    for first in range(total, -1, -1):
        for rest in _shares(parts - 1, total - first):
            yield first, *rest


@cache
def _power(ir: Any, copies: int, most: int, sparse: bool) -> Power:
    """Return the symmetric coupling tensors of copies of one irrep, by what they couple to.

    Args:
        ir: The irrep.
        copies: How many.
        most: Highest degree that is wanted.
        sparse: With the combinations that make them sparser.
    """
    if copies == 1:
        return {ir: np.identity(ir.dim)[None]}
    if sparse:
        return {out: _sparser(one) for out, one in _power(ir, copies, most, sparse=False).items()}
    more, less = _halves(copies)
    one = _power(ir, more, most + less * ir.l, sparse=False)
    other = _power(ir, less, most + more * ir.l, sparse=False)
    symmetric = {}
    for out, found in _coupled(one, other, most).items():
        first = found[:, 0]
        averaged = sum(np.transpose(first, (0, *order)) for order in _orders(copies))
        flat = first.reshape(len(first), -1)
        overlap = flat @ np.reshape(averaged, flat.shape).T / len(_orders(copies))
        rows = _orthonormal(overlap)  # of the projector on what is symmetric
        if len(rows):
            symmetric[out] = _rounded(np.tensordot(rows, found, 1))
    return symmetric


def _halves(copies: int) -> tuple[int, int]:
    """Return of how many copies the two powers are whose product holds a power.

    Powers are put together two by two, the smallest first, the latest in front.
    """
    sizes = [1] * copies
    while len(sizes) > 2:
        pairs = [(i, j) for i in range(len(sizes)) for j in range(i + 1, len(sizes))]
        i, j = min(pairs, key=lambda pair: sizes[pair[0]] + sizes[pair[1]])
        merged = sizes[i] + sizes[j]
        sizes = [merged, *(size for k, size in enumerate(sizes) if k not in (i, j))]
    return sizes[0], sizes[1]


def _orders(copies: int) -> list[tuple[int, ...]]:
    """Return the axes of all copies in every order; axis 0 is no copy."""
    return [tuple(1 + axis for axis in order) for order in permutations(range(copies))]


def _coupled(one: Power, other: Power, most: int) -> Power:
    """Couple two sets of tensors of different copies to all irreps of degrees up to `most`.

    The Clebsch-Gordan coefficients are orthonormal for each component of what they couple to.
    """
    made: dict[Any, list[Tensors]] = {}
    for ir_1 in _sorted(one):
        for ir_2 in _sorted(other):
            for ir in ir_1 * ir_2:
                if ir.l > most:
                    continue
                gordan = o3.wigner_3j(ir_1.l, ir_2.l, ir.l, dtype=torch.float64).numpy()
                left = np.tensordot(one[ir_1], gordan, ([1], [0]))  # u, copies, j, k
                both = np.tensordot(left, other[ir_2], ([-2], [1]))  # u, copies, k, v, copies
                both = np.moveaxis(both, [one[ir_1].ndim - 1, one[ir_1].ndim], [2, 1])
                made.setdefault(ir, []).append(
                    np.sqrt(ir.dim) * both.reshape(-1, ir.dim, *both.shape[3:])
                )
    return {ir: np.concatenate(made[ir]) for ir in _sorted(made)}


def _sorted(power: dict[Any, Any]) -> list[Any]:
    return sorted(power, key=lambda ir: (ir.l, ir.p))


def _symmetrised(block: Tensors, labels: Sequence[int], irreps: Sequence[Any]) -> Tensors:
    """Put tensors of some irreps into those of all, in every different order of the irreps.

    Args:
        block: Tensors, symmetric among copies with the same label.
        labels: The index of each copy's irrep.
        irreps: All irreps.
    """
    ends = np.cumsum([ir.dim for ir in irreps])
    slices = [slice(end - ir.dim, end) for end, ir in zip(ends, irreps, strict=True)]
    whole = np.zeros((*block.shape[:2], *[ends[-1]] * len(labels)))
    seen = set()
    for order in permutations(range(len(labels))):
        arranged = tuple(labels[axis] for axis in order)
        if arranged not in seen:
            seen.add(arranged)
            axes = (0, 1, *(2 + axis for axis in order))
            whole[(slice(None), slice(None), *(slices[label] for label in arranged))] = (
                np.transpose(block, axes)
            )
    return whole / np.sqrt(len(seen))


def _orthonormal(rows: Tensors) -> Tensors:
    """Return the rows made orthonormal one after another; dependent ones are left out."""
    found: list[Any] = []
    for row in rows:
        rest = row.copy()
        for known in found:
            rest -= (known @ rest) * known
        length = np.linalg.norm(rest)
        if length > 1e-5:
            found.append(rest / length)
    return np.reshape(found, (len(found), rows.shape[1]))


def _rounded(tensors: NDArray[Any]) -> Tensors:
    return np.where(np.abs(tensors) < _ZERO, 0.0, tensors)


def _sparser(tensors: Tensors) -> Tensors:
    """Replace tensors by combinations of two, of the same norm, that have fewer coefficients.

    Where a tensor shares, up to one factor, more coefficients with another than either has alone,
    their difference takes the place of the one that has more alone. Pairs are looked at in
    turn; again only those of which one has changed, or that may do more.
    """
    rows = _rounded(tensors).reshape(len(tensors), -1)
    columns = np.any(rows != 0, axis=0)
    x = rows[:, columns]
    count = len(x)
    pairs: list[dict[int, None]] = [
        {j: None for j in range(count) if j != i} for i in range(count)
    ]  # neighbours in the order in which they were found
    for _ in range(_SWEEPS):
        changed, following = False, [dict[int, None]() for _ in range(count)]

        def look_again(i: int, j: int, following: list[dict[int, None]] = following) -> None:
            following[i].setdefault(j)
            following[j].setdefault(i)

        for i in range(count):
            for j in [other for other in pairs[i] if other > i]:
                found = _difference(x[i], x[j])
                if found is None:
                    continue
                look_again(i, j)
                replaced, row = found
                if row is not None:
                    changed = True
                    x[(i, j)[replaced]] = row
                    for k in pairs[i]:
                        if k != j:
                            look_again(k, j)
                    for k in pairs[j]:
                        if k != i:
                            look_again(k, i)
        pairs = following
        if not changed:
            break
    rows = np.zeros_like(rows)
    rows[:, columns] = x
    return rows.reshape(tensors.shape)


def _difference(one: Any, other: Any) -> tuple[int, Any] | None:
    """Return which of two rows is better replaced (0 or 1), and by what.

    None: they share no column. Without a row: no combination is sparser.
    """
    shared = (one != 0) & (other != 0)
    if not shared.any():
        return None
    ratios = one[shared] / other[shared]
    _, first, counts = np.unique(np.round(ratios, 8), return_index=True, return_counts=True)
    best = int(np.argmax(counts))
    alone, other_alone = int(np.sum((one != 0) & ~shared)), int(np.sum((other != 0) & ~shared))
    if counts[best] <= min(alone, other_alone):
        return 0, None
    replaced = 1 if alone < other_alone else 0
    rest = _rounded(one - ratios[first[best]] * other)
    norm = np.linalg.norm((one, other)[replaced])
    return replaced, _rounded(rest * norm / np.linalg.norm(rest))
