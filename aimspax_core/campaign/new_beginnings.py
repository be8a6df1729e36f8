"""Rules of restarts from labels: trajectories that begin anew from a labelled point.

Who does so is drawn, from streams that follow from the seed of the campaign and from what the draw
is for: a journal that is replayed gives the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from aimspax_core.campaign.state import CampaignState, PointStatus, Trajectory
from aimspax_core.random_streams import EXPLORING_DRAW_STREAM, SAMPLING_DRAW_STREAM


def of_trajectory(state: CampaignState, trajectory: Trajectory) -> str | None:
    """Return the label from which a trajectory begins anew whose own label has arrived.

    It is one of its geometry, its own included; None: it goes on.
    """
    key = trajectory.waiting_for or ""
    which = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
    path = (EXPLORING_DRAW_STREAM, trajectory.index, which)
    return _drawn(state, state.rules.restart_shares, trajectory.geometry, path)


def of_sampling(state: CampaignState, geometry: int) -> str | None:
    """Return the label from which a geometry's sampling MD begins the present step anew.

    It is one of an earlier step; None: it goes on.
    """
    path = (SAMPLING_DRAW_STREAM, geometry, state.sampling_step)
    return _drawn(
        state, state.rules.initial_restart_shares, geometry, path, before=state.sampling_step
    )


def _drawn(
    state: CampaignState,
    shares: Sequence[float],
    geometry: int,
    path: tuple[int, ...],
    before: int | None = None,
) -> str | None:
    share = shares[geometry] if geometry < len(shares) else 0.0
    if not share:
        return None
    rng = np.random.default_rng(np.random.SeedSequence(state.rules.seed, spawn_key=path))
    chance = rng.random()
    labelled = [
        point.key
        for point in state.points.values()
        if (point.geometry, point.status) == (geometry, PointStatus.LABELLED)
        and not point.analysis
        and (before is None or (point.sampling_step or before) < before)
    ]
    if chance >= share or not labelled:
        return None
    return labelled[int(rng.integers(len(labelled)))]
