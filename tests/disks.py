"""Small file systems that can be filled."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own; where mounting is forbidden the test is skipped."""
    folder.mkdir()
    as_root = ["sudo", "-n"] if os.geteuid() else []
    options = f"size={size},uid={os.geteuid()},mode=700"
    done = subprocess.run(
        [*as_root, "mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        forbidden = any(word in done.stderr.lower() for word in ("permi", "password", "superuser"))
        give_up = pytest.skip if forbidden else pytest.fail
        give_up(f"no file system can be mounted here: {done.stderr}")
    try:
        yield folder
    finally:
        subprocess.run([*as_root, "umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Take all the room; the file to remove to make some."""
    filler = disk / "filler"
    with pytest.raises(OSError, match="No space"), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)
    return filler
