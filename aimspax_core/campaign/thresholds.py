"""Rules of the moving thresholds: what each has seen, whom it judges, when it freezes.

By `ACTIVE_LEARNING.threshold_scope` all geometries share one, as in the original, or each has its
own, which sees the checks of its own trajectories only. With `threshold: calibrated` the
uncertainty is held against the one with which the acceptable error is to be expected.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from aimspax_core.campaign.events import SegmentFinished
from aimspax_core.campaign.state import CampaignState
from aimspax_core.uncertainty.calibration import LEAST, Calibration
from aimspax_core.uncertainty.threshold import Window


def memories(state: CampaignState) -> tuple[Window, ...]:
    """Return the memories of the moving thresholds: a single one, or one for each geometry."""
    return state.windows or (state.window,)


def windows(state: CampaignState) -> tuple[Window, ...]:
    """Return the thresholds in force with their memories: a single one, or one for each geometry.

    Calibrated ones stand still until the next label.
    """
    levels = calibrated_levels(state)
    return tuple(
        window if level is None else replace(window, frozen=level)
        for window, level in zip(memories(state), levels, strict=True)
    )


def calibrated_levels(state: CampaignState) -> tuple[float | None, ...]:
    """Return the uncertainty with which the acceptable error is to be expected, as `memories` are.

    None where the moving threshold holds: calibration is not wanted, or does not know enough yet.
    That of a geometry is by its own labels, once there are enough; before, by those of all.
    """
    scopes = range(len(state.windows)) if state.windows else (None,)
    error = state.rules.force_error
    if state.rules.threshold != "calibrated" or error is None:
        return (None,) * len(scopes)
    levels: list[float | None] = []
    common = state.calibration()
    for geometry in scopes:
        own = common if geometry is None else state.calibration(geometry)
        found = own if own is not None and own.points >= LEAST else common
        enough = found is not None and found.points >= LEAST
        levels.append(found.spread_of(error) if found is not None and enough else None)
    return tuple(levels)


def calibration_of(state: CampaignState, geometry: int) -> Calibration | None:
    """Return the calibration by a geometry's own labels, or by all; None: neither has enough."""
    for of in (geometry, None):
        found = state.calibration(of)
        if found is not None and found.points >= LEAST:
            return found
    return None


def seen(state: CampaignState, event: SegmentFinished) -> CampaignState:
    """Let the thresholds see the uncertainties of a segment."""
    of = [state.trajectories[index].geometry for index in event.checked]
    state = state.but(
        window=state.window.extend(event.uncertainties),
        judgement=state.judgement.checked(event.above, of[: len(event.above)]),
    )
    if state.windows:
        pairs = list(zip(of, event.uncertainties, strict=True))
        state = state.but(
            windows=tuple(
                window.extend(value for geometry, value in pairs if geometry == number)
                for number, window in enumerate(state.windows)
            )
        )
    return frozen(state)


def frozen(state: CampaignState) -> CampaignState:
    """Freeze the thresholds once the training set is as large as the user wanted for that."""
    if state.training_set_size < state.rules.freeze_threshold_dataset:
        return state
    return _each(state, lambda w: replace(w, frozen=w.threshold(state.rules.c_x)))


def thawed(state: CampaignState) -> CampaignState:
    """Unfreeze the thresholds, whose settings have changed; they may freeze again at once."""
    return frozen(_each(state, lambda window: replace(window, frozen=None)))


def scoped(state: CampaignState) -> CampaignState:
    """Go on with one threshold, or with one for each geometry, as the rules say.

    The common one sees everything all the time. Those of geometries begin anew, when they are asked
    for on the way: what was seen before does not say of which geometry it was.
    """
    own = state.rules.threshold_scope == "geometry"
    if own == bool(state.windows):
        return state
    return frozen(state.but(windows=(Window(),) * state.rules.geometries if own else ()))


def _each(state: CampaignState, change: Callable[[Window], Window]) -> CampaignState:
    return state.but(
        window=change(state.window), windows=tuple(change(window) for window in state.windows)
    )
