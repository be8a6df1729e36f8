"""How a command ends that is interrupted, or whose Prefect API is away: quickly, in one line."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from flows.runs.exits import STOPPED, end_at_once

_DRAIN_S = 3.0
"""How long the end waits for what Prefect has still to send (s)."""


class Interrupted(BaseException):
    """A command was interrupted; libraries catch `KeyboardInterrupt`, and end in their own way."""


def interruptible() -> None:
    """Let Ctrl-C and SIGTERM interrupt whatever runs; the second one ends the process.

    Also where an interruption was swallowed, by a library that was just being imported.
    """
    asked = False

    def interrupt(_: int, __: FrameType | None) -> None:
        nonlocal asked
        if asked:
            end_at_once("stopped at once")
        asked = True
        raise Interrupted

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)


def leave(code: int) -> NoReturn:
    """End the process, without waiting for a Prefect API that is away.

    What was asked for is done, or told: a signal that comes now makes it quicker, and no other end.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(code))
    if _sent() and code != STOPPED:
        sys.exit(code)
    # What was interrupted may have left threads, and Dask would wait for them.
    os._exit(code)


def _sent() -> bool:
    """Have Prefect send what it has still to send; return whether it could."""
    if "prefect.events.worker" not in sys.modules:
        return True
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    left = set()
    for service in (APILogWorker, EventsWorker):
        ended = service.drain_all(timeout=_DRAIN_S)
        if isinstance(ended, tuple):
            left |= ended[1]
    return not left
