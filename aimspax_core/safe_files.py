"""Files that survive a crash: written aside, forced to disk, and renamed into place."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path, private: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `path`; what was written there replaces `path` atomically.

    An exception in the block leaves `path` as it was and removes the temporary file, whose name
    begins with a dot. Folders that are missing are made.

    Args:
        path: The file to replace.
        private: Whether only its owner may read it; else the process's umask says who may.
    """
    _make_folder(path.parent)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}{path.suffix}")
    aside.touch(mode=0o600 if private else 0o666, exist_ok=False)
    try:
        yield aside
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    _sync_folder(path.parent)


def write_text(path: Path, text: str, private: bool = False) -> None:
    """Write a text file atomically; after return it is on the disk.

    Args:
        path: The file to write, or to replace.
        text: Its new content.
        private: Whether only its owner may read it.
    """
    with replacing(path, private) as aside:
        aside.write_text(text, encoding="utf-8")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it; after return they are on the disk."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Force to disk which files a folder holds."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
