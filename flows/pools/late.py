"""Tasks that ended while the Prefect API was away, which saw them begin: it is told later."""

from __future__ import annotations

import threading
from functools import partial
from uuid import UUID

from flows.runs.api_watch import ApiWatch
from flows.runs.failures import set_ended
from flows.runs.teller import tell


class LateEnds:
    """The ends of a pool's tasks that the API does not know yet.

    Args:
        watch: Knows whether the API answers.
    """

    def __init__(self, watch: ApiWatch) -> None:
        self._watch = watch
        self._lock = threading.Lock()
        self._untold: list[tuple[UUID, str]] = []
        self._closed = False
        self._leave = watch.on_change(self._changed)

    def add(self, task_run: UUID, why: str) -> None:
        """Note that a task has ended; it is told later if the API is away now.

        Args:
            task_run: The task.
            why: What it was lost by; empty if it has a result.
        """
        if self._watch.answers:
            return
        with self._lock:
            self._untold.append((task_run, why))
        if self._watch.answers:  # it has come back in between, and perhaps heard all that was known
            self._tell()

    def close(self) -> None:
        """Hear no more of the API, once all is told."""
        with self._lock:
            self._closed = True
            done = not self._untold
        if done:
            self._leave()

    def _changed(self, answers: bool) -> None:
        if answers:
            self._tell()

    def _tell(self) -> None:
        with self._lock:
            ended, self._untold = self._untold, []
            closed = self._closed
        if ended:
            tell(partial(set_ended, ended))
        if closed:
            self._leave()
