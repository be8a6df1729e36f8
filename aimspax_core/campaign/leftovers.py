"""What processes that were killed have left: hidden files, locks, folders, labels kept twice.

Removed is only what is certainly ours, and whose process is certainly dead; both are in the names.
Other campaigns may be writing to the same label store, and to the same temporary directory.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from aimspax_core.hidden_files import left_beside
from aimspax_core.labels import spare
from aimspax_core.labels.store import LabelStore
from aimspax_core.locks import remove_if_free
from aimspax_core.processes import Process
from aimspax_core.run_directory import RunDir

_FOLDER = re.compile(r"(aimspax|labels)-(?P<process>[\w-]+)-\w+")


def folder_prefix(what: str) -> str:
    """Return the beginning of the name of a folder that is removed when its process is dead.

    Args:
        what: `aimspax` in the system's temporary directory, `labels` in a campaign's own folder.
    """
    return f"{what}-{Process.this()}-"


def remove_leftovers(run: RunDir) -> int:
    """Remove what processes that were killed have left; return how many files and folders.

    A campaign may be running here, and others may share its label store.
    """
    count = 0
    for path in _hidden(run):
        with contextlib.suppress(OSError):  # another user's, in a store that is shared
            path.unlink()
            count += 1
    for path in _locks(run):
        with contextlib.suppress(OSError):
            count += remove_if_free(path)
    for folder in _left_folders(run.state, Path(tempfile.gettempdir())):
        shutil.rmtree(folder, ignore_errors=True)
        count += 1
    return count + spare.forget_stored(LabelStore(run.labels))


def _hidden(run: RunDir) -> Iterator[Path]:
    """Yield the hidden files of dead processes."""
    for folder in _folders(run):
        yield from left_beside(folder)
    # Tasks see whether there is room here; what else is in these folders is not ours.
    for folder in (run.output, Path(tempfile.gettempdir())):
        yield from left_beside(folder, below=False)


def _locks(run: RunDir) -> Iterator[Path]:
    """Yield the files of locks that a process may have left that was killed."""
    yield from run.labels.glob("*/*.lock")
    # These stay when they are let go of, and are empty then.
    labelling = (run.state / "labelling").glob("*.lock")
    yield from (path for path in labelling if path.stat().st_size > 0)


def _folders(run: RunDir) -> Iterator[Path]:
    """Yield the folders that a campaign writes to, none of which lies in another."""
    all_of_them = {
        run.state, run.labels, run.data, run.logs, run.losses, run.models, run.checkpoints_dir,
        run.results, run.analysis, run.trajectories, run.refused,
    }  # fmt: skip
    resolved = {folder.resolve() for folder in all_of_them}
    yield from (one for one in resolved if not resolved & {*one.parents})


def _left_folders(*parents: Path) -> Iterator[Path]:
    for parent in parents:
        for path in parent.iterdir() if parent.is_dir() else ():
            found = _FOLDER.fullmatch(path.name)
            process = None if found is None else Process.named(found["process"])
            if process is not None and process.alive() is False and _is_own(path):
                yield path


def _is_own(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and path.stat().st_uid == os.getuid()
