"""The teller: one thread that tells the Prefect API what a run has to say; the run never waits.

What the page shows is dropped while the API is away: the next renewal shows it. Log lines are
kept, and sent when it is back.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from prefect.client.orchestration import get_client
from prefect.logging.handlers import set_api_log_sink

from flows.runs.api_watch import ApiWatch, api_watch, from_api

CLOSE_S = 5.0
"""How long the end of a run waits for what is still to be told (s)."""

_SEND_S = 1.0
"""From one sending of log lines to the next (s)."""

_KEPT = 20_000
"""So many log lines are kept while the API is away, the oldest are dropped."""

_BATCH = 200
"""Log lines of one call."""

log = logging.getLogger(f"aimspax.{__name__}")

LogLine = dict[str, Any]
"""A log line as the API takes it."""


class Teller:
    """Tells the API things in a thread of its own, in order.

    Args:
        watch: Knows whether the API answers.
        send: Sends log lines.
    """

    def __init__(self, watch: ApiWatch, send: Callable[[list[LogLine]], None]) -> None:
        self._watch, self._send = watch, send
        self._calls: queue.Queue[Callable[[], Any] | None] = queue.Queue()
        self._lines: deque[LogLine] = deque(maxlen=_KEPT)
        self._thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._tell,), name="teller", daemon=True
        )
        self._thread.start()

    def tell(self, call: Callable[[], Any]) -> None:
        """Have something told soon, if the API answers then; else it is not told."""
        context = contextvars.copy_context()
        self._calls.put(lambda: context.run(call))

    def log(self, line: LogLine) -> None:
        """Have a log line sent, as soon as the API answers."""
        line.pop("__payload_size__", None)
        self._lines.append(line)

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be told, but for log lines."""
        return self._calls.empty()

    def close(self) -> None:
        """Tell what is still to be told, for `CLOSE_S` at most."""
        self._calls.put(None)
        self._thread.join(CLOSE_S)

    def _tell(self) -> None:
        sent, over = 0.0, False
        while not over:
            with contextlib.suppress(queue.Empty):
                call = self._calls.get(timeout=_SEND_S)
                over = call is None
                if call is not None:
                    self._try(call)
            if over or time.monotonic() - sent > _SEND_S:
                self._try(self._send_lines)
                sent = time.monotonic()

    def _try(self, call: Callable[[], Any]) -> None:
        if not self._watch.answers:
            return
        try:
            call()
        # What is told can be done without: a bug in it must not end the run.
        except Exception as error:
            if from_api(error):
                log.debug("not told to the Prefect API", exc_info=True)
                self._watch.doubt()
            else:
                log.exception("the run's page")

    def _send_lines(self) -> None:
        while self._lines:
            batch = [self._lines.popleft() for _ in range(min(_BATCH, len(self._lines)))]
            try:
                self._send(batch)
            except Exception:
                self._lines.extendleft(reversed(batch))
                raise


_current: list[Teller] = []


def tell(call: Callable[[], Any]) -> None:
    """Have the API told something by the run's teller; outside of a run it is told at once."""
    if _current:
        _current[-1].tell(call)
    else:
        call()


@contextlib.contextmanager
def telling() -> Iterator[None]:
    """Have a teller while the block runs, for Prefect's log lines, too; once in a run."""
    watch = api_watch()
    if _current:
        yield
        return
    teller = Teller(watch, get_client(sync_client=True).create_logs)
    _current.append(teller)
    set_api_log_sink(teller.log)
    try:
        yield
    finally:
        teller.close()
        _current.remove(teller)
        # Prefect would wait for an API that is away, until the end of the process and beyond.
        set_api_log_sink(None if watch.answers else _dropped)


def _dropped(_: LogLine) -> None:
    """Drop a log line."""
