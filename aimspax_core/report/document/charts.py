"""Figures of the report, as plain data for plotly: traces and layout of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil, floor, log10
from typing import Any

from aimspax_core.report.document import contents
from aimspax_core.report.document.story import Story

# Okabe and Ito's palette, which every kind of colour vision can tell apart.
BLUE, SKY, VERMILION, GREEN = "#0072B2", "#9CCBE8", "#D55E00", "#00795A"
GREY, PURPLE, ORANGE, BLACK = "#666666", "#CC79A7", "#E69F00", "#222222"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK, GREY)

POINTS = 3000
"""Points of a cloud that are drawn at most; of more, evenly spaced ones."""

Figure = dict[str, Any]
Pairs = Sequence[tuple[float, float]]


def figures(report: contents.Report, story: Story) -> dict[str, Figure]:
    """Return the figures of a campaign by name; one that has nothing to show is left out."""
    drawn = {
        "learning": learning(report),
        "checks": checks(report, story),
        "calibration": calibration(report),
        "factors": factors(report),
        **parities(report.parity),
        "pools": pools(report),
        "label-times": label_times(report),
        "temperature": series(report, "temperature_K", "temperature (K)"),
        "energy": series(report, "energy_eV_per_atom", "change of energy (meV/atom)"),
        "density": series(report, "density_g_per_cm3", "density (g/cm³)"),
    }
    return {name: figure for name, figure in drawn.items() if figure["data"]}


def learning(report: contents.Report) -> Figure:
    """Draw the force errors against the labels that the models had seen."""
    found = report.learning
    traces = [
        _line(curve, tag, SKY, width=1.2, legend=number == 0, name_shown="each model")
        for number, (tag, curve) in enumerate(found.members.items())
    ]
    mean = [(r.labels_seen, r.validation_mae_f_meV_per_A) for r in found.rounds]
    held_out = [
        (r.labels_seen, r.held_out_mae_f_meV_per_A)
        for r in found.rounds
        if r.held_out_mae_f_meV_per_A is not None
    ]
    traces += [
        _line(mean, "mean, validation", BLUE, width=2.6),
        _line(held_out, "mean, held-out set", GREEN, width=2.2, symbol="square"),
        _stars(found.converged, "converged, validation", VERMILION),
        _stars(found.converged_held_out, "converged, held-out set", GREEN),
    ]
    layout = _layout("labels seen by the models", "force MAE (meV/Å)", log_y=True)
    layout["shapes"] = [
        {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": goal, "y1": goal,
         "line": {"color": BLACK, "width": 1, "dash": "dash"}}
        for goal in found.goals.values() if goal > 0
    ]  # fmt: skip
    if found.explored_from is not None:
        layout["shapes"].append(
            {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": found.explored_from,
             "x1": found.explored_from, "line": {"color": GREY, "width": 1, "dash": "dot"}}
        )  # fmt: skip
    return _figure(traces, layout)


def checks(report: contents.Report, story: Story) -> Figure:
    """Draw every check of the uncertainty, and the thresholds."""
    values = list(enumerate(story.curves.checks, start=1))
    some = [(n, value) for n, value in thinned(values) if value > 0]
    traces = [_dots(some, "a check", GREEN, 4.0, 0.5)] if some else []
    several = len(report.uncertainty.thresholds) > 1
    for number, (name, curve) in enumerate(report.uncertainty.thresholds.items()):
        label = f"threshold, geometry {name}" if several else "threshold"
        colour = VERMILION if not several else COLOURS[number % len(COLOURS)]
        traces.append(_line(thinned(curve), label, colour, width=2.4, mode="lines"))
    layout = _layout("check", f"uncertainty ({report.uncertainty.unit})", log_y=True)
    return _figure(traces, layout)


def calibration(report: contents.Report) -> Figure:
    """Draw true errors against uncertainties."""
    found = report.uncertainty
    shown = [one for one in found.points if one.spread > 0 and one.error > 0]
    traces = []
    for above, colour, name in ((True, VERMILION, "above"), (False, GREEN, "not above")):
        some = thinned([one for one in shown if one.above is above])
        points = [(one.spread, one.error) for one in some]
        trace = _dots(points, f"{name} the threshold", colour, 6.0, 0.65)
        trace["text"] = [f"label {one.key[:8]}, geometry {one.geometry}" for one in some]
        traces.append(trace)
    if shown:
        ends = min(one.spread for one in shown), max(one.spread for one in shown)
        expected = _line(found.expected, "expected", BLUE, width=2.2, mode="lines")
        equal = _line([(one, one) for one in ends], "equal", GREY, width=1, mode="lines")
        equal["line"]["dash"] = "dash"
        traces += [expected, equal]
    layout = _layout(f"uncertainty ({found.unit})", f"true error ({found.unit})", log_y=True)
    layout["xaxis"]["type"] = "log"
    return _figure(traces, layout)


def factors(report: contents.Report) -> Figure:
    """Draw the factor between true error and uncertainty, label by label."""
    curve = thinned(report.uncertainty.factors)
    traces = [_line(curve, "true error / uncertainty", BLUE, width=2.2, mode="lines")]
    layout = _layout("labels held against a prediction", "true error / uncertainty")
    layout["yaxis"]["rangemode"] = "tozero"
    return _figure(traces, layout)


def parities(found: contents.Parity | None) -> dict[str, Figure]:
    """Draw forces, energies and dipoles of labels against what the committee had said of them."""
    if found is None:
        return {}
    return {
        "forces": parity(found.forces_eV_per_A, "force", "eV/Å"),
        "energies": parity({"a structure": found.energies_meV_per_atom}, "energy", "meV/atom"),
        "dipoles": parity({"a component": found.dipoles_e_A}, "dipole", "e·Å"),
    }


def parity(pairs: Mapping[str, Pairs], what: str, unit: str) -> Figure:
    """Draw values of labels, and what the committee had said of them, by what they are of."""
    traces = [
        _dots(some, kind, COLOURS[number % len(COLOURS)], 4.0, 0.5)
        for number, (kind, some) in enumerate(pairs.items())
    ]
    layout = _layout(f"{what} of the label ({unit})", f"{what} said before ({unit})")
    values = [value for some in pairs.values() for pair in some for value in pair]
    if values:
        least, most = min(values), max(values)
        edge = 0.05 * (most - least) or 1.0
        ends = [least - edge, most + edge]
        equal = _line([(end, end) for end in ends], "equal", GREY, width=1, mode="lines")
        equal["line"]["dash"] = "dash"
        traces.append(equal)
        for axis in ("xaxis", "yaxis"):  # a square, whose diagonal is where both are equal
            layout[axis] |= {"range": ends, "constrain": "domain"}
        layout["yaxis"]["scaleanchor"] = "x"
    return _figure(traces, layout)


def pools(report: contents.Report) -> Figure:
    """Draw how many workers of each pool were busy."""
    traces = []
    for pool, colour in zip(report.costs.pools, COLOURS, strict=False):
        trace = _line(pool.use, f"{pool.name} (of {pool.workers})", colour, width=2, mode="lines")
        trace["line"]["shape"] = "hvh"
        traces.append(trace)
    layout = _layout("running time (h)", "workers busy")
    layout["yaxis"]["rangemode"] = "tozero"
    return _figure(traces, layout)


def label_times(report: contents.Report) -> Figure:
    """Draw what each label took, against when it came."""
    geometries: dict[int, list[tuple[float, float]]] = {}
    for one in report.labels:
        if one.hours is not None and one.wall_s and not one.from_store:
            geometries.setdefault(one.geometry, []).append((one.hours, one.wall_s))
    traces = [
        _dots(thinned(points), f"geometry {number}", COLOURS[number % len(COLOURS)], 5.0, 0.6)
        for number, points in sorted(geometries.items())
    ]
    return _figure(traces, _layout("running time (h)", "wall time of a label (s)", log_y=True))


def series(report: contents.Report, field: str, title: str) -> Figure:
    """Draw something of the frames of each trajectory that was saved."""
    traces = []
    for one in report.series:
        values = getattr(one, field)
        if values is None:
            continue
        if field.startswith("energy"):  # total energies of two formulas are far from each other
            values = [1000 * (value - values[0]) for value in values]
        colour = COLOURS[one.index % len(COLOURS)]
        name = f"trajectory {one.index}" if one.kind == "exploring" else f"sampling {one.index}"
        line = _line(_gaps(one.time_ps, values), name, colour, width=1.2, mode="lines")
        if one.kind == "initial":
            line["line"]["dash"] = "dot"
        traces.append(line)
    return _figure(traces, _layout("MD time (ps)", title))


def compared(campaigns: Sequence[contents.Summary]) -> dict[str, Figure]:
    """Return the figures of several campaigns over each other, by name."""
    axes = {
        "labels": ("labels_seen", "labels seen by the models"),
        "hours": ("hours", "running time (h)"),
        "core-hours": ("core_hours", "core-hours of the reference"),
    }
    sets = {_told(one.rounds)[1] for one in campaigns if one.rounds}
    drawn = {}
    for name, (field, title) in axes.items():
        traces = []
        for number, one in enumerate(campaigns):
            told, on = _told(one.rounds)
            points = [(getattr(r, field), error) for r, error in told]
            colour = COLOURS[number % len(COLOURS)]
            label = f"{one.name} ({on})" if len(sets) > 1 else one.name
            traces.append(_line(points, label, colour, width=2))
        which = f"force MAE, {min(sets)} (meV/Å)" if len(sets) == 1 else "force MAE (meV/Å)"
        drawn[name] = _figure(traces, _layout(title, which, log_y=True))
    return {name: figure for name, figure in drawn.items() if figure["data"]}


def _told(rounds: Sequence[contents.Round]) -> tuple[list[tuple[contents.Round, float]], str]:
    """Return the rounds with their errors on the held-out set, if there is one; and on what."""
    held_out = [
        (one, one.held_out_mae_f_meV_per_A)
        for one in rounds
        if one.held_out_mae_f_meV_per_A is not None
    ]
    if held_out:
        return held_out, "held-out set"
    return [(one, one.validation_mae_f_meV_per_A) for one in rounds], "validation"


def thinned(values: Sequence[Any], most: int = POINTS) -> list[Any]:
    """Return values, or evenly spaced ones of them if they are too many; the last is among them."""
    step = -(-len(values) // most) if values else 1
    return list(values[len(values) - 1 :: -step][::-1]) if step > 1 else list(values)


def _gaps(times: Sequence[float], values: Sequence[float]) -> list[tuple[float, float | None]]:
    """Break the line where a trajectory was set back: its time goes back there."""
    points: list[tuple[float, float | None]] = []
    for time, value in zip(times, values, strict=True):
        if points and time < points[-1][0]:
            points.append((time, None))
        points.append((time, value))
    return points


def _figure(traces: Iterable[Figure], layout: Figure) -> Figure:
    shown = [trace for trace in traces if trace["x"]]
    for letter in "xy":
        if layout[f"{letter}axis"].get("type") == "log":
            values = [value for trace in shown for value in trace[letter] if value]
            layout[f"{letter}axis"] |= _log_ticks(values)
    return {"data": shown, "layout": layout}


def _log_ticks(values: Sequence[float]) -> Figure:
    """Return plain numbers for the marks of a logarithmic axis."""
    if not values:
        return {}
    low, high = log10(min(values)), log10(max(values))
    digits = (1, 1.5, 2, 3, 4, 5, 7) if high - low < 1 else (1, 2, 5) if high - low < 2.5 else (1,)
    decades = range(floor(low) - 1, ceil(high) + 2)
    marks = [digit * 10.0**decade for decade in decades for digit in digits]
    return {"tickvals": marks, "ticktext": [f"{mark:g}" for mark in marks]}


def _line(
    points: Sequence[tuple[Any, Any]], name: str, colour: str, *, width: float,
    mode: str = "lines+markers", symbol: str = "circle", legend: bool = True, name_shown: str = "",
) -> Figure:  # fmt: skip
    trace = _trace(points, name_shown or name)
    trace |= {"mode": mode, "line": {"color": colour, "width": width}, "showlegend": legend}
    if "markers" in mode:
        trace["marker"] = {"color": colour, "size": 2 + 1.6 * width, "symbol": symbol}
    if name_shown:
        trace["hovertemplate"] = f"{_plain(name)}: %{{y:.4g}} (%{{x}})<extra></extra>"
    return trace


def _dots(
    points: Sequence[tuple[Any, Any]], name: str, colour: str, size: float, opacity: float
) -> Figure:
    marker = {"color": colour, "size": size, "opacity": opacity}
    return {**_trace(points, name), "mode": "markers", "marker": marker}


def _stars(points: Sequence[tuple[Any, Any]], name: str, colour: str) -> Figure:
    marker = {
        "color": colour, "size": 14, "symbol": "star", "line": {"color": "white", "width": 1}
    }  # fmt: skip
    return {**_trace(points, name), "mode": "markers", "marker": marker}


def _trace(points: Sequence[tuple[Any, Any]], name: str) -> Figure:
    return {
        "type": "scatter",
        "x": [_short(x) for x, _ in points],
        "y": [_short(y) for _, y in points],
        "name": _plain(name),
    }


def _plain(text: str) -> str:
    """Return a text in which plotly finds neither markup nor fields of a template."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("%{", "% {")


def _short(value: Any) -> Any:
    """Return a number with the digits that can be seen."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _layout(x: str, y: str, log_y: bool = False) -> Figure:
    axis = {"showline": True, "linecolor": GREY, "ticks": "outside", "zeroline": False,
            "gridcolor": "#E5E5E5", "automargin": True}  # fmt: skip
    return {
        "xaxis": {**axis, "title": {"text": x, "standoff": 6}},
        "yaxis": {
            **axis,
            "title": {"text": y, "standoff": 6},
            **({"type": "log"} if log_y else {}),
        },
        "legend": {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
        "margin": {"l": 60, "r": 16, "t": 34, "b": 64},
        "hovermode": "closest",
        "plot_bgcolor": "white",
        "paper_bgcolor": "white",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": BLACK},
    }
