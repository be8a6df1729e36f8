"""How a process ends that is stopped; there from the beginning, as it imports next to nothing."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Final, NoReturn

STOPPED: Final = 130
"""Exit code of a command that was stopped."""

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
"""The signals that stop a command."""


STOP_S: Final = 30.0
"""So long after the signal that stops it a command has ended (s)."""

_TIDY_S: Final = 3.0
"""How long what is removed before a forced end may take (s)."""

IS_COMMAND: Final = threading.Event()
"""Set in the process of a command, which ends with what it runs."""


def end_within(seconds: float, line: str, tidy: Callable[[], None]) -> Callable[[], None]:
    """End the process after a time, whatever it waits for then.

    What ends in order is over by then, unless it waits for somebody who does not answer.

    Args:
        seconds: The time (s).
        line: What is printed then, on standard error.
        tidy: Removes what nobody else would, before.

    Returns:
        What calls that off.
    """

    def end() -> None:
        try:
            tidying = threading.Thread(target=tidy, daemon=True)
            tidying.start()
            tidying.join(_TIDY_S)  # a disk may be what does not answer
        finally:
            end_at_once(line)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    return timer.cancel


def end_at_once(line: str) -> NoReturn:
    """End the process now, whatever its threads do, with a line on standard error."""
    try:
        os.write(2, f"{line}\n".encode())
    finally:  # also where the terminal is gone
        os._exit(STOPPED)


def stop_at_once(_: int, __: FrameType | None) -> None:
    """Handle a signal: end the process now, where that leaves nothing behind."""
    end_at_once("stopped")
