"""Figures and structures as small PNGs."""

from __future__ import annotations

import io

import numpy as np
from ase import Atoms
from ase.visualize.plot import Matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_DPI = 90
"""Wide enough for a page, and some tens of kB."""

_LARGE = 500
"""Structures of more atoms have no picture."""


def png(figure: Figure) -> bytes:
    """Return a figure as the content of a PNG file, small enough for a page that is renewed."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=_DPI, metadata={"Software": None})
    return content.getvalue()


def structure_picture(atoms: Atoms) -> bytes | None:
    """Return a picture of a structure, seen along the axis in which it is thinnest, as a PNG.

    Returns:
        None where the structure is too large for one, or has places that are no numbers.
    """
    if not 0 < len(atoms) <= _LARGE or not np.isfinite(atoms.positions).all():
        return None
    turned = atoms.copy()
    if not atoms.pbc.any():
        centred = atoms.positions - atoms.positions.mean(axis=0)
        _, _, axes = np.linalg.svd(centred, full_matrices=False)
        if len(axes) == 3:
            turned.positions = centred @ axes.T
        turned.cell = None
    figure = Figure(figsize=(2.6, 2.2), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes_ = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    # Not `plot_atoms`, which imports pyplot with its global state.
    Matplotlib(turned, axes_, radii=0.7, show_unit_cell=2 if atoms.pbc.any() else 0).write()
    axes_.set_axis_off()
    return png(figure)
