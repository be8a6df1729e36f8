"""How a command ends that is interrupted, or whose Prefect API is away: quickly, in one line."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

import httpx

from flows.runs.exits import (
    IS_COMMAND,
    SIGNALS,
    STOP_S,
    STOPPED,
    end_at_once,
    end_within,
    stop_at_once,
)

_DRAIN_S = 3.0
"""How long the end waits for what Prefect has still to send (s)."""


class Interrupted(BaseException):
    """A command was interrupted; libraries catch `KeyboardInterrupt`, and end in their own way."""


def interruptible() -> Callable[[], bool]:
    """Let Ctrl-C and SIGTERM interrupt whatever runs; the second one ends the process, or the time.

    Also where an interruption was swallowed, by a library that was just being imported.

    Returns:
        What tells whether a signal came: a library may make another error of an interruption.
    """
    asked = False
    IS_COMMAND.set()

    def interrupt(_: int, __: FrameType | None) -> None:
        nonlocal asked
        if asked:
            end_at_once("stopped at once")
        asked = True
        end_within(STOP_S, "stopped", tidy=lambda: None)
        raise Interrupted

    for number in SIGNALS:
        signal.signal(number, interrupt)
    return lambda: asked


def of_interruption(error: BaseException) -> bool:
    """Return whether an error is an interruption, or was made of one.

    Also what is no `Exception`: other ways to stop, which libraries make of a signal; and a lost
    connection to the Prefect API, which the stop may have closed.
    """
    seen: BaseException | None = error
    while seen is not None and isinstance(seen, Exception):
        seen = seen.__cause__
    return seen is not None or isinstance(error, httpx.HTTPError)


@contextlib.contextmanager
def nothing_to_end() -> Iterator[None]:
    """Let a signal end the process at once while the block runs, which leaves nothing behind.

    An interruption that is raised in the middle of an import may end anywhere: libraries take it
    for an error of theirs, or swallow it.
    """
    before = {number: signal.signal(number, stop_at_once) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave(code: int, at_once: bool = False) -> NoReturn:
    """End the process, without waiting for a Prefect API that is away.

    What was asked for is done, or told: a signal that comes now makes it quicker, and no other end.

    Args:
        code: Its exit code.
        at_once: Whether something was interrupted, as also where the code says so: it may have left
            threads, which Dask waits for.
    """
    for number in SIGNALS:
        signal.signal(number, lambda *_: os._exit(code))
    flushed()
    sys.stderr.flush()
    if _sent() and not at_once and code != STOPPED:
        sys.exit(code)
    os._exit(code)


def flushed() -> bool:
    """Have standard output written; return whether somebody reads it, and else drop the rest.

    Nobody does behind a `head` that has seen enough.
    """
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()  # after an error nothing may be left to write, so that it succeeds
    try:
        output = sys.stdout.fileno()
    except OSError:  # it is no file, as in a notebook
        return True
    poll = select.poll()
    poll.register(output, 0)
    if not any(found & (select.POLLERR | select.POLLHUP) for _, found in poll.poll(0)):
        return True
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, output)
    os.close(nowhere)
    return False


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
