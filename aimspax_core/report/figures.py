"""Figures of a campaign, from its journal alone."""

from __future__ import annotations

from math import log10
from pathlib import Path
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from aimspax_core.campaign.journal import entries
from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.campaign.stopping import outlooks
from aimspax_core.report.curves import Curves, curves
from aimspax_core.report.forecast import HELD_OUT, Ahead
from aimspax_core.report.looks import BLUE, GREEN, GREY, PALE, SKY, VERMILION, frame
from aimspax_core.report.progress import title_of
from aimspax_core.run_directory import RunDir
from aimspax_core.safe_files import replacing
from aimspax_core.stopping.rule import Stage
from aimspax_core.text import duration_text

_THRESHOLDS = (VERMILION, BLUE, "#CC79A7", "#E69F00")  # of as many geometries; more have one


def learning_curve(run: RunDir, path: Path) -> None:
    """Draw how a campaign learnt, from its journal: force error, and uncertainty with threshold.

    Args:
        run: A run directory, its campaign finished or not.
        path: The PNG to write; at every moment it is either the old one or the new one.
    """
    figure = learning_figure(curves(entries(run.journal)))
    with replacing(path) as aside:
        figure.savefig(aside, metadata={"Software": None})


def learning_figure(found: Curves) -> Figure:
    """Return the drawing of what curves tell; see `learning_curve`."""
    figure = Figure(figsize=(9.0, 4.8), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    errors, checks = figure.subplots(1, 2, width_ratios=(1.25, 1.0))
    figure.subplots_adjust(left=0.075, right=0.985, bottom=0.245, top=0.82, wspace=0.2)
    _headings(figure, found)
    _draw_errors(errors, found)
    _draw_checks(checks, found)
    return figure


def _headings(figure: Figure, found: Curves) -> None:
    state = found.state
    if state is None:
        figure.text(0.075, 0.94, "Nothing has been run yet", size=13, weight="bold")
        return
    name = state.rules.tags[0].rpartition("-")[0] or state.rules.tags[0]
    counts = f"{state.labels} labels, {len(state.members)} models"
    title = f"{name}: {counts}, {duration_text(found.seconds)}"
    figure.text(0.075, 0.94, title, size=13, weight="bold")
    match state.phase:
        case Phase.FINISHED:
            below = f"explored until: {state.stop_reason}"
        case Phase.FAILED:
            below = f"stopped: {state.stop_reason}"
        case _:
            below = f"so far: {title_of(state.phase)}"
    figure.text(0.075, 0.895, below, size=9.5, color=GREY)


def _draw_errors(axes: Axes, found: Curves) -> None:
    frame(axes, "labels", "force MAE (meV/Å)")
    if not found.mean or found.state is None:
        _nothing(axes, "no model has been trained yet")
        return
    foretold = found.ahead
    for curve in found.members.values():
        axes.plot(
            *zip(*curve, strict=True), color=SKY, linewidth=1.1, marker=".", markersize=2.5,
            label="each model",
        )  # fmt: skip
    axes.plot(
        *zip(*found.mean, strict=True), color=BLUE, linewidth=2.4, marker="o",
        markersize=2.8, label=f"their mean (last {_short(found.mean[-1][1])})",
    )  # fmt: skip
    if found.held_out:
        axes.plot(
            *zip(*found.held_out, strict=True), color=GREEN, linewidth=1.8, marker="s",
            markersize=3.0, label=f"held-out set (last {_short(found.held_out[-1][1])})",
        )  # fmt: skip
    for one in foretold:
        _draw_ahead(axes, one)
    if found.converged:
        axes.plot(
            *zip(*found.converged.items(), strict=True), linestyle="none", marker="*",
            markersize=15, color=VERMILION, markeredgecolor="white", zorder=5,
            label=f"converged ({_short(list(found.converged.values())[-1])})",
        )  # fmt: skip
    if found.delivered:
        axes.plot(
            *zip(*found.delivered.items(), strict=True), linestyle="none", marker="*",
            markersize=15, color=GREEN, markeredgecolor="white", zorder=5,
            label=f"… on the held-out set ({_short(list(found.delivered.values())[-1])})",
        )  # fmt: skip
    last = found.mean[-1][0]
    farthest = (one.labels[-1] for one in foretold)
    end = max(last, *found.converged, *found.delivered, *farthest, found.explored_from or 0, 1)
    axes.set_xlim(0, 1.03 * end)
    boundary = found.explored_from
    if boundary is None:
        _goals(axes, found.state, "initial")
    else:
        share = boundary / axes.get_xlim()[1]
        if not found.state.adopted:
            _goals(axes, found.state, "initial", share)
        _goals(axes, found.state, "active")
        axes.axvspan(boundary, axes.get_xlim()[1], color=PALE, zorder=-2)
        axes.axvline(boundary, color=GREY, linewidth=0.8, zorder=-1)
        _above(axes, "active learning", "right")
    _above(axes, "taken over" if found.state.adopted else "initial dataset")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    _log_scale(axes, [error for curve in found.members.values() for _, error in curve]
               + [*found.converged.values(), *found.delivered.values()]
               + [error for _, error in found.held_out]
               + [1000 * error for one in foretold for error in _bounds(one)])  # fmt: skip
    _legend(axes, columns=2)


def _draw_ahead(axes: Axes, one: Ahead) -> None:
    """Draw how an error goes on, with its interval."""
    color = GREEN if one.on == HELD_OUT else BLUE
    least, value, most = (
        [1000 * getattr(error, name) for error in one.errors] for name in ("least", "value", "most")
    )
    axes.fill_between(one.labels, least, most, color=color, alpha=0.13, linewidth=0, zorder=0)
    said = f"{_short(value[-1])} ({_short(least[-1])} to {_short(most[-1])})"
    where = "held-out set" if one.on == HELD_OUT else "validation"
    axes.plot(
        one.labels, value, color=color, linewidth=1.2, linestyle=(0, (2, 2)),
        label=f"at {one.labels[-1]:.0f} labels, {where}: {said}",
    )  # fmt: skip


def _bounds(one: Ahead) -> tuple[float, float]:
    return min(e.least for e in one.errors), max(e.most for e in one.errors)


def _draw_checks(axes: Axes, found: Curves) -> None:
    rules = found.state.rules if found.state else None
    of, unit = ("", "eV/Å")
    if rules is not None:
        of, unit = rules.whose_uncertainty, rules.uncertainty_unit
    frame(axes, "uncertainty checks", f"uncertainty{of} ({unit})")
    shown = [(n, value) for n, value in enumerate(found.checks, start=1) if value > 0]
    if not shown:
        begun = found.explored_from is not None
        _nothing(axes, "no check yet" if begun else "active learning has not begun")
        return
    size = min(14.0, max(2.0, 6000 / len(shown)))
    numbers, values = zip(*shown, strict=True)
    axes.scatter(numbers, values, s=size, color=GREEN, alpha=0.55, linewidths=0, label="one check")
    several = len(found.thresholds) > 1
    for number, curve in found.thresholds.items():
        whose = f" of geometry {number}" if several else ""
        if max(found.thresholds) < len(_THRESHOLDS):
            name, color = f"threshold{whose} (last {curve[-1][1]:.2g})", _THRESHOLDS[number]
        else:
            name, color = "threshold of each geometry", VERMILION
        axes.plot(*zip(*curve, strict=True), color=color, linewidth=2.2, label=name)
    axes.set_xlim(0, 1.02 * len(found.checks))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    _log_scale(axes, list(values))
    _above(axes, "above the threshold: halted and labelled")
    # On the right: what the error's legend says of the future is long.
    _legend(axes, columns=1 if len(found.thresholds) == 1 else 2, side="right")


def _log_scale(axes: Axes, values: list[float]) -> None:
    """Log axis with plain numbers, and with a few of them where values are near each other."""
    low, high = axes.get_ylim() if not values else (min(values), max(values))
    axes.set_yscale("log")
    if values and 0 < high < 2 * low:
        middle = (low * high) ** 0.5
        axes.set_ylim(middle / 1.5, 1.5 * middle)
    decades = log10(high / low) if low > 0 else 1.0
    subs = (1, 1.5, 2, 3, 4, 5, 7) if decades < 1.0 else (1, 2, 5) if decades < 2.5 else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=subs))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)


