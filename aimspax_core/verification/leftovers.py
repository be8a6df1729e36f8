"""Files that only a process that runs may leave: written aside, or held as locks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from aimspax_core.run_directory import RunDir
from aimspax_core.verification.findings import Kind, Report

_ASIDE = re.compile(r"^\..+\.[0-9a-f]{8}(\.\w+)?$")
"""The name of a file that was written aside and not renamed yet."""


def check(run: RunDir, finished: bool, report: Report) -> None:
    """Look for what a process has left in a directory where none runs.

    After a process was killed they are there until the next one begins: then they are a note.

    Args:
        run: The run directory.
        finished: Whether the campaign is: nothing may be left then.
        report: Takes findings and notes.
    """
    left = sorted(_left(run))
    if finished:
        for path in left:
            report.found(Kind.LEFT, path, "nobody runs the campaign, and this was left")
    elif left:
        them = f"{len(left)} files, {left[0].name} the first"
        report.notes.append(f"a process that was killed has left {them}")
    damaged = sorted(path.name for path in run.labels.glob("*/*.damaged"))
    if damaged:
        first = damaged[0].removesuffix(".damaged")[:8]
        report.notes.append(f"{len(damaged)} damaged labels were set aside, {first} the first")


def _left(run: RunDir) -> Iterator[Path]:
    folders = {run.output, run.data, run.models, run.checkpoints_dir, run.losses, run.logs}
    for folder in sorted(folders):
        if folder == run.output or not folder.is_relative_to(run.output):
            yield from (path for path in folder.rglob(".*") if _ASIDE.match(path.name))
    if run.store is None:  # another campaign may hold a lock in a store that is shared
        yield from run.labels.glob("*/*.lock")
