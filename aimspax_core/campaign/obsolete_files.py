"""Remove files that no state can ask for any more."""

from __future__ import annotations

from pathlib import Path

from aimspax_core.campaign.actions import Converge, Propagate, Train
from aimspax_core.campaign.state import CampaignState
from aimspax_core.run_directory import RunDir


def remove_obsolete(
    run: RunDir, before: CampaignState, after: CampaignState, keep_checkpoints: bool = False
) -> None:
    """Remove MD states, checkpoints, datasets and structures that an event has made obsolete.

    The journal is ahead of this: what is removed belongs to states before the event.

    Args:
        run: The run directory.
        before: The state before the event.
        after: The state after it.
        keep_checkpoints: Let the members' checkpoints be.
    """
    flying = [a for a in after.in_flight.values() if isinstance(a, Propagate)]
    for old, new in zip(before.trajectories, after.trajectories, strict=False):
        if old is not new:
            numbers = {a.number for a in flying if new.index in a.trajectories}
            keep = {str(n) for n in {new.version, new.checkpoint} | numbers}
            _keep_only(run.trajectory(new.index, 0).parent, keep)
    for earlier, later in zip(before.samplers, after.samplers, strict=True):
        if earlier is not later:
            _keep_only(run.sampler(later.geometry, 0).parent, {str(later.version)})
    if len(after.points) < len(before.points):  # candidates were refused
        for key in before.points.keys() - after.points.keys():
            run.structure(key).unlink(missing_ok=True)
            run.prediction(key).unlink(missing_ok=True)
    if before.round is not after.round:
        _tidy_datasets(run, after)
    changed = before.members is not after.members or before.in_flight is not after.in_flight
    if changed and not keep_checkpoints:
        _tidy_checkpoints(run, after, flying)


def _tidy_datasets(run: RunDir, after: CampaignState) -> None:
    """Keep the sets of the round that is under way, and of convergences."""
    folder = run.dataset("any").parent
    keep = {path.stem for path in folder.glob("converge-*")}
    if after.round is not None:
        keep.add(f"{after.round.stage}-{after.round.number}")
    _keep_only(folder, keep)


def _tidy_checkpoints(run: RunDir, after: CampaignState, flying: list[Propagate]) -> None:
    """Keep what members, the ensemble, and tasks in flight still read or write, or fall back to."""
    ensembles = [after.ensemble, *(a.checkpoints for a in flying)]
    for position, (tag, member) in enumerate(after.members.items()):
        written = {
            name
            for action in after.in_flight.values()
            if isinstance(action, Train | Converge) and action.tag == tag
            for name in (action.start, action.checkpoint)
        }
        keep = {member.checkpoint, member.converging, *written}
        keep |= {
            earlier.checkpoint for earlier in (*member.earlier, member.converge_earlier) if earlier
        }
        keep |= {ensemble[position] for ensemble in ensembles if ensemble}
        keep |= {waiting.checkpoints[tag] for waiting in after.unassessed}
        _keep_only(run.checkpoint(tag, "any").parent, {str(name) for name in keep})


def _keep_only(folder: Path, stems: set[str]) -> None:
    for path in folder.glob("[!.]*"):
        if path.stem not in stems:
            path.unlink(missing_ok=True)
