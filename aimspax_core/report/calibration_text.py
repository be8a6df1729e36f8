"""How well the uncertainty tells the true error, in words."""

from __future__ import annotations

from aimspax_core.campaign.state import CampaignState
from aimspax_core.uncertainty.calibration import LEAST, Calibration

_NAMED = 6
"""So many geometries have their factors named one by one."""


def calibration_lines(state: CampaignState) -> list[str]:
    """Return lines on the calibration in force; none before a label was held against anything."""
    judgement = state.judgement
    found = state.calibration()
    if found is None:
        return []
    decides = state.rules.threshold == "calibrated" and state.rules.random_share is None
    few = f"; from {LEAST} on it counts" if decides and found.points < LEAST else ""
    lines = [f"true error: {calibration_text(found)}{few}"]
    geometries = sorted({point.geometry for point in (*judgement.older, *judgement.recent)})
    if 1 < len(geometries) <= _NAMED:
        own = [(number, state.calibration(number)) for number in geometries]
        each = (f"{n}: {c.factor:.2f} ({c.points} labels)" for n, c in own if c is not None)
        lines.append(f"true error by geometry: {', '.join(each)}")
    return lines


def calibration_text(found: Calibration) -> str:
    """Return a calibration in a few words."""
    labels = f"{found.points} label{'s' if found.points != 1 else ''}"
    rank = "" if found.spearman is None else f", rank correlation {found.spearman:.2f}"
    return f"{found.factor:.2f} × the uncertainty, by {labels}{rank}"
