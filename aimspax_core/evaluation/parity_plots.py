"""Figures of an evaluation: predictions against labels, and errors against uncertainties."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from aimspax_core.evaluation.evaluation import Deviation, Evaluation, Scores, Trust
from aimspax_core.safe_files import replacing
from aimspax_core.uncertainty.measures import MEASURES, UncertaintyType, measure_of

Array = NDArray[np.float64]

FIGURES = (
    "energy_parity.png",
    "force_parity.png",
    "stress_parity.png",
    "error_against_uncertainty.png",
)

# Okabe and Ito's palette, which every kind of colour vision can tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#00795A", "#E69F00", "#CC79A7", "#56B4E9")
_PALE, _GREY, _BLACK = "#9CCBE8", "#666666", "#000000"

_SINGLE = 20_000
"""Beyond so many points their density is drawn, and that of the mean prediction alone."""


@dataclass(frozen=True)
class _Parity:
    """What one figure of predictions against labels shows.

    Attributes:
        axis: The name of both axes, without `reference` or `predicted`.
        field: Its errors in `FrameErrors`.
        unit: The unit of both axes.
        error_unit: The unit of errors.
        error_factor: The errors' factor from the axes' unit.
        digits: Decimals of errors in the legend.
        labels: Shape (n,).
        predictions: Shape (M, n).
    """

    axis: str
    field: str
    unit: str
    error_unit: str
    error_factor: float
    digits: int
    labels: Array
    predictions: Array


@dataclass(frozen=True)
class _Series:
    """One colour: a model or the mean of all, its errors, and what it predicts (n)."""

    name: str
    colour: str
    scores: Scores
    values: Array


def draw(found: Evaluation, folder: Path, kind: UncertaintyType = MEASURES[0].name) -> list[Path]:
    """Draw an evaluation, and remove figures of an earlier one that this one does not have.

    Args:
        found: What to draw.
        folder: Where to write `FIGURES`: parities where there are labels, and the error against
            the uncertainty where there are two models and more, and forces.
        kind: The uncertainty to draw.

    Returns:
        What was written.
    """
    figures = {name: _parity_figure(found, parity) for name, parity in _parities(found)}
    if kind in found.trust:
        figures[FIGURES[3]] = _trust_figure(found.trust[kind], kind)
    for name in FIGURES:
        if name not in figures:
            (folder / name).unlink(missing_ok=True)
            continue
        with replacing(folder / name) as aside:
            figures[name].savefig(aside, metadata={"Software": None})
    return [folder / name for name in FIGURES if name in figures]


def _parities(found: Evaluation) -> Iterator[tuple[str, _Parity]]:
    frames, predicted = found.frames, found.predictions
    models = len(found.models)
    known = np.isfinite(frames.energy)
    if known.any():
        labels, energies = frames.energy / frames.sizes, predicted.energy / frames.sizes
        centre = float(labels[known].mean())
        axis = f"energy above {centre:.3f} eV/atom".replace("-", "−")
        values = 1000 * (labels[known] - centre), 1000 * (energies[:, known] - centre)
        yield (
            FIGURES[0],
            _Parity(axis, "energy_per_atom", "meV/atom", "meV/atom", 1.0, 2, *values),
        )
    known = np.isfinite(frames.forces[:, 0])
    if known.any():
        values = frames.forces[known].ravel(), predicted.forces[:, known].reshape(models, -1)
        yield FIGURES[1], _Parity("force", "forces", "eV/Å", "meV/Å", 1000.0, 1, *values)
    known = np.isfinite(frames.stress[:, 0, 0])
    if known.any():
        values = frames.stress[known].ravel(), predicted.stress[:, known].reshape(models, -1)
        values = 1000 * values[0], 1000 * values[1]
        yield FIGURES[2], _Parity("stress", "stress", "meV/Å³", "meV/Å³", 1.0, 3, *values)


def _parity_figure(found: Evaluation, parity: _Parity) -> Figure:
    """Draw predictions against labels on the left, their errors on the right."""
    figure = Figure(figsize=(10.4, 4.9), dpi=150, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    reference = f"reference {parity.axis} ({parity.unit})"
    _panel(left, reference, f"predicted ({parity.unit})")
    _panel(right, reference, f"predicted − reference ({parity.error_unit})")
    dense = parity.labels.size > _SINGLE
    size = 14.0 if parity.labels.size < 500 else 4.0
    series = _series(found, parity)
    for one in series:
        legend = f"{one.name}: {_errors_text(getattr(one.scores.total, parity.field), parity)}"
        if dense:
            shown = " (shown)" if one is series[-1] else ""
            left.scatter((), (), color="none", label=legend + shown)
            continue
        off = parity.error_factor * (one.values - parity.labels)
        look = {"s": size, "color": one.colour, "alpha": 0.6, "linewidths": 0}
        left.scatter(parity.labels, one.values, label=legend, **look)
        right.scatter(parity.labels, off, **look)
    if dense:
        series = series[-1:]
        off = parity.error_factor * (series[0].values - parity.labels)
        _density(figure, left, parity.labels, series[0].values)
        _density(figure, right, parity.labels, off)
    low, high = _span(parity.labels, *(one.values for one in series))
    left.plot((low, high), (low, high), color=_GREY, linewidth=1.0, zorder=0)
    left.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    right.axhline(0.0, color=_GREY, linewidth=1.0, zorder=0)
    right.set_xlim(low, high)
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside upper left", ncols=2, fontsize=9.5,
        frameon=False, markerscale=14.0 / size if size < 14 else 1.5,
    )  # fmt: skip
    return figure


def _series(found: Evaluation, parity: _Parity) -> list[_Series]:
    """Return what is drawn, the most important last and thus on top."""
    many = len(found.models) > len(_COLOURS)
    series = [
        _Series(
            model.tag,
            _PALE if many else _COLOURS[m],
            found.scores[model.tag],
            parity.predictions[m],
        )
        for m, model in enumerate(found.models)
    ]
    if found.mean is not None:
        mean = parity.predictions.mean(axis=0)
        series.append(_Series("mean prediction", _BLACK, found.mean, mean))
    return series


def _trust_figure(trust: Trust, kind: UncertaintyType) -> Figure:
    """Draw each structure's force error against the uncertainty of the ensemble."""
    figure = Figure(figsize=(5.6, 5.4), dpi=150, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    unit = measure_of(kind).unit
    _panel(axes, f"uncertainty, {kind} ({unit})", f"true error by the same measure ({unit})")
    drawn = (trust.uncertainty > 0) & (trust.error > 0)
    uncertainty, error = trust.uncertainty[drawn], trust.error[drawn]
    correlations = " and ".join(
        f"{name} {value:.2f}"
        for name, value in (("Pearson", trust.pearson), ("Spearman", trust.spearman))
        if value is not None
    )
    axes.set_title(f"{len(trust.error)} structures; {correlations or 'no correlation'}", size=10.5)
    if not drawn.any():
        axes.text(0.5, 0.5, "no spread, or no error", transform=axes.transAxes, ha="center")
        return figure
    low, high = uncertainty.min(), uncertainty.max()
    low, high = min(low, error.min()) / 1.3, max(high, error.max()) * 1.3
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
    if len(error) > _SINGLE:
        _density(figure, axes, uncertainty, error, log=True)
    else:
        size = 14.0 if len(error) < 2000 else 5.0
        axes.scatter(uncertainty, error, s=size, color=_COLOURS[0], alpha=0.5, linewidths=0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.plot((low, high), (low, high), color=_GREY, linewidth=1.0, label="error = uncertainty")
    axes.legend(loc="upper left", fontsize=9.5, frameon=False)
    return figure


def _density(figure: Figure, axes: Axes, x: Array, y: Array, log: bool = False) -> None:
    """Draw how many points lie where, on a logarithmic scale."""
    scale: Literal["log", "linear"] = "log" if log else "linear"
    cells = axes.hexbin(
        x, y, gridsize=90, bins="log", mincnt=1, cmap="viridis", linewidths=0.1,
        xscale=scale, yscale=scale,
    )  # fmt: skip
    figure.colorbar(cells, ax=axes, shrink=0.75, label="points")


def _panel(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, size=10.5)
    axes.set_ylabel(y, size=10.5)
    axes.tick_params(labelsize=10, color=_GREY)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=(1, 2, 2.5, 5, 10)))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=(1, 2, 2.5, 5, 10)))
    for spine in axes.spines.values():
        spine.set_color(_GREY)


def _span(*values: Array) -> tuple[float, float]:
    """Return the ends of an axis that shows all values, with some room."""
    low, high = min(float(v.min()) for v in values), max(float(v.max()) for v in values)
    room = 0.04 * (high - low) or 1.0
    return low - room, high + room


def _errors_text(deviation: Deviation | None, parity: _Parity) -> str:
    assert deviation is not None, "a figure is drawn only of what was measured"
    mae, rmse = 1000 * deviation.mae, 1000 * deviation.rmse
    return f"MAE {mae:.{parity.digits}f}, RMSE {rmse:.{parity.digits}f} {parity.error_unit}"
