"""How a page that we have written is told from one of the user's with the same name."""

from __future__ import annotations

from pathlib import Path

GENERATOR = "aimspax report"
"""What a page says of what wrote it."""

_HEAD = 1000
"""Bytes of a page within which it says so."""


def is_report(path: Path) -> bool:
    """Return whether a file is a page of ours.

    Raises:
        OSError: It is not there, or cannot be read.
    """
    with path.open("rb") as file:
        return f'content="{GENERATOR}"'.encode() in file.read(_HEAD)