def _goals(axes: Axes, state: CampaignState, stage: Stage, end: float = 1.0) -> None:
    """A line at each force MAE that ends a phase, up to `end` in fractions of the axis."""
    for outlook in outlooks(state, stage):
        if outlook.rule.goal:
            _goal(axes, 1000 * outlook.limit, end, outlook.rule.goal)


def _goal(axes: Axes, goal: float, end: float, name: str) -> None:
    dashes = (0, (4, 3))
    axes.axhline(goal, 0.0, end, color="black", linewidth=1.0, linestyle=dashes, zorder=1)
    axes.annotate(
        f"{name}: {goal:.3g}", (0, goal), (6, 3), textcoords="offset points",
        xycoords=axes.get_yaxis_transform(), size=9, color="black",
    )  # fmt: skip


def _above(axes: Axes, text: str, side: Literal["left", "right"] = "left") -> None:
    """A line of text on top of the frame, at its left or right end."""
    axes.annotate(
        text, (float(side == "right"), 1.0), (0, 4), xycoords="axes fraction",
        textcoords="offset points", ha=side, size=9.5,
    )  # fmt: skip


def _legend(axes: Axes, columns: int, side: Literal["left", "right"] = "left") -> None:
    """Say below the axes what each line is, wherever the lines run, from one side of them on."""
    handles, labels = axes.get_legend_handles_labels()
    once: dict[str, Any] = dict(zip(labels, handles, strict=True))
    corner: Literal["upper left", "upper right"] = "upper left"
    end = -0.04
    if side == "right":
        corner, end = "upper right", 1.02
    axes.legend(
        once.values(), once.keys(), loc=corner, bbox_to_anchor=(end, -0.165), ncols=columns,
        fontsize=8.8, frameon=False, borderaxespad=0.0, columnspacing=1.2, handlelength=1.6,
    )  # fmt: skip


def _short(value: float) -> str:
    """Return a number with three digits, and no power of ten."""
    return f"{float(f'{value:.3g}'):g}"


def _nothing(axes: Axes, why: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", size=11, color=GREY)
