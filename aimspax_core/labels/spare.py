"""Where a finished label is kept while its store cannot take it: on another disk, if there is one.

A label of a quantum chemical code may have cost days. The folders are the owner's alone: labels
that others could write would enter the training set.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from ase import Atoms

from aimspax_core.errors import NewerReleaseError
from aimspax_core.labels.label import Label
from aimspax_core.labels.store import LabelStore, StoredLabel
from aimspax_core.storage import naming

STATE = "XDG_STATE_HOME"
"""Environment variable: where programs keep what they need later; `~/.local/state` by default."""

Reach = Literal["everywhere", "here"]
"""Whether other machines see a folder: the home directory usually is one for all."""

log = logging.getLogger(f"aimspax.{__name__}")


def keep(
    key: str, atoms: Atoms, label: Label, identity: dict[str, Any]
) -> tuple[Path, Reach] | None:
    """Keep a label where there is room, until `take` finds it.

    Returns:
        Its file, and which machines see it; None if it can be kept nowhere.
    """
    for folder, reach in _folders():
        with contextlib.suppress(OSError):
            _own(folder)
            store = LabelStore(folder)
            store.put(key, atoms, label, identity)
            return store.path(key), reach
    return None


def take(key: str, store: LabelStore) -> StoredLabel | None:
    """Move a label that was kept into its store; None if there is none.

    Raises:
        OSError: The store cannot take it yet; it is kept on.
    """
    for folder, _ in _folders():
        found = store.take_over(key, LabelStore(folder)) if _is_own(folder) else None
        if found is not None:
            log.info("label %s is in its store now; it was kept in %s", key[:8], folder)
            return found
    return None


def forget(key: str) -> None:
    """Remove a label that has come into its store."""
    for folder, _ in _folders():
        with contextlib.suppress(OSError):  # it is in its store, where it counts
            LabelStore(folder).path(key).unlink(missing_ok=True)


def forget_stored(store: LabelStore) -> int:
    """Remove labels that are in their store; a process was killed before it did that.

    Args:
        store: A label store; what is kept for others stays, also if it has the same key.

    Returns:
        How many were removed.
    """
    count = 0
    for folder, _ in _folders():
        for path in folder.glob("??/*.json") if _is_own(folder) else ():
            with contextlib.suppress(OSError, NewerReleaseError):  # those who can read it take it
                if _is_in(store, path.stem, LabelStore(folder)):
                    path.unlink(missing_ok=True)
                    count += 1
    return count


def _is_in(store: LabelStore, key: str, kept: LabelStore) -> bool:
    """Return whether a label that is kept came from the same calculation as that of its store."""
    ours = kept.get(key) if store.has(key) else None
    stored = None if ours is None else store.get(key)
    if ours is None or stored is None:
        return False
    return ours.label.provenance == stored.label.provenance


def _folders() -> Iterator[tuple[Path, Reach]]:
    """Yield where labels may be kept, the best place first."""
    with contextlib.suppress(RuntimeError):  # a user without a home directory
        state = os.environ.get(STATE) or Path.home() / ".local" / "state"
        yield Path(state) / "aimspax" / "labels", "everywhere"
    yield Path(tempfile.gettempdir()) / f"aimspax-labels-{os.getuid()}", "here"


def _own(folder: Path) -> None:
    """Make a folder that nobody else can enter.

    Raises:
        OSError: It cannot be made, or belongs to another user.
    """
    with naming(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_own(folder):
            raise PermissionError(f"{folder} is not ours alone")


def _is_own(folder: Path) -> bool:
    """Return whether a folder is there, is ours, and nobody else may write to it."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    closed = not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and closed
