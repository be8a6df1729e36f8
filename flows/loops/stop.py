"""How a run is stopped: Ctrl-C, SIGTERM, or Cancel in the UI."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Crashed

from flows.pools.dask_settings import remove_scratch
from flows.runs import exits
from flows.runs.api_watch import api_watch
from flows.runs.previous_attempt import deployed
from flows.runs.restarts import INTERRUPTED, count_stop

GRACE_S = exits.STOP_S / 2
"""How long a stop waits for running tasks before it gives them up (s)."""

POLL_S = 2.0
"""From one look at whether to stop to the next (s)."""

_OUT_OF_TIME = "stopped, in the middle of something that took too long; start again to go on"

_CANCELLED = ("CANCELLING", "CANCELLED")

log = logging.getLogger("aimspax")


class StopRequested(BaseException):
    """A stop that came while there was nothing yet that would have to be ended with care."""


class Stop:
    """Whether somebody wants the run to stop: a signal, or Cancel in the UI.

    Attributes:
        reason: Who wants it; empty if nobody does.
        signal: Whether that was a signal.
        counted_in: Where restarts of the run are counted, of which a stop is none; None before it
            is known.
    """

    def __init__(self) -> None:
        self.reason = ""
        self.signal = False
        self.counted_in: Path | None = None
        self._at_once = False
        self._since: float | None = None

    @property
    def grace_ends(self) -> float:
        """Until when running tasks are waited for, by `time.monotonic`."""
        return (time.monotonic() if self._since is None else self._since) + GRACE_S

    def asked(self) -> bool:
        """Return whether the run should stop.

        Prefect does not tell this process of a Cancel: the watch on the API looks at the flow run.
        """
        if not self.reason and api_watch().state in _CANCELLED:
            self.reason = "cancelled in Prefect"
        return bool(self.reason)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Let a signal end the block at once, which has nothing that must be ended with care.

        Raises:
            StopRequested: A signal came, before the block or in it.
        """
        self._at_once = True
        try:
            if self.reason:
                raise StopRequested
            yield
        except Exception as error:
            if self.reason:  # a library that was just being imported made another error of it
                raise StopRequested from error
            raise
        finally:
            self._at_once = False

    def signalled(self, number: int) -> None:
        """Take in a signal; the second Ctrl-C ends the process."""
        if self.reason and number == signal.SIGINT:
            end_at_once()
        self.reason, self.signal = signal.Signals(number).name, True
        self._since = self._since or time.monotonic()
        if self._at_once:
            self._at_once = False
            raise StopRequested
        log.info("%s: stopping, at most %d s", self.reason, exits.STOP_S)

    def state(self, message: str) -> State[Any]:
        """Return the state that the run ends in, now that it has stopped."""
        if self.counted_in is not None:
            count_stop(self.counted_in)
        if deployed() and self.signal:
            api_watch().look_now()  # Prefect's worker sends a signal for a Cancel, too
        if goes_on(deployed(), self.signal, api_watch().state):
            return Crashed(
                name=INTERRUPTED, message=f"{message}; by itself, once there is a worker"
            )
        return Cancelled(message=message)


def goes_on(has_worker: bool, signal: bool, on_server: str) -> bool:
    """Return whether a run that was stopped should be started again by itself.

    Nobody who shuts a machine down, or restarts a service, means to end the runs there.

    Args:
        has_worker: Whether it belongs to a deployment, whose worker can start it again.
        signal: Whether a signal has stopped it.
        on_server: Type of its state on the server, as somebody may have set it.
    """
    return has_worker and signal and on_server not in _CANCELLED


def end_at_once() -> NoReturn:
    """End the process now; its workers end with it, and the next start takes the campaign up."""
    remove_scratch()
    exits.end_at_once("stopped at once; start again to go on")


@contextlib.contextmanager
def stop_signals() -> Iterator[Stop]:
    """Let Ctrl-C and SIGTERM end the loop cleanly; a second Ctrl-C ends the process at once.

    So does the time that is promised (`exits.STOP_S`), if something is waited for that does not
    come: what the journal has is kept, as after a second Ctrl-C.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    call_off: list[Callable[[], None]] = []

    def ask(number: int, _: FrameType | None) -> None:
        if not call_off:
            call_off.append(exits.end_within(exits.STOP_S, _OUT_OF_TIME, remove_scratch))
        stop.signalled(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        # The process of a command, or of a deployed run, has still to tell Prefect how it ended.
        if call_off and not (exits.IS_COMMAND.is_set() or deployed()):
            call_off[0]()
        for number, handler in before.items():
            signal.signal(number, handler)
