"""Remove files that no state can ask for any more."""

from __future__ import annotations

from aimspax_core.campaign.state import CampaignState
from aimspax_core.rundir import RunDir


def tidy(run: RunDir, before: CampaignState, after: CampaignState) -> None:
    """Remove MD states and checkpoints that an event has made obsolete.

    The journal is ahead of this: what is removed belongs to states before the event.
    """
    for old, new in zip(before.trajectories, after.trajectories, strict=False):
        if old is not new:
            for version in {old.version, old.checkpoint} - {new.version, new.checkpoint, 0}:
                run.trajectory(old.index, version).unlink(missing_ok=True)
    for earlier, later in zip(before.samplers, after.samplers, strict=True):
        if earlier.version != later.version and earlier.version:
            run.sampler(earlier.geometry, earlier.version).unlink(missing_ok=True)
    for tag, was in before.members.items():
        now = after.members[tag]
        for name in {was.checkpoint, was.converging} - {now.checkpoint, now.converging, None}:
            run.checkpoint(tag, str(name)).unlink(missing_ok=True)
