"""Files that survive a crash: written aside, forced to disk, and renamed into place."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from aimspax_core.hidden_files import beside
from aimspax_core.storage import naming


@contextlib.contextmanager
def replacing(path: Path, private: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `path`; what was written there replaces `path` atomically.

    An exception in the block leaves `path` as it was and removes the temporary file, whose name
    begins with a dot and says which process writes it (see `hidden_files`). Folders that are
    missing are made. Where the disk is the reason, the error names `path`.

    Args:
        path: The file to replace.
        private: Whether only its owner may read it; else the process's umask says who may.
    """
    aside = beside(path)
    with naming(path, aside):
        _make_folder(path.parent)
        try:
            aside.touch(mode=0o600 if private else 0o666, exist_ok=False)
            yield aside
            with aside.open("rb+") as file:
                os.fsync(file.fileno())
            aside.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):  # read-only since: what went wrong first counts
                aside.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def append(path: Path, content: bytes, size: int | None = None, *, forced: bool = True) -> int:
    """Append to a file, all or nothing; after return it is on the disk.

    Args:
        path: The file, which is made if it is not there.
        content: What to append.
        size: How long the file is without what an append that failed has left, which is cut off;
            None: as long as it is.
        forced: Whether it is forced to the disk.

    Returns:
        How long the file is now (bytes).

    Raises:
        OSError: It cannot be written to; it names the file, which is as it was, or is cut back to
            that by the next call with `size`.
    """
    known = path.exists()
    # A file that somebody has removed is not begun anew in the middle.
    with naming(path), path.open("rb+" if size else "ab", buffering=0) as file:
        found = os.fstat(file.fileno()).st_size
        end = found if size is None else size
        if found < end:
            raise OSError(errno.EINVAL, "somebody has cut this file while it was in use")
        file.truncate(end)
        file.seek(end)
        try:
            left = memoryview(content)
            while left:
                left = left[file.write(left) :]
            if forced:
                os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):  # it may be read-only since
                file.truncate(end)
            raise
        if forced and not known:
            _sync_folder(path.parent)
    return end + len(content)


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
