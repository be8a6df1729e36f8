"""Labels against what the committee had said of them before any member learnt them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from aimspax_core.report.looks import BLUE, GREEN, GREY, VERMILION, frame

_COLORS = (BLUE, VERMILION, GREEN, "#CC79A7", "#E69F00", GREY)
_DOTS = 6000
"""Force components that are drawn at most."""


@dataclass(frozen=True)
class Compared:
    """One structure of N atoms, as the committee saw it and as its label tells.

    Attributes:
        symbols: Elements, N of them.
        said: Mean forces of the committee, shape (N, 3), in eV/Å.
        true: Forces of the label, likewise.
        said_energy: Mean energy of the committee, in eV.
        true_energy: That of the label.
    """

    symbols: tuple[str, ...]
    said: NDArray[np.float64]
    true: NDArray[np.float64]
    said_energy: float
    true_energy: float


def parity_figure(compared: list[Compared]) -> Figure | None:
    """Return a drawing of predicted against true forces and energies; None: nothing to draw.

    Energies are per atom, less their mean over the structures of the same composition: the constant
    part of a committee's error moves with each training.
    """
    if not compared:
        return None
    figure = Figure(figsize=(9.0, 4.2), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    forces, energies = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.08, right=0.985, bottom=0.125, top=0.86, wspace=0.22)
    error = np.concatenate([np.abs(one.said - one.true).ravel() for one in compared]).mean()
    title = f"The last {len(compared)} labels, before they were learnt: force MAE"
    figure.text(0.08, 0.93, f"{title} {1000 * error:.3g} meV/Å", size=13, weight="bold")
    _draw_forces(forces, compared)
    _draw_energies(energies, compared)
    return figure


def _draw_forces(axes: Axes, compared: list[Compared]) -> None:
    frame(axes, "force of the label (eV/Å)", "force said by the committee (eV/Å)")
    symbols = np.concatenate([np.array(one.symbols) for one in compared])
    true, said = (np.concatenate([getattr(one, w) for one in compared]) for w in ("true", "said"))
    every = max(1, true.size // _DOTS)
    kinds, counts = np.unique(symbols, return_counts=True)
    for color, kind in zip(_COLORS, kinds[np.argsort(-counts)], strict=False):
        mine = symbols == kind
        x, y = (values[mine].ravel()[::every] for values in (true, said))
        axes.scatter(x, y, s=5, color=color, alpha=0.5, linewidths=0, label=str(kind))
    _equal(axes, true, said)
    axes.legend(fontsize=9.5, frameon=False, loc="upper left", markerscale=2.5)


def _draw_energies(axes: Axes, compared: list[Compared]) -> None:
    frame(axes, "energy of the label (meV/atom)", "energy said by the committee (meV/atom)")
    by_formula: dict[tuple[str, ...], list[Compared]] = {}
    for one in compared:
        by_formula.setdefault(tuple(sorted(one.symbols)), []).append(one)
    pairs = []
    for formula, some in by_formula.items():
        found = np.array([(one.true_energy, one.said_energy) for one in some]) / len(formula)
        pairs.append(1000 * (found - found.mean(axis=0)))
    true, said = np.concatenate(pairs).T
    axes.scatter(true, said, s=14, color=BLUE, alpha=0.7, linewidths=0)
    axes.set_title("less their mean", size=9.5, loc="left")
    _equal(axes, true, said)


def _equal(axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    """Draw the line on which both are equal, over all that is shown."""
    ends = [min(x.min(), y.min()), max(x.max(), y.max())]
    axes.plot(ends, ends, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
