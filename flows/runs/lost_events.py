"""Events that Prefect could not send, in its log: no news while the run has said what is wrong."""

from __future__ import annotations

import logging

from flows.runs.api_watch import ApiWatch

_SENDER = "EventsWorker"
"""Prefect's thread that sends events, in its messages."""


class _LostEvents(logging.Filter):
    """Keeps out that an event was not sent if the API does not answer; all else is let through.

    Events, and heartbeats among them, may be lost while the API answers, as behind a proxy that
    lets no websockets through. Nobody else would tell that.
    """

    def __init__(self) -> None:
        super().__init__()
        self.watch = ApiWatch()

    def filter(self, record: logging.LogRecord) -> bool:
        lost = isinstance(record.args, tuple) and record.args[:1] == (_SENDER,)
        return not lost or record.levelno < logging.ERROR or self.watch.look_now()


_lost_events = _LostEvents()


def keep_out_lost_events(watch: ApiWatch) -> None:
    """Leave Prefect's lines about events that it could not send to the watch of this run.

    It holds until the process ends, as Prefect sends what is left after the run.
    """
    _lost_events.watch = watch
    logging.getLogger("prefect._internal.concurrency").addFilter(_lost_events)
