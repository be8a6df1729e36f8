"""The thresholds of the uncertainty, in words."""

from __future__ import annotations

from aimspax_core.campaign.state import CampaignState
from aimspax_core.campaign.thresholds import calibrated_levels, memories, windows


def threshold_text(state: CampaignState) -> str:
    """Return the threshold in force, or those of all geometries, in a few words."""
    if state.rules.random_share is not None:
        return f"structures are taken by chance at {state.rules.random_share:.0%} of the checks"
    whose, unit = state.rules.whose_uncertainty, state.rules.uncertainty_unit
    levels = [window.threshold(state.rules.c_x) for window in windows(state)]
    known = [level for level in levels if level is not None]
    if not known:
        return "no threshold yet"
    if len(levels) == 1:
        return f"threshold{whose} {known[0]:.4f} {unit}"
    least, most = min(known), max(known)
    missing = len(levels) - len(known)
    none_yet = f", {missing} without one yet" if missing else ""
    if missing and len(known) == 1:
        return f"threshold{whose} {known[0]:.4f} {unit} for one geometry{none_yet}"
    levels_of = f"thresholds{whose} of {len(levels)} geometries"
    return f"{levels_of} {least:.4f} to {most:.4f} {unit}{none_yet}"


def calibrated_text(before: CampaignState, after: CampaignState) -> list[str]:
    """Return a line where a calibrated threshold has come into force, or is no more.

    None where chance takes structures: nothing is held against a threshold then.
    """
    # Only a label or a setting decides which one holds, and fitting takes time.
    as_before = before.rules is after.rules and before.judgement.points == after.judgement.points
    if after.rules.random_share is not None or as_before:
        return []
    was, now = calibrated_levels(before), calibrated_levels(after)
    held, holds = (any(level is not None for level in levels) for levels in (was, now))
    if held == holds:
        return []
    if not holds:
        return ["the moving threshold holds from here on"]
    unit = after.rules.uncertainty_unit
    error = f"errors above {after.rules.force_error:g} {unit} ask for a label"
    return [f"the threshold is calibrated from here on: {error}; {threshold_text(after)}"]


def frozen_text(before: CampaignState, after: CampaignState) -> list[str]:
    """Return a line for each threshold in force that has stopped moving.

    Those that a calibrated one has replaced are not in force, and none is where chance takes
    structures.
    """
    if after.rules.random_share is not None:
        return []
    unit, size = after.rules.uncertainty_unit, after.training_set_size
    old, new = memories(before), memories(after)
    if len(old) != len(new):
        return []
    pairs = enumerate(zip(old, new, strict=True))
    frozen = [n for n, (was, now) in pairs if now.frozen is not None and was.frozen is None]
    levels = calibrated_levels(after) if frozen else ()
    return [
        f"threshold{f' of geometry {number}' if len(new) > 1 else ''} frozen at "
        f"{new[number].frozen:.4f} {unit}, training sets of {size}"
        for number in frozen
        if levels[number] is None
    ]
