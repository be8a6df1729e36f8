"""A campaign of several geometries, one by one: labels, thresholds, errors."""

from __future__ import annotations

from collections import Counter

from aimspax_core.campaign.assessing import converged_errors
from aimspax_core.campaign.state import CampaignState, PointStatus, TrajectoryStatus
from aimspax_core.campaign.thresholds import windows

_WAITING = (TrajectoryStatus.WAITING, TrajectoryStatus.TRAINING)


def geometry_rows(state: CampaignState) -> list[dict[str, str | int]]:
    """Return a row for each geometry, by its index; none where there is only one.

    Labels for analysis are left out; of initial datasets that were given, nobody knows of which
    geometry they are. The held-out error is the force MAE, mean over the members, or over those
    that have converged, where each geometry has a file of its own; the factor is the true error by
    the uncertainty, of the geometry's own labels; those that wait are trajectories.
    """
    geometries = range(state.rules.geometries)
    if len(geometries) < 2:
        return []
    arrived = [p for p in state.points.values() if p.status is PointStatus.LABELLED]
    initial = Counter(p.geometry for p in arrived if p.sampling_step is not None)
    learnt = (p for p in arrived if p.sampling_step is None and not p.analysis)
    explored = Counter(p.geometry for p in learnt)
    waiting = Counter(t.geometry for t in state.trajectories if t.status in _WAITING)
    shown: dict[str, list[str]] = {
        "threshold": _thresholds(state),
        "error factor": [_factor(state, geometry) for geometry in geometries],
        "held-out force MAE (meV/Å)": [_held_out(state, geometry) for geometry in geometries],
    }
    known = {heading: texts for heading, texts in shown.items() if any(texts)}
    return [
        {
            "geometry": geometry,
            "initial labels": "-" if state.adopted else initial[geometry],
            "explored labels": explored[geometry],
            **({"waiting": waiting[geometry]} if state.trajectories else {}),
            **{heading: texts[geometry] or "-" for heading, texts in known.items()},
        }
        for geometry in geometries
    ]


def _thresholds(state: CampaignState) -> list[str]:
    """Return each geometry's threshold in the measure's unit; nothing where it has none."""
    if not state.windows or state.rules.random_share is not None:
        return [""] * state.rules.geometries
    levels = (window.threshold(state.rules.c_x) for window in windows(state))
    return ["" if level is None else f"{level:.4f}" for level in levels]


def _factor(state: CampaignState, geometry: int) -> str:
    found = state.calibration(geometry)
    return "" if found is None else f"{found.factor:.2f}"


def _held_out(state: CampaignState, geometry: int) -> str:
    tags = converged_errors(state) or state.members
    by = [state.members[tag].assessed_by.get(str(geometry)) for tag in tags]
    errors = [found.mae_f for found in by if found is not None]
    return f"{1000 * sum(errors) / len(errors):.1f}" if errors else ""
