"""Labels against what the committee had said of them before any member learnt them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from aimspax_core.report.compared import (
    Array,
    Compared,
    dipole_pairs,
    energy_pairs,
    force_pairs,
    mean_error,
    thinned,
)
from aimspax_core.report.looks import BLUE, GREEN, GREY, VERMILION, frame

_COLORS = (BLUE, VERMILION, GREEN, "#CC79A7", "#E69F00", GREY)
_DOTS = 6000
"""Force components that are drawn at most."""


def parity_figure(compared: Sequence[Compared]) -> Figure | None:
    """Return a drawing of predicted against true forces, energies and, where learnt, dipoles.

    Returns:
        None: there is nothing to draw.
    """
    if not compared:
        return None
    forces, dipoles = force_pairs(compared), dipole_pairs(compared)
    rows = 2 if len(dipoles) else 1  # in one row three would be too small to be read on a page
    figure = Figure(figsize=(8.2, 4.2 * rows), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, 2).ravel()
    edge = 0.53 / (4.2 * rows)
    figure.subplots_adjust(
        left=0.08, right=0.985, bottom=edge, top=1 - 1.1 * edge, wspace=0.22, hspace=0.27
    )
    error = mean_error(np.concatenate([*forces.values()]))
    title = f"The last {len(compared)} labels, before they were learnt: force MAE"
    above = f"{title} {1000 * error:.3g} meV/Å"
    figure.text(0.08, 1 - 0.55 * edge, above, size=13, weight="bold")
    _draw_forces(axes[0], forces)
    _draw(axes[1], energy_pairs(compared), "energy", "meV/atom")
    axes[1].set_title("less their mean", size=9.5, loc="left")
    if len(dipoles):
        _draw(axes[2], dipoles, "dipole", "e·Å")
        axes[2].set_title(f"MAE {1000 * mean_error(dipoles):.3g} me·Å", size=9.5, loc="left")
    for unused in axes[3:]:
        unused.set_visible(False)
    return figure


def _draw_forces(axes: Axes, pairs: dict[str, Array]) -> None:
    _name(axes, "force", "eV/Å")
    for color, (kind, found) in zip(_COLORS, thinned(pairs, _DOTS).items(), strict=False):
        true, said = found.T
        axes.scatter(true, said, s=5, color=color, alpha=0.5, linewidths=0, label=kind)
    _equal(axes, np.concatenate([*pairs.values()]))
    axes.legend(fontsize=9.5, frameon=False, loc="upper left", markerscale=2.5)


def _draw(axes: Axes, pairs: Array, what: str, unit: str) -> None:
    _name(axes, what, unit)
    true, said = pairs.T
    axes.scatter(true, said, s=14, color=BLUE, alpha=0.7, linewidths=0)
    _equal(axes, pairs)


def _name(axes: Axes, what: str, unit: str) -> None:
    frame(axes, f"{what} of the label ({unit})", f"{what} by the committee ({unit})")


def _equal(axes: Axes, pairs: Array) -> None:
    """Draw the line on which both are equal, as the diagonal of a square that shows all pairs."""
    least, most = pairs.min(), pairs.max()
    edge = 0.05 * (most - least) or 1.0
    ends = [least - edge, most + edge]
    axes.plot(ends, ends, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    axes.set(xlim=ends, ylim=ends, box_aspect=1)
