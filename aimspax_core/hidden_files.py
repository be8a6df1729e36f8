"""Hidden files that are there while something is written: their names say which process does.

So what a process has left that was killed is found, and nothing of one that lives is touched.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from aimspax_core.processes import Process

_BESIDE = re.compile(r"\..+\.(?P<process>[\w-]+)\.[0-9a-f]{8}(\.\w+)?")
_NAME = 100
"""Characters of a name that are in that of its hidden file, too: file systems have a limit."""


def beside(path: Path) -> Path:
    """Return a hidden name beside a file that nobody else uses: `.NAME.PROCESS.RANDOM.SUFFIX`."""
    name = path.name[:_NAME]
    return path.with_name(f".{name}.{Process.this()}.{secrets.token_hex(4)}{path.suffix}")


def left_beside(folder: Path, *, below: bool = True) -> Iterator[Path]:
    """Yield the hidden files in a folder whose process is dead for certain: it was killed.

    Args:
        folder: Where to look; it need not be there.
        below: Whether to look into the folders in it, too.
    """
    for where, folders, names in os.walk(folder):
        for name in names:
            found = _BESIDE.fullmatch(name)
            process = None if found is None else Process.named(found["process"])
            if process is not None and process.alive() is False:
                yield Path(where) / name
        if not below:
            folders.clear()
