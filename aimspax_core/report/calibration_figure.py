"""A figure of how well the uncertainty told the true error, from a campaign's journal alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from aimspax_core.campaign.journal import entries
from aimspax_core.campaign.judged import element_factors, energy_factor
from aimspax_core.campaign.state import CampaignState
from aimspax_core.report.calibration_text import calibration_text
from aimspax_core.report.judgements import Judgements, judgements
from aimspax_core.report.looks import BLUE, GREEN, GREY, VERMILION, frame
from aimspax_core.run_directory import RunDir
from aimspax_core.safe_files import replacing
from aimspax_core.uncertainty.calibration import LEAST, NODES, reliability

_IN_A_BIN = 6  # points whose mean is worth a dot


def calibration_figure(run: RunDir, path: Path) -> bool:
    """Draw true error against uncertainty, and the factor between them over time.

    Args:
        run: A run directory, its campaign finished or not.
        path: The PNG to write; at every moment it is either the old one or the new one.

    Returns:
        Whether there was anything to draw; else nothing is written.
    """
    figure = calibration_drawing(judgements(entries(run.journal)))
    if figure is None:
        return False
    with replacing(path) as aside:
        figure.savefig(aside, metadata={"Software": None})
    return True


def calibration_drawing(found: Judgements) -> Figure | None:
    """Return the drawing of what judgements tell; None if there is nothing to draw."""
    if found.state is None or not any(one.spread > 0 and one.error > 0 for one in found.points):
        return None
    figure = Figure(figsize=(9.0, 4.2), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    pairs, factors = figure.subplots(1, 2, width_ratios=(1.25, 1.0))
    figure.subplots_adjust(left=0.085, right=0.985, bottom=0.125, top=0.79, wspace=0.2)
    _headings(figure, found, found.state)
    _draw_pairs(pairs, found, found.state)
    _draw_factors(factors, found)
    return figure


def _headings(figure: Figure, found: Judgements, state: CampaignState) -> None:
    calibration = state.calibration()
    title = "true error" if calibration is None else f"True error: {calibration_text(calibration)}"
    figure.text(0.085, 0.93, title, size=13, weight="bold")
    points = tuple(found.points)
    parts = [f"{symbol} {factor:.2f}" for symbol, factor in sorted(element_factors(points).items())]
    energy = energy_factor(zip(found.ensembles, points, strict=True))
    below = f"forces by element: {', '.join(parts)}"
    below += "" if energy is None else f"; energies without their constant part: {energy:.2f}"
    figure.text(0.085, 0.88, below, size=9.5, color=GREY)


def _draw_pairs(axes: Axes, found: Judgements, state: CampaignState) -> None:
    unit, judgement = state.rules.uncertainty_unit, state.judgement
    frame(axes, f"uncertainty ({unit})", f"true error ({unit})")
    _grid(axes)
    shown = [one for one in found.points if one.spread > 0 and one.error > 0]
    for above, color, name in ((True, VERMILION, "above"), (False, GREEN, "not above")):
        some = [(one.spread, one.error) for one in shown if one.above is above]
        if some:
            x, y = zip(*some, strict=True)
            label = f"{name} the threshold"
            axes.scatter(x, y, s=10, color=color, alpha=0.6, linewidths=0, label=label)
    spreads = np.array([one.spread for one in shown])
    if len(judgement.recent) >= LEAST:
        recent = judgement.recent
        spreads_of, errors_of = [p.spread for p in recent], [p.error for p in recent]
        most = min(NODES, len(recent) // _IN_A_BIN)
        bins = reliability(spreads_of, errors_of, judgement.weights(), most)
        axes.plot(
            [one.spread for one in bins], [one.error for one in bins], color="black", marker="o",
            markersize=4.5, linewidth=0, label=f"means of the last {len(recent)}",
        )  # fmt: skip
    line = np.geomspace(spreads.min(), spreads.max(), 60)
    calibration = state.calibration()
    if calibration is not None:
        axes.plot(line, calibration.expected(line), color=BLUE, linewidth=2.0, label="expected")
    axes.plot(line, line, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), label="equal")
    for axis, scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
        scale("log")
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.legend(fontsize=8.5, frameon=False, loc="best")


def _draw_factors(axes: Axes, found: Judgements) -> None:
    frame(axes, "labels held against a prediction", "true error / uncertainty")
    _grid(axes)
    if found.factors:
        axes.plot(*zip(*found.factors, strict=True), color=BLUE, linewidth=2.0)
    axes.axhline(1.0, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_xlim(0, 1.03 * len(found.points))
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def _grid(axes: Axes) -> None:
    axes.grid(color="#E5E5E5", linewidth=0.6)
    axes.set_axisbelow(True)
