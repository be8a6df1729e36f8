"""The tasks that a pool was given and that are not over: those that wait, run, or were lost."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable

from flows.pools.jobs.ledger import Demand
from flows.pools.ticket import Ticket


class Line:
    """The tasks of a pool; several threads may use it.

    The pool moves tasks through it. Whoever provides workers looks at how much work there is.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Ticket] = deque()
        self._running: dict[Ticket, str] = {}
        self._lost: dict[Ticket, float] = {}

    @property
    def outstanding(self) -> int:
        """How many tasks wait, run or were lost, and are not over."""
        with self._lock:
            return len(self._waiting) + len(self._running) + len(self._lost)

    @property
    def waiting(self) -> list[Ticket]:
        """The tasks that wait, in their order."""
        with self._lock:
            return list(self._waiting)

    @property
    def running(self) -> dict[Ticket, str]:
        """The tasks that run, each with the address of its worker."""
        with self._lock:
            return dict(self._running)

    @property
    def lost(self) -> dict[Ticket, float]:
        """The tasks whose worker is gone, each with the time since when (`time.monotonic`)."""
        with self._lock:
            return dict(self._lost)

    def demand(self) -> Demand:
        """Return how much work there is."""
        waiting = self.waiting
        return Demand(self.outstanding, tuple(ticket.seconds() for ticket in waiting))

    def taken(self) -> Counter[str]:
        """Return how many tasks each worker has, by its address."""
        return Counter(self.running.values())

    def busy(self, address: str) -> bool:
        """Tell whether a worker has a task."""
        with self._lock:
            return address in self._running.values()

    def add(self, ticket: Ticket) -> None:
        """Put a task at the end of the line."""
        with self._lock:
            self._waiting.append(ticket)

    def drop_waiting(self) -> list[Ticket]:
        """Take out the tasks that wait, and return them."""
        with self._lock:
            dropped, self._waiting = list(self._waiting), deque()
        return dropped

    def begin(self, choose: Callable[[list[Ticket]], tuple[Ticket, str] | None]) -> Ticket | None:
        """Give the task that `choose` returns to the worker that it returns; None if it has none.

        Meanwhile no task comes or goes.
        """
        with self._lock:
            chosen = choose(list(self._waiting))
            if chosen is None:
                return None
            ticket, address = chosen
            ticket.address = address
            self._waiting.remove(ticket)
            self._running[ticket] = address
        return ticket

    def lose(self, ticket: Ticket, now: float) -> bool:
        """Note that the worker of a running task is gone; return False if the task did not run."""
        with self._lock:
            if self._running.pop(ticket, None) is None:
                return False
            self._lost[ticket] = now
        return True

    def end(self, ticket: Ticket) -> None:
        """Take out a task that is over."""
        with self._lock:
            self._running.pop(ticket, None)
            self._lost.pop(ticket, None)
