"""The files that a campaign goes on from, looked at: checkpoints, MD states, labels."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from aimspax_core.campaign.events import FileDamaged
from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.errors import DamagedError
from aimspax_core.labels.store import LabelStore
from aimspax_core.model.intact import intact_bytes
from aimspax_core.run_directory import RunDir
from aimspax_core.sampling.dynamics import load_state
from aimspax_core.storage import Patience, patiently, require_room, text

PATIENCE_S = 10.0
"""How long (s) a start tries to read files that the device does not give, all together."""


def find_damaged(run: RunDir, state: CampaignState) -> tuple[FileDamaged, ...]:
    """Return which of the files that the campaign goes on from now are damaged or gone.

    Files that it would only fall back to are not looked at: ask again after the events.

    Raises:
        OSError: One cannot be read now, whatever it holds.
    """
    patience = Patience(PATIENCE_S)
    found = (_looked_at(run, use, patience) for use in _in_use(state))
    return tuple(event for event in found if event is not None)


def judge(run: RunDir, file: str, action_id: str) -> FileDamaged | None:
    """Look at a file that a task found damaged, from here.

    Returns:
        The event; None if the file is fine (a worker may see a shared folder late), or no file
        that another one can stand in for.

    Raises:
        OSError: It cannot be read now, whatever it holds.
    """
    use = _use_of(run, Path(file))
    return None if use is None else _looked_at(run, use.but(action_id=action_id))


def label_gone(run: RunDir, file: str) -> str | None:
    """Look at a file that a task could not use, from here; one that the device keeps is set aside.

    Returns:
        The key of the label that it was, which can be computed again; None if it was none, or is
        fine.

    Raises:
        OSError: It cannot be read now, whatever it holds.
    """
    store, key = LabelStore(run.labels), Path(file).stem
    if Path(file) != store.path(key) or not run.structure(key).exists():
        return None
    return key if store.get_or_set_aside(key) is None else None


def _looked_at(
    run: RunDir, use: FileDamaged, patience: float | Patience = 0.0
) -> FileDamaged | None:
    """Return what is wrong with a file that is in use, or None.

    A file that the device cannot read is damaged if its folder can be written to; else the device,
    or the way to it, is what fails.

    Args:
        run: The run directory.
        use: The file.
        patience: How long (s) to try to read it; or one that is shared with others.

    Raises:
        OSError: It cannot be read now, whatever it holds.
    """
    file = _file(run, use)
    read = intact_bytes if use.what == "checkpoint" else load_state
    try:
        patiently(partial(read, file), patience, f"reading {file.name}")
    except DamagedError as error:
        return use.but(reason=error.reason)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        require_room(file.parent)
        return use.but(reason=text(error))
    return None


def _file(run: RunDir, use: FileDamaged) -> Path:
    if use.what == "checkpoint":
        return run.checkpoint(use.which, use.name)
    place = run.sampler if use.what == "sampler" else run.trajectory
    return place(int(use.which), int(use.name))


def _in_use(state: CampaignState) -> Iterator[FileDamaged]:
    """Return the files that the campaign goes on from, each as an event that lacks its reason."""
    if state.phase in (Phase.FINISHED, Phase.FAILED) or state.adopting:
        return
    for position, (tag, member) in enumerate(state.members.items()):
        ensemble = state.ensemble[position] if state.ensemble else None
        for name in dict.fromkeys((member.checkpoint, member.converging, ensemble)):
            if name:
                yield FileDamaged(what="checkpoint", which=tag, name=name, reason="")
    if state.phase in (Phase.ACTIVE, Phase.DRAIN):
        for t in state.trajectories:
            for version in {t.version, t.checkpoint} - {0} if not t.over else ():
                yield FileDamaged(
                    what="trajectory", which=str(t.index), name=str(version), reason=""
                )
    if state.phase is Phase.INITIAL:
        for s in state.samplers:
            if s.version and not s.lost:
                yield FileDamaged(
                    what="sampler", which=str(s.geometry), name=str(s.version), reason=""
                )


def _use_of(run: RunDir, file: Path) -> FileDamaged | None:
    """Return which file of a campaign a path is, as an event that lacks its reason."""
    which, name = file.parent.name, file.stem
    if file == run.checkpoint(which, name):
        return FileDamaged(what="checkpoint", which=which, name=name, reason="")
    if file.parent.parent != run.trajectory(0, 0).parent.parent:
        return None
    if which.startswith("initial-"):
        geometry = which.removeprefix("initial-")
        return FileDamaged(what="sampler", which=geometry, name=name, reason="")
    return FileDamaged(what="trajectory", which=which, name=name, reason="")
