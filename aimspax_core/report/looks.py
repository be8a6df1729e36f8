"""What all figures look like."""

from __future__ import annotations

from matplotlib.axes import Axes

# Okabe and Ito's palette, which every kind of colour vision can tell apart.
BLUE, SKY, VERMILION, GREEN = "#0072B2", "#9CCBE8", "#D55E00", "#00795A"
GREY, PALE = "#666666", "#F3F3F3"


def frame(axes: Axes, x: str, y: str) -> None:
    """Name both axes, and draw no more of a frame than them."""
    axes.set_xlabel(x, size=10.5)
    axes.set_ylabel(y, size=10.5)
    axes.tick_params(labelsize=10, color=GREY)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GREY)
