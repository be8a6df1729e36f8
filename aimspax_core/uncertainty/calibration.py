"""Calibration: from a committee's spread to the true error that is to be expected with it.

Source: the factor between spread and error is fitted anew as labels come, as by AiiDA-TrainsPot
(arXiv 2509.11703). Spread and error are in the unit of the campaign's measure, and reduced over
atoms in the same way (`aimspax_core.uncertainty.true_error`).

| symbol | what it is | variable |
| --- | --- | --- |
| s[i], e[i] | spread and true error of point i | `spreads`, `errors` |
| w[i] | its weight | `weights` |
| a | the factor | `Calibration.factor` |
| e(s) | the error to be expected at a spread | `Calibration.expected(s)` |

    a = sum w[i] e[i] / sum w[i] s[i]
    e(s) = a s, or through the nodes of a rising curve where there are enough points (isotonic
           regression, with a share of the line, so that it keeps the order of the spreads)

The factor is that of the straight line through the origin by least squares in which the variance of
the error grows with the spread (weights w/s): the errors it predicts have the sum of the true ones.

A committee asks for labels where its spread is high, so labelled points show too few low spreads.
Where points are known that were labelled without having been selected, each stratum (above and
below its threshold) is given the weight that it has among all checks (post-stratification; Holt and
Smith, J. R. Stat. Soc. A 142, 33, 1979).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

LEAST = 20
"""Points from which on a calibration is used to decide anything."""

FOR_A_CURVE = 100
"""Points from which on there is a curve in place of a straight line."""

NODES = 8
"""Bins of equal weight that a curve goes through."""

SHARE_OF_LINE = 0.1
"""How much of a curve is the straight line, so that it rises everywhere."""

MOST_WEIGHT = 10.0
"""How many times the weight of a selected point one that was not selected may have."""


@dataclass(frozen=True)
class Calibration:
    """The errors to be expected with the spreads of a committee.

    Attributes:
        points: How many points it is fitted to.
        factor: Error over spread.
        spearman: Rank correlation of the two, see `rank_correlation`; None where one of them does
            not vary.
        nodes: Spreads and the errors expected there, both rising; none: the straight line.
    """

    points: int
    factor: float
    spearman: float | None
    nodes: tuple[tuple[float, float], ...] = ()

    def expected(self, spreads: ArrayLike) -> Array:
        """Return the error to be expected with each spread, shape and unit of the spreads.

        Between the origin and the first node, between nodes, and beyond the last, it is linear;
        beyond, in proportion to the spread.
        """
        spread = np.asarray(spreads, dtype=float)
        if not self.nodes:
            return self.factor * spread
        at, errors = np.array([(0.0, 0.0), *self.nodes]).T
        inside = np.interp(spread, at, errors)
        return np.where(spread > at[-1], spread * (errors[-1] / at[-1]), inside)

    def spread_of(self, error: float) -> float:
        """Return the largest spread with which no larger error is to be expected."""
        if not self.nodes:
            return error / self.factor if self.factor > 0 else np.inf
        at, errors = np.array([(0.0, 0.0), *self.nodes]).T
        if error >= errors[-1]:
            return float(error * at[-1] / errors[-1]) if errors[-1] > 0 else np.inf
        right = int(np.searchsorted(errors, error, side="right"))
        share = (error - errors[right - 1]) / (errors[right] - errors[right - 1])
        return float(at[right - 1] + share * (at[right] - at[right - 1]))

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON data, from which `Calibration.of` makes it again."""
        return {
            "points": self.points,
            "factor": self.factor,
            "spearman": self.spearman,
            "nodes": [list(node) for node in self.nodes],
        }

    @classmethod
    def of(cls, content: dict[str, Any]) -> Calibration:
        """Return what `as_json` was made of.

        Raises:
            KeyError: Something is missing.
            TypeError: Something is of another kind; likewise ValueError.
        """
        nodes = tuple((float(at), float(error)) for at, error in content["nodes"])
        rank = content["spearman"]
        return cls(
            int(content["points"]),
            float(content["factor"]),
            None if rank is None else float(rank),
            nodes,
        )


@dataclass(frozen=True)
class Bin:
    """A bin of a reliability diagram: points, and the means of spread and error in it."""

    points: int
    spread: float
    error: float


def calibrated(
    spreads: ArrayLike,
    errors: ArrayLike,
    weights: ArrayLike | None = None,
    groups: Sequence[Hashable] | None = None,
    share_of_line: float = SHARE_OF_LINE,
) -> Calibration | None:
    """Fit a calibration to points.

    Args:
        spreads: Of each of n points, shape (n,); not negative.
        errors: The true errors, shape (n,).
        weights: Shape (n,), positive; None: all the same.
        groups: In which group each is whose ranks are held against each other; None: all in one.
        share_of_line: How much of a curve is the straight line, 0 to 1.

    Returns:
        None where no point has a spread.
    """
    spread, error = np.asarray(spreads, dtype=float), np.asarray(errors, dtype=float)
    weight = np.ones(len(spread)) if weights is None else np.asarray(weights, dtype=float)
    total = float((weight * spread).sum())
    if not total > 0:
        return None
    factor = float((weight * error).sum()) / total
    nodes = (
        _nodes(spread, error, weight, factor, share_of_line) if len(spread) >= FOR_A_CURVE else ()
    )
    return Calibration(len(spread), factor, rank_correlation(spread, error, weight, groups), nodes)


