"""How much a committee disagrees on a structure, and the moving threshold that calls it too much.

Source: aims-PAX (arXiv 2508.12888), "Uncertainty and threshold".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import fsum, isfinite
from typing import Literal

import numpy as np
from numpy.typing import NDArray

UncertaintyType = Literal["max_atomic_sd", "mean_atomic_sd", "ensemble_sd"]

WINDOW = 400
"""How many of the latest uncertainties the threshold averages over."""

WARM_UP = 10
"""The threshold exists once more than this many uncertainties have been seen."""


def atomic_sd(forces: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return each atom's standard deviation of the forces over members and components.

    Args:
        forces: Member forces, shape (M, N, 3), in eV/Å.

    Returns:
        Shape (N,), in eV/Å: `sd[a] = sqrt(mean over m and k of (F[m,a,k] - mean_m F[a,k])²)`.
    """
    deviation = np.asarray(forces, dtype=float)
    deviation = deviation - deviation.mean(axis=0)
    return np.sqrt((deviation**2).mean(axis=(0, 2)))


def measure(forces: NDArray[np.floating], kind: UncertaintyType | str) -> float:
    """Return the committee's uncertainty of one structure.

    Args:
        forces: Member forces, shape (M, N, 3), in eV/Å.
        kind: `max_atomic_sd` or `mean_atomic_sd`: largest or mean of the atoms' deviations;
            `ensemble_sd`: the same square root with its mean taken over all atoms too.

    Returns:
        The uncertainty in eV/Å; 0 for a committee of one, not finite if any force is not.

    Raises:
        ValueError: `kind` is none of the three.
    """
    sd = atomic_sd(forces)
    if kind == "max_atomic_sd":
        return float(sd.max())
    if kind == "mean_atomic_sd":
        return float(sd.mean())
    if kind == "ensemble_sd":
        return float(np.sqrt((sd**2).mean()))
    raise ValueError(f"unknown uncertainty type {kind!r}")


@dataclass(frozen=True)
class Window:
    """The memory of the moving threshold.

    Attributes:
        values: The latest uncertainties in the order they were seen, at most `WINDOW`, in eV/Å.
        count: How many finite uncertainties were ever seen.
        frozen: The threshold (eV/Å) for good, once set; None while it moves.
    """

    values: tuple[float, ...] = ()
    count: int = 0
    frozen: float | None = None

    def add(self, value: float) -> Window:
        """Return the window with one more uncertainty; one that is not finite is ignored.

        A single NaN would otherwise make the mean NaN, and nothing would ever cross again.
        """
        return self.extend((value,))

    def extend(self, values: Iterable[float]) -> Window:
        """Return the window with more uncertainties, in the order given; see `add`."""
        finite = tuple(float(value) for value in values if isfinite(value))
        return replace(
            self, values=(self.values + finite)[-WINDOW:], count=self.count + len(finite)
        )

    def threshold(self, c_x: float) -> float | None:
        """Return the threshold in eV/Å, or None while too few uncertainties have been seen.

        Args:
            c_x: Margin relative to the mean: `mean(values) * (1 + c_x)`.
        """
        if self.frozen is not None:
            return self.frozen
        if self.count <= WARM_UP:
            return None
        return fsum(self.values) / len(self.values) * (1 + c_x)


def check(window: Window, value: float, c_x: float) -> tuple[Window, float | None, bool]:
    """Add one uncertainty to the window and hold it against the threshold renewed with it.

    Args:
        window: What was seen before.
        value: The uncertainty in eV/Å.
        c_x: The threshold's margin; see `Window.threshold`.

    Returns:
        The new window, the threshold (eV/Å; None during warm-up), and whether `value` is above it.
    """
    window = window.add(value)
    threshold = window.threshold(c_x)
    return window, threshold, threshold is not None and value > threshold
