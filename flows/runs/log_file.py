"""A log file that outlives a full disk: lines that find no room are written when there is some."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from pathlib import Path

from aimspax_core.safe_files import append
from aimspax_core.storage import cannot_take

_KEPT = 10_000
"""So many lines wait for room at most; the oldest are dropped."""


class LogFile(logging.Handler):
    """Appends log lines to a file, which is made with the first line.

    Lines appear whole or not at all. A disk that has no room, or is out of reach, is told by what
    cannot do without it, not here.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._waiting: deque[str] = deque(maxlen=_KEPT)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, and those that have found no room before."""
        try:
            self._waiting.append(self.format(record) + "\n")
            self.flush()
        # A log that fails does not end what it tells of: as other handlers do.
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Write the lines that wait, if there is room now.

        Raises:
            OSError: The file cannot be written to, which room does not mend.
        """
        if not self._waiting:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)  # somebody may have removed it
            append(self._path, "".join(self._waiting).encode(), forced=False)
            self._waiting.clear()
        except OSError as error:  # without room they wait for the next line
            if not cannot_take(error):
                raise

    def close(self) -> None:
        """Write the lines that wait, if they can be written now, and end."""
        with contextlib.suppress(OSError):  # what ends is more than its log; `emit` has told it
            self.flush()
        super().close()
