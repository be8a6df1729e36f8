"""Whether a checkpoint is as it was written, without importing torch.

A checkpoint is a ZIP archive, as torch writes it, whose comment is a SHA-256 over all the rest.
Those of release 0.1.0 have no comment: there the archive's own sums are looked at (CRC-32), which
torch leaves out when it reads.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from pathlib import Path

from aimspax_core.errors import DamagedError
from aimspax_core.storage import naming

_MAGIC = b"aimspax sha256 "
_NO_COMMENT = b"\0\0"
"""The last two bytes of an archive without a comment: its length."""


def sealed(archive: bytes) -> bytes:
    """Return a ZIP archive that has no comment with a checksum as its comment."""
    if not archive.endswith(_NO_COMMENT):
        raise ValueError("no ZIP archive, or one with a comment")
    comment = _MAGIC + hashlib.sha256(archive).hexdigest().encode()
    return archive[:-2] + len(comment).to_bytes(2, "little") + comment


def intact_bytes(path: Path) -> bytes:
    """Return the content of a checkpoint, if it is as it was written.

    Raises:
        DamagedError: There is no such file, or it was cut off or changed.
        OSError: It cannot be read now, whatever it holds.
    """
    try:
        with naming(path):
            content = path.read_bytes()
    except FileNotFoundError:
        raise DamagedError.of(path, "there is no checkpoint here") from None
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            comment = archive.comment
            if comment:
                changed = content != sealed(content[: -2 - len(comment)] + _NO_COMMENT)
            else:
                changed = archive.testzip() is not None
    # Damage in the archive's own tables makes it claim what is not so, in many ways.
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError,
            ValueError, EOFError, OverflowError) as error:  # fmt: skip
        raise DamagedError.of(path, f"not a readable checkpoint ({error})") from error
    if changed:
        raise DamagedError.of(path, "it was changed after it was written")
    return content
