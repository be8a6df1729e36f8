"""How a process ends that is stopped; there from the beginning, as it imports next to nothing."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Final, NoReturn

STOPPED: Final = 130
"""Exit code of a command that was stopped."""

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
"""The signals that stop a command."""


def end_at_once(line: str) -> NoReturn:
    """End the process now, whatever its threads do, with a line on standard error."""
    os.write(2, f"{line}\n".encode())
    os._exit(STOPPED)


def stop_at_once(_: int, __: FrameType | None) -> None:
    """Handle a signal: end the process now, where that leaves nothing behind."""
    end_at_once("stopped")
