"""A power law through a learning curve, and what it says of more data, with an honest interval.

Errors of machine-learnt models fall as a power of the number of training points, in the end perhaps
to a floor: `a·n^-b + c` (Hestness et al., arXiv:1712.00409; Huang and von Lilienfeld, Chem. Rev.
120, 10187 (2020)). It is fitted to the logarithms of the errors by least squares. The intervals are
those of the profile likelihood (Pawitan, In All Likelihood, chapter 3): of all curves, with a
floor and without, whose sum of squares is not worse than the best one's by more than an F test
allows, what they say at least and at most. So a floor that cannot be excluded is in them. Errors of
one round and the next are not independent: the points count as fewer, by the correlation of
neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST = 8
"""Rounds with different numbers of labels, below which nothing is said."""

WINDOW = 4.0
"""Rounds with less than the last one's labels divided by this are not fitted: it holds late."""

LEVEL = 0.90
"""Of the intervals."""

FALLS = 0.99
"""How sure it must be that the error falls at all."""

BEYOND = 50.0
"""No forecast goes to more than this times the labels so far."""

_SLOWEST, _FASTEST = 0.01, 4.0
_BENDS = np.geomspace(0.005, 30.0, 40)  # floors, in units of the rest amid the points


@dataclass(frozen=True)
class Estimate:
    """A number, and between which bounds it lies; infinite where none is known."""

    value: float
    least: float
    most: float


