"""The moving threshold: above it, a committee is too unsure of a structure.

Source: aims-PAX (arXiv 2508.12888), "Uncertainty and threshold". Uncertainties and thresholds are
in the unit of the campaign's measure (`aimspax_core.uncertainty.measures`).

| symbol | what it is | variable |
| --- | --- | --- |
| u[1], …, u[n] | the latest uncertainties, n at most 400 | `Window.values` |
| c_x | margin relative to the mean | `c_x` |
| t | the threshold | `Window.threshold(c_x)` |

    t = (1 + c_x) / n sum of u[i]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import fsum, isfinite

WINDOW = 400
"""How many of the latest uncertainties the threshold averages over."""

WARM_UP = 10
"""The threshold exists once more than this many uncertainties have been seen."""


@dataclass(frozen=True)
class Window:
    """The memory of the moving threshold.

    Attributes:
        values: The latest uncertainties in the order they were seen, at most `WINDOW`.
        count: How many finite uncertainties were ever seen.
        frozen: The threshold for good, once set; None while it moves.
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
        """Return the threshold, or None while too few uncertainties have been seen.

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
        value: The uncertainty.
        c_x: The threshold's margin; see `Window.threshold`.

    Returns:
        The new window, the threshold (None during warm-up), and whether `value` is above it.
    """
    window = window.add(value)
    threshold = window.threshold(c_x)
    return window, threshold, threshold is not None and value > threshold
