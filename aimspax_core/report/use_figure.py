"""A figure of the use of the pools of workers over time."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from aimspax_core.report.document.costs import PoolWork, use
from aimspax_core.report.looks import BLUE, GREEN, GREY, SKY, VERMILION, frame

_COLORS = (BLUE, GREEN, SKY, VERMILION, "#CC79A7", "#E69F00", GREY)


def use_figure(pools: Sequence[PoolWork], seconds: float) -> Figure | None:
    """Return how many workers of each pool were busy, and with what; None: nothing is known.

    Args:
        pools: Those that there are.
        seconds: For how long the campaign has run (s).
    """
    known = [pool for pool in pools if any(one.seconds for one in pool.done)]
    if not known or seconds <= 0:
        return None
    figure = Figure(figsize=(9.0, 2.4 * len(known)), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    for axes, pool in zip(
        figure.subplots(len(known), 1, squeeze=False).ravel(), known, strict=True
    ):
        kinds = [*dict.fromkeys(one.kind for one in pool.done if one.seconds)]
        curves = [use([one for one in pool.done if one.kind == kind], seconds) for kind in kinds]
        unit, scale = ("h", 1.0) if seconds > 7200 else ("min", 60.0)
        times = [scale * time for time, _ in curves[0]]
        busy = [[count for _, count in curve] for curve in curves]
        axes.stackplot(times, busy, labels=kinds, colors=_COLORS[: len(kinds)], linewidth=0)
        axes.axhline(pool.workers, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)))
        frame(axes, f"running ({unit})", "busy workers")
        axes.set_title(f"{pool.name} pool", size=10, loc="left")
        axes.set_xlim(0, scale * seconds / 3600)
        axes.set_ylim(bottom=0)
        axes.legend(
            fontsize=8.5, handlelength=1.0, columnspacing=1.2, frameon=False, ncols=len(kinds),
            loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.1,
        )  # fmt: skip
    figure.tight_layout(pad=0.5)
    return figure
