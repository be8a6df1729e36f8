"""Files of saved trajectories that do not grow for ever: a full one has its density halved."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aimspax_core.safe_files import replacing
from aimspax_core.settings.settings import Settings

_STEP = re.compile(rb"\bstep=(\d+)")

log = logging.getLogger(f"aimspax.{__name__}")

_unreadable: set[Path] = set()
"""Files that have been warned of: they are not thinned."""


@dataclass(frozen=True)
class Thinning:
    """How many frames a file of a trajectory may have.

    Attributes:
        most: So many; None: any number.
        interval: MD steps from one frame to the next, as they come.
    """

    most: int | None
    interval: int

    @classmethod
    def of(cls, settings: Settings) -> dict[str, Thinning]:
        """Return what the settings say of exploring (`trajectory`) and sampling (`initial`)."""
        phases = {"trajectory": settings.al, "initial": settings.idg}
        return {
            kind: cls(phase.save_trajectories_max_frames, phase.save_trajectories_interval)
            for kind, phase in phases.items()
        }

    def thin(self, file: Path) -> None:
        """Thin a file that has too many frames; at any moment it is the old one or the new one.

        A file that somebody else has written to, or that is damaged, is left as it is.
        """
        if self.most is None:
            return
        try:
            frames = _frames(file.read_bytes())
        except ValueError as error:
            if file not in _unreadable:
                _unreadable.add(file)
                log.warning("%s is not thinned, as it is no extended XYZ file: %s", file, error)
            return
        if len(frames) <= self.most:
            return
        kept = self._kept([_step(frame) for frame in frames])
        with replacing(file) as aside:
            aside.write_bytes(b"".join(frames[i] for i in kept))

    def _kept(self, steps: Sequence[int]) -> list[int]:
        """Return which frames stay: evenly spaced in MD steps, at most half of the limit.

        Frames that came since the last time are dense, those before are not: both are brought to
        the least dense spacing of `interval` times a power of two that is needed.
        """
        assert self.most is not None
        half = max(1, self.most // 2)
        spacing, last = self.interval, max(steps)
        while spacing <= last:
            spacing *= 2
            kept = [i for i, step in enumerate(steps) if step % spacing == 0]
            if 0 < len(kept) <= half:
                return kept
        # The same few steps many times, of a trajectory that is set back again and again, or no
        # steps at all.
        return list(range(0, len(steps), -(-len(steps) // half)))


def _frames(content: bytes) -> list[bytes]:
    """Return the frames of an extended XYZ file, each as it stands there.

    Raises:
        ValueError: It is none, or a part of it is missing.
    """
    lines, frames, at = content.splitlines(keepends=True), [], 0
    while at < len(lines):
        atoms = int(lines[at])
        end = at + atoms + 2
        if atoms < 0 or end > len(lines):
            raise ValueError(f"line {at + 1} says that {atoms} atoms follow")
        frames.append(b"".join(lines[at:end]))
        at = end
    return frames


def _step(frame: bytes) -> int:
    found = _STEP.search(frame)
    return 0 if found is None else int(found[1])
