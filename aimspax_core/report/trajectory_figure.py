"""A figure of the uncertainty along each trajectory, against the threshold in force."""

from __future__ import annotations

from math import ceil, isfinite

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from aimspax_core.report.looks import BLUE, GREY, VERMILION

Check = tuple[int, int, float, float | None]
"""Trajectory, its MD step, uncertainty and threshold."""

_SHOWN = 12
"""Trajectories that have a panel at most: those that were checked last."""

_CHECKS = 400
"""Checks that a panel shows at most: the last."""

_COLUMNS = 4


def trajectory_figure(checks: list[Check], unit: str) -> Figure | None:
    """Return a panel for each trajectory; None while there are no checks.

    Args:
        checks: In the order in which they were made.
        unit: Of the uncertainties.
    """
    by = _last(checks)
    if not by:
        return None
    columns = min(_COLUMNS, len(by))
    rows = ceil(len(by) / columns)
    figure = Figure(figsize=(9.0, 0.7 + 1.75 * rows), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axes, (index, some) in zip(panels, sorted(by.items()), strict=False):
        steps = [step for _, step, _, _ in some]
        limits = [(step, limit) for _, step, _, limit in some if limit is not None]
        axes.scatter(steps, [value for *_, value, _ in some], s=7, color=BLUE, linewidths=0)
        if limits:
            axes.step(*zip(*limits, strict=True), color=VERMILION, linewidth=1.4, where="mid")
        axes.set_title(f"trajectory {index}", size=9, loc="left", pad=3)
        axes.tick_params(labelsize=8, color=GREY)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    for axes in panels[len(by) :]:
        axes.set_visible(False)
    figure.supxlabel("MD steps", size=9.5)
    figure.supylabel(f"uncertainty ({unit})", size=9.5)
    figure.legend(
        handles=[panels[0].collections[0], *panels[0].lines[:1]], labels=["check", "threshold"],
        ncols=2, loc="upper right", fontsize=9, frameon=False, borderaxespad=0.1,
    )  # fmt: skip
    figure.tight_layout(rect=(0.02, 0, 1, 1 - 0.22 / (0.7 + 1.75 * rows)), pad=0.4)
    return figure


def _last(checks: list[Check]) -> dict[int, list[Check]]:
    """Return the last checks of the trajectories that were checked last, by trajectory."""
    by: dict[int, list[Check]] = {}
    for check in reversed(checks):
        index, _, value, _ = check
        if not (isfinite(value) and value > 0) or (index not in by and len(by) == _SHOWN):
            continue
        some = by.setdefault(index, [])
        if len(some) < _CHECKS:
            some.append(check)
    return {index: some[::-1] for index, some in by.items()}
