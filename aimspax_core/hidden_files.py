"""Hidden files that are there while something is written: their names say which process does.

So what a process has left that was killed is found, and nothing of one that lives is touched.
"""

from __future__ import annotations

import math
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


OLD_S = 24 * 3600.0
"""Nobody writes a file for so long (s): it was left by a process of another machine, too."""


def left_beside(folder: Path, *, below: bool = True) -> Iterator[Path]:
    """Yield the hidden files in a folder that were left: their process was killed.

    A process of this machine is dead for certain. Of others nothing can be seen from here, but a
    file that is old by the clock of its own file system is not being written.

    Args:
        folder: Where to look; it need not be there.
        below: Whether to look into the folders in it, too.
    """
    now = _clock(folder)
    for where, folders, names in os.walk(folder):
        for name in names:
            found = _BESIDE.fullmatch(name)
            process = None if found is None else Process.named(found["process"])
            if process is None:
                continue
            path, alive = Path(where) / name, process.alive()
            if alive is False or (alive is None and _written(path) < now - OLD_S):
                yield path
        if not below:
            folders.clear()


def _clock(folder: Path) -> float:
    """Return the time by the clock of a folder's file system; the beginning of time if it has none.

    Servers of files have clocks of their own.
    """
    probe = beside(folder / "clock")
    try:
        probe.touch()
        now = probe.stat().st_mtime
        probe.unlink()
    except OSError:
        return 0.0
    return now


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # it is gone
        return math.inf
