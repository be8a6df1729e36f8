"""How a command ends that is interrupted, or whose Prefect API is away: quickly, in one line."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

from flows.runs.exits import STOPPED, end_at_once

_DRAIN_S = 3.0
"""How long the end waits for what Prefect has still to send (s)."""


class Interrupted(BaseException):
    """A command was interrupted; libraries catch `KeyboardInterrupt`, and end in their own way."""


def interruptible() -> Callable[[], bool]:
    """Let Ctrl-C and SIGTERM interrupt whatever runs; the second one ends the process.

    Also where an interruption was swallowed, by a library that was just being imported.

    Returns:
        What tells whether a signal came: a library may make another error of an interruption.
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
    return lambda: asked


@contextlib.contextmanager
def nothing_to_end() -> Iterator[None]:
    """Let a signal end the process at once while the block runs, which leaves nothing behind.

    An interruption that is raised in the middle of an import may end anywhere: libraries take it
    for an error of theirs, or swallow it.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, _stop_at_once) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop_at_once(_: int, __: FrameType | None) -> None:
    end_at_once("stopped")


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