def weights_of_strata(above: Sequence[bool], checks_above: int, checks_below: int) -> Array:
    """Return weights with which labelled points stand for all checks.

    Args:
        above: Of each point, whether its spread was above the threshold, shape (n,).
        checks_above: How many of all checks were.
        checks_below: How many were not.

    Returns:
        Shape (n,), 1 for points above; all 1 where one of the strata has no point or no check.
    """
    high = np.asarray(above, dtype=bool)
    weights, many, few = np.ones(len(high)), int(high.sum()), int((~high).sum())
    if many and few and checks_above and checks_below:
        share = (checks_below / few) / (checks_above / many)
        weights[~high] = min(share, MOST_WEIGHT)
    return weights


def rank_correlation(
    one: ArrayLike,
    other: ArrayLike,
    weights: ArrayLike | None = None,
    groups: Sequence[Hashable] | None = None,
) -> float | None:
    """Return Spearman's rank correlation; None where one of the two does not vary.

    Args:
        one: Values of n points, shape (n,).
        other: Others of the same points, shape (n,).
        weights: Shape (n,), positive: a point counts as if it were there so many times; None: once.
        groups: The group of each point: ranks are those within a group, as a share of it, and their
            products are summed over all; None: all are in one.
    """
    values = [np.asarray(each, dtype=float) for each in (one, other)]
    weight = np.ones(len(values[0])) if weights is None else np.asarray(weights, dtype=float)
    rows: dict[Hashable, list[int]] = defaultdict(list)
    for row in range(len(weight)):
        rows[None if groups is None else groups[row]].append(row)
    sums = np.zeros(3)
    for some in rows.values():
        each = weight[some]
        first, second = (_ranks(of[some], each) for of in values)
        sums += [(each * a * b).sum() for a, b in ((first, second), (first, first), (second,) * 2)]
    return float(sums[0] / np.sqrt(sums[1] * sums[2])) if min(sums[1:]) > 0 else None


def reliability(
    spreads: ArrayLike, errors: ArrayLike, weights: ArrayLike | None = None, bins: int = NODES
) -> list[Bin]:
    """Return the bins of a reliability diagram: of equal weight, in the order of the spread."""
    spread, error = np.asarray(spreads, dtype=float), np.asarray(errors, dtype=float)
    weight = np.ones(len(spread)) if weights is None else np.asarray(weights, dtype=float)
    found = []
    for rows in _binned(spread, weight, bins):
        means = (np.average(values[rows], weights=weight[rows]) for values in (spread, error))
        found.append(Bin(len(rows), *map(float, means)))
    return found


def _binned(spread: Array, weight: Array, bins: int) -> list[NDArray[np.intp]]:
    """Return the points of bins of equal weight, in the order of the spread."""
    order = np.argsort(spread, kind="stable")
    middle = np.cumsum(weight[order]) - weight[order] / 2
    which = np.minimum((bins * middle / weight.sum()).astype(int), bins - 1)
    return [order[which == number] for number in range(bins) if (which == number).any()]


def _nodes(
    spread: Array, error: Array, weight: Array, factor: float, share_of_line: float
) -> tuple[tuple[float, float], ...]:
    """Return the nodes of the curve: means of bins, made to rise by isotonic regression.

    That has level blocks of bins, in which the order of the spreads is lost. So a share of the
    straight line is mixed in, whose expected errors have the same sum.
    """
    # It takes a moment to import, and a campaign begins without a curve.
    from scipy.optimize import isotonic_regression

    found = _binned(spread, weight, NODES)
    at = np.array([np.average(spread[rows], weights=weight[rows]) for rows in found])
    means = [float(np.average(error[rows], weights=weight[rows])) for rows in found]
    rising = isotonic_regression(means, weights=[float(weight[rows].sum()) for rows in found]).x
    mixed = (1 - share_of_line) * rising + share_of_line * factor * at
    nodes = [(float(a), float(b)) for a, b in zip(at, mixed, strict=True) if a > 0]
    return tuple(node for n, node in enumerate(nodes) if n == 0 or node[0] > nodes[n - 1][0])


def _ranks(values: Array, weights: Array) -> Array:
    """Return ranks less their mean, as shares of all; equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(counts) < 2:
        return np.zeros(len(values))
    total = np.bincount(inverse, weights)
    return ((np.cumsum(total) - total / 2) / total.sum() - 0.5)[inverse]
