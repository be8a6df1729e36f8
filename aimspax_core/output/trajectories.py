"""`trajectories/`: the frames of every trajectory, joined from the parts that tasks have written.

A task writes its frames as a part, `{trajectory|initial}-{index}-{number}.extxyz`. The flow appends
the part to the trajectory's file once the journal has the event. Before it appends, it puts the
size of that file into the part's name: an append that was interrupted is done again from there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aimspax_core.campaign.events import Event, Sampled, SegmentFinished
from aimspax_core.campaign.state import CampaignState
from aimspax_core.output.thinning import Thinning
from aimspax_core.run_directory import RunDir
from aimspax_core.safe_files import append

Kind = Literal["trajectory", "initial"]

_PART = re.compile(r"(trajectory|initial)-(\d+)-(\d+)\.extxyz(?:\.at-(\d+))?")
_OURS = re.compile(r"(trajectory|initial)_\d+\.extxyz")
_ROLLBACKS = re.compile(rb"\brollbacks=(\d+)")
_COMMENT = 100_000
"""The comment of a first frame ends long before so many bytes."""


def part(run: RunDir, kind: Kind, index: int, number: int) -> Path:
    """Return where a task leaves its frames.

    Args:
        run: The run directory.
        kind: `trajectory` explores, `initial` samples the initial dataset.
        index: Of the trajectory, or of the geometry.
        number: Of the segment, or of the sampler's version.
    """
    return run.frames / f"{kind}-{index}-{number:08d}.extxyz"


def trajectory_file(run: RunDir, kind: Kind, index: int) -> Path:
    """Return the file of all frames of a trajectory; arguments are those of `part`."""
    return run.trajectories / f"{kind}_{index}.extxyz"


def gather(run: RunDir, event: Event, thinning: Mapping[str, Thinning] | None = None) -> None:
    """Append the frames that an event has brought to their trajectories; most bring none.

    Call it when the event is recorded, before the next one is.

    Args:
        run: The run directory.
        event: The event.
        thinning: How many frames a file may have, by kind; none: any number.
    """
    if isinstance(event, SegmentFinished):
        number = int(event.action_id.rpartition(":")[2])
        done: dict[tuple[str, int], int] = {
            ("trajectory", result.trajectory): number for result in event.results
        }
    elif isinstance(event, Sampled):
        done = {("initial", event.geometry): event.version}
    else:
        return
    for found in _parts(run):
        number = done.get((found.kind, found.index), 0)
        if found.number == number:
            _append(run, found)
            if thinning is not None:
                thinning[found.kind].thin(trajectory_file(run, found.kind, found.index))
        elif found.number < number:
            found.path.unlink(missing_ok=True)  # of a segment that was lost


def settle(run: RunDir, state: CampaignState) -> None:
    """Append or delete the parts that an earlier process left; call it before any launch.

    Frames of work that the journal has are appended; those of work that was lost, and is done
    again, are deleted.
    """
    for found in _parts(run):
        if _recorded(found, state):
            _append(run, found)
    if run.frames.is_dir():
        for left in run.frames.iterdir():
            left.unlink(missing_ok=True)


def forget(run: RunDir) -> None:
    """Remove the files of an earlier campaign; call it when one begins anew."""
    for path in run.trajectories.glob("*.extxyz"):
        if _OURS.fullmatch(path.name):  # a user may keep files of his own there
            path.unlink()


@dataclass(frozen=True)
class _Part:
    """A part; `offset` is the size (bytes) of the trajectory's file when appending began."""

    kind: Kind
    index: int
    number: int
    offset: int | None
    path: Path


def _parts(run: RunDir) -> list[_Part]:
    """Return all parts, in the order of their numbers."""
    if not run.frames.is_dir():
        return []
    found = []
    for path in run.frames.iterdir():
        match = _PART.fullmatch(path.name)
        if match is not None:
            kind: Kind = "initial" if match[1] == "initial" else "trajectory"
            offset = None if match[4] is None else int(match[4])
            found.append(_Part(kind, int(match[2]), int(match[3]), offset, path))
    return sorted(found, key=lambda part: part.number)


def _recorded(found: _Part, state: CampaignState) -> bool:
    """Return whether the journal has the segment that wrote a part."""
    if found.kind == "initial":
        return any((s.geometry, s.version) == (found.index, found.number) for s in state.samplers)
    if found.index >= len(state.trajectories):
        return False
    trajectory = state.trajectories[found.index]
    if found.number == trajectory.version:
        return True
    # Rolled back since: then its state file is that of an earlier segment.
    with found.path.open("rb") as file:
        rollbacks = _ROLLBACKS.search(file.read(_COMMENT))
    return rollbacks is not None and int(rollbacks[1]) < trajectory.rollbacks


def _append(run: RunDir, found: _Part) -> None:
    """Append a part to its trajectory and delete it; if interrupted, it can be called again."""
    target = trajectory_file(run, found.kind, found.index)
    target.parent.mkdir(parents=True, exist_ok=True)
    path, offset = found.path, found.offset
    if offset is None:
        offset = target.stat().st_size if target.exists() else 0
        path = found.path.rename(found.path.with_name(f"{found.path.name}.at-{offset}"))
    there = target.stat().st_size if target.exists() else 0
    append(target, path.read_bytes(), min(offset, there))
    path.unlink()
