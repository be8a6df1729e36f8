"""Warnings of libraries: in a file of the run, not between the lines of the terminal and the page.

All processes of a run on this machine append to the file, a line a warning; those of a batch job
leave theirs in the output of the job. This module is imported before Prefect is.
"""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

FILE = "AIMSPAX_WARNINGS"
"""Environment variable that names the file."""

NAME = "warnings.log"
"""The file, in the folder of the logs."""


def keep_apart(logs: Path | None = None) -> None:
    """Write what libraries warn of, from now on in this process, to the file of the run.

    Args:
        logs: The folder of the run's logs; None: the environment names the file, or there is none.
    """
    if logs is not None:
        os.environ[FILE] = str(logs / NAME)
    if FILE in os.environ:
        warnings.showwarning = _append


@contextlib.contextmanager
def kept_apart(logs: Path) -> Iterator[None]:
    """Write what libraries warn of to the file of a run while the block runs.

    Args:
        logs: The folder of the run's logs.
    """
    shown, named = warnings.showwarning, os.environ.get(FILE)
    keep_apart(logs)
    try:
        yield
    finally:
        warnings.showwarning = shown
        if named is None:
            os.environ.pop(FILE, None)
        else:
            os.environ[FILE] = named


def _append(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if file is not None:
        file.write(warnings.formatwarning(message, category, filename, lineno, line))
        return
    when = time.strftime("%Y-%m-%d %H:%M:%S")
    text = " ".join(str(message).split())
    told = f"{when} process {os.getpid()} {filename}:{lineno} {category.__name__}: {text}\n"
    path = Path(os.environ[FILE])
    with contextlib.suppress(OSError):  # a warning that nobody reads is no reason to end
        path.parent.mkdir(exist_ok=True)
        with path.open("a", encoding="utf-8") as log:
            log.write(told)  # at once, so that lines of several processes stay whole
