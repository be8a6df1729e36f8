"""Folders that nobody but their owner can write to: for files that are run when they are loaded.

A compiled form is a pickle, and shared libraries. Who can write to its folder, or who owns it, can
have them run anything as the user that loads them.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


def is_private(folder: Path) -> bool:
    """Return whether a folder is there and this user's, and nobody else can write to it."""
    try:
        found = folder.stat()
    except OSError:
        return False
    others = stat.S_IWGRP | stat.S_IWOTH
    return (
        stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & others
    )


def make_private(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for this user alone.

    Raises:
        OSError: It cannot be made, or is there and others can write to it.
    """
    if not folder.is_dir():
        if not folder.parent.is_dir():
            make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
    if not is_private(folder):
        raise PermissionError(f"others can write to {folder}")
