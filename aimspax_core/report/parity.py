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
    parts = 3 if len(dipoles) else 2
    figure = Figure(figsize=(4.5 * parts, 4.2), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, parts)
    figure.subplots_adjust(left=0.16 / parts, right=0.985, bottom=0.125, top=0.86, wspace=0.22)
    error = mean_error(np.concatenate([*forces.values()]))
    title = f"The last {len(compared)} labels, before they were learnt: force MAE"
    figure.text(0.16 / parts, 0.93, f"{title} {1000 * error:.3g} meV/Å", size=13, weight="bold")
    _draw_forces(axes[0], forces)
    _draw(axes[1], energy_pairs(compared), "energy", "meV/atom")
    axes[1].set_title("less their mean", size=9.5, loc="left")
    if len(dipoles):
        _draw(axes[2], dipoles, "dipole", "e·Å")
        axes[2].set_title(f"MAE {1000 * mean_error(dipoles):.3g} me·Å", size=9.5, loc="left")
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
    frame(axes, f"{what} of the label ({unit})", f"{what} said by the committee ({unit})")


def _equal(axes: Axes, pairs: Array) -> None:
    """Draw the line on which both are equal, over all that is shown."""
    ends = [pairs.min(), pairs.max()]
    axes.plot(ends, ends, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
