"""How a run is stopped: Ctrl-C, SIGTERM, or Cancel in the UI."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.context import FlowRunContext

from flows.runs.best_effort import best_effort

GRACE_S = 15.0
"""How long a stop waits for running tasks before it gives them up (s)."""

POLL_S = 2.0
"""From one look at the flow run's own state to the next (s)."""

log = logging.getLogger("aimspax")


class Stop:
    """Whether somebody wants the run to stop: a signal, or Cancel in the UI.

    Attributes:
        reason: Who wants it; empty if nobody does.
    """

    def __init__(self, client: SyncPrefectClient) -> None:
        self.reason = ""
        self._client = client
        self._looked = 0.0
        context = FlowRunContext.get()
        self._flow_run_id: UUID | None = (
            context.flow_run.id if context and context.flow_run else None
        )

    def asked(self) -> bool:
        """Return whether the run should stop.

        Prefect does not tell this process of a Cancel: it looks at the flow run's state itself.
        """
        if not self.reason and self._flow_run_id and time.monotonic() - self._looked > POLL_S:
            self._looked = time.monotonic()
            with best_effort("looking for a Cancel"):
                state = self._client.read_flow_run(self._flow_run_id).state
                if state is not None and (state.is_cancelling() or state.is_cancelled()):
                    self.reason = "cancelled in Prefect"
        return bool(self.reason)


@contextlib.contextmanager
def stop_signals(client: SyncPrefectClient) -> Iterator[Stop]:
    """Let Ctrl-C and SIGTERM end the loop cleanly; a second Ctrl-C ends the process at once."""
    stop = Stop(client)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, _: FrameType | None) -> None:
        if stop.reason and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.reason = signal.Signals(number).name
        log.info("%s: stopping, at most %d s", stop.reason, 2 * GRACE_S)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