@dataclass(frozen=True)
class Fit:
    """All curves that a learning curve allows: `A·((n/last)^-b + c)`, each with a range of A.

    Attributes:
        last: Labels of the last round.
        best: b, c and log A of the best curve.
        curves: The same of all that are allowed, (curves, 3).
        spread: By how much log A may be off, up and down, (curves,).
    """

    last: float
    best: tuple[float, float, float]
    curves: NDArray[np.float64]
    spread: NDArray[np.float64]

    def error(self, labels: float) -> Estimate:
        """Return the error that so many labels give, in the unit of the curve."""
        logs = _log_shape(labels / self.last, self.curves[:, 0], self.curves[:, 1])
        logs = logs + self.curves[:, 2]
        b, c, log_a = self.best
        value = math.exp(log_a) * ((labels / self.last) ** -b + c)
        least, most = np.min(logs - self.spread), np.max(logs + self.spread)
        return Estimate(value, math.exp(least), math.exp(most))

    def labels(self, error: float) -> Estimate:
        """Return how many labels give an error; infinite beyond `BEYOND` times those so far."""
        few = self._reached(error, self.curves, self.spread)
        many = self._reached(error, self.curves, -self.spread)
        best = self._reached(error, np.array([self.best]), np.zeros(1))
        # A larger A needs more labels.
        return Estimate(float(best[0]), float(np.min(many)), float(np.max(few)))

    def _reached(
        self, error: float, curves: NDArray[np.float64], more: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        rest = np.exp(math.log(error) - curves[:, 2] - more) - curves[:, 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            labels = self.last * np.where(rest > 0, rest, np.nan) ** (-1 / curves[:, 0])
        labels = np.where(np.isnan(labels), np.inf, labels)
        return np.where(labels > BEYOND * self.last, np.inf, labels)


def fit(curve: Sequence[tuple[float, float]]) -> Fit | None:
    """Return what a learning curve allows; None if it does not surely fall, or is too short.

    Args:
        curve: Numbers of labels, and the errors with them, in their order; of rounds with the same
            number the last counts.
    """
    from scipy.special import fdtri, stdtrit  # takes its time to import

    known = {n: error for n, error in curve if n > 0 and error > 0 and math.isfinite(error)}
    last = max(known, default=0.0)
    points = sorted((n, error) for n, error in known.items() if n >= last / WINDOW)
    if len(points) < LEAST:
        return None
    n, y = np.array([p[0] for p in points]), np.log([p[1] for p in points])
    x = np.log(n / last)
    slope, at_end = np.polyfit(x, y, 1)
    rest = y - slope * x - at_end
    share = _independent(rest)
    freedom = share * len(y) - 2
    if freedom < 1:
        return None
    squares, own = float(rest @ rest), float(np.sum((x - x.mean()) ** 2))
    wrong = math.sqrt(squares / freedom / (share * own)) if squares > 0 else 0.0
    if -slope <= stdtrit(freedom, FALLS) * wrong:
        return None
    left = max(1.0, share * len(y) - 3)
    curves, each, worse = _allowed(x, y, 1 + fdtri(1, left, LEVEL) / left)
    plain = np.flatnonzero(curves[:, 1] == 0)
    best = int(np.argmin(each))  # without a floor, unless that does not fit
    if len(plain):
        best = int(plain[np.argmin(each[plain])])
    spread = np.sqrt((worse - each) / len(y))
    b, c, log_a = map(float, curves[best])
    return Fit(float(last), (b, c, log_a), curves, spread)


def _allowed(
    x: NDArray[np.float64], y: NDArray[np.float64], times: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return the curves whose sum of squares is at most so many times the least one.

    Curves are looked for by how they bend, `c·e^(b·middle)`, and by b: for each bend the best b is
    found to any accuracy, then those about it. The bends are taken anew where curves are allowed,
    so that the grid is finer than what is allowed, however much data there is.

    Args:
        x: Logarithms of the labels, less that of the last, (points,).
        y: Logarithms of the errors, (points,).
        times: How much worse a curve may be.

    Returns:
        b, c and log A of each curve, (curves, 3); their sums of squares, (curves,); the largest
        that is allowed.
    """
    u, bends = x - x.mean(), np.concatenate(([0.0], _BENDS))
    for _ in range(3):
        b, squares = _best_exponents(u, y, bends)
        least = float(np.min(squares))
        good = np.flatnonzero(squares <= times * least)
        first, last = max(1, int(good[0]) - 1), min(len(bends) - 1, int(good[-1]) + 1)
        lowest = bends[first] / (10 if good[-1] == 0 else 1)
        refined = np.geomspace(lowest, bends[last], len(_BENDS))
        bends = np.concatenate(([0.0], refined))
    b, squares = _best_exponents(u, y, bends)
    worse = times * float(np.min(squares))
    good = np.flatnonzero(squares <= worse)
    b, bends, squares = b[good], bends[good], squares[good]
    turn = _slope(u, b[:, None], bends[:, None])
    own = np.sum((turn - turn.mean(axis=1, keepdims=True)) ** 2, axis=1)
    aside = np.sqrt((worse - squares) / own)[:, None] * np.linspace(-1.5, 1.5, 31)
    exponents = np.clip(b[:, None] + aside, _SLOWEST, _FASTEST).ravel()
    floors = np.repeat(bends, aside.shape[1]) * np.exp(-exponents * x.mean())
    logs = _log_shape(np.exp(x)[None, :], exponents[:, None], floors[:, None])
    heights = np.mean(y - logs, axis=1)
    each = np.sum((y - logs - heights[:, None]) ** 2, axis=1)
    curves = np.column_stack((exponents, floors, heights))
    # Rounding may put the best one itself a hair above what it was.
    allowed = each <= worse * (1 + 1e-9)
    return curves[allowed], np.minimum(each[allowed], worse), worse


def _best_exponents(
    u: NDArray[np.float64], y: NDArray[np.float64], bends: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the best b for each bend, and its sum of squares, both (bends,)."""
    low, high = np.full(len(bends), _SLOWEST), np.full(len(bends), _FASTEST)
    rows, steps = np.arange(len(bends)), np.linspace(0.0, 1.0, 17)
    for _ in range(9):
        b = low[:, None] + (high - low)[:, None] * steps
        rest = y - np.log(np.exp(-b[:, :, None] * u) + bends[:, None, None])
        rest = rest - rest.mean(axis=2, keepdims=True)
        squares = np.sum(rest**2, axis=2)
        best = np.argmin(squares, axis=1)
        low, high = b[rows, np.maximum(best - 1, 0)], b[rows, np.minimum(best + 1, 16)]
    return b[rows, best], squares[rows, best]


def _slope(
    u: NDArray[np.float64], b: NDArray[np.float64], bends: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the derivative of `log(e^(-b·u) + bend)` by b."""
    fall = np.exp(-b * u)
    return np.asarray(-u * fall / (fall + bends))


def _log_shape(
    share: float | NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the logarithm of `share^-b + c`."""
    return np.asarray(np.log(share**-b + c))


def _independent(rest: NDArray[np.float64]) -> float:
    """Return the share of points that count, by the correlation of each with the next."""
    total = float(rest @ rest)
    if total == 0.0:
        return 1.0
    r = float(rest[1:] @ rest[:-1]) / total + 1.0 / len(rest)  # a fit of a line takes some away
    r = min(0.9, max(0.0, r))
    return (1 - r) / (1 + r)
