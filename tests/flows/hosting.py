"""What tests of pools share: a flow run that tasks belong to, and tasks of no science."""

from __future__ import annotations

import contextlib
import contextvars
import os
import queue
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed import get_worker
from prefect import flow, task
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker

from flows.pools.pool import Pool
from flows.pools.ticket import Ticket

ROOT = Path(__file__).parents[2]
"""Has to be in PYTHONPATH of workers that import these tasks, if they are not on this machine."""

PATIENCE_S = 90.0
"""What is not over by then hangs."""


_hosts: dict[str, tuple[queue.Queue[contextvars.Context], threading.Event]] = {}


@flow(name="pools under test")
def host(name: str) -> None:
    """Hand out the context of a flow run, and wait."""
    _wait_in(name)  # tasks take the flow, and all that it names, along to their workers


def _wait_in(name: str) -> None:
    begun, over = _hosts[name]
    begun.put(contextvars.copy_context())
    over.wait()


@contextlib.contextmanager
def in_a_flow() -> Iterator[contextvars.Context]:
    """The context of a flow run, which goes on until the block ends."""
    name = secrets.token_hex(4)
    begun, over = _hosts[name] = queue.Queue(), threading.Event()
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(contextvars.copy_context().run, host, name)
        try:
            yield begun.get(timeout=PATIENCE_S)
        finally:
            over.set()
            running.result(PATIENCE_S)
            # At the end of the tests there is no server any more that would take them.
            APILogWorker.drain_all(timeout=PATIENCE_S)
            EventsWorker.drain_all(timeout=PATIENCE_S)


@contextlib.contextmanager
def inside(
    context: contextvars.Context, manager: contextlib.AbstractContextManager[Pool]
) -> Iterator[Pool]:
    """A pool that is opened and closed in a flow run."""
    stack = contextlib.ExitStack()
    try:
        yield context.run(stack.enter_context, manager)
    finally:
        context.run(stack.close)


@dataclass(frozen=True)
class Nap:
    """What `nap` is asked for.

    Attributes:
        journal: File that gets a line when the nap begins, and when it ends.
        name: In those lines; it is returned.
        seconds: How long it takes.
        until: File that it waits for as well.
    """

    journal: Path
    name: str
    seconds: float = 0.0
    until: Path | None = None


@task
def nap(request: Nap) -> str:
    """Sleep."""
    _note(request.journal, f"begin {request.name} {get_worker().address}")
    time.sleep(request.seconds)
    end = time.monotonic() + PATIENCE_S
    while request.until is not None and not request.until.exists():
        if time.monotonic() > end:
            raise TimeoutError(f"{request.until} does not come")
        time.sleep(0.05)
    _note(request.journal, f"end {request.name} {get_worker().address}")
    return request.name


@task
def throw(request: Exception) -> None:
    """Fail."""
    raise request


@task
def kill_worker(request: Path) -> None:
    """End the worker as a crash of a library would."""
    _note(request, f"begin kill {get_worker().address}")
    os.kill(os.getpid(), signal.SIGKILL)


@task
def evaluate(request: str) -> Any:
    """Evaluate an expression."""
    return eval(request)


def _note(journal: Path, line: str) -> None:
    """Append a line; lines of several processes do not mix."""
    descriptor = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


class Landed:
    """Tickets that are over, in that order."""

    def __init__(self) -> None:
        self.tickets: list[Ticket] = []

    def __call__(self, ticket: Ticket) -> None:
        self.tickets.append(ticket)

    def wait(self, number: int, seconds: float = PATIENCE_S) -> list[Ticket]:
        """The tickets, once there are so many."""
        wait_for(lambda: len(self.tickets) >= number, f"{number} tasks are over", seconds)
        return self.tickets


def wait_for(condition: Callable[[], bool], what: str, seconds: float = PATIENCE_S) -> None:
    """Return when `condition()` holds.

    Raises:
        AssertionError: It did not within `seconds`.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.05)


def lines(journal: Path, word: str) -> list[str]:
    """Names of the naps that have begun, or ended, in that order."""
    told = journal.read_text().splitlines() if journal.exists() else []
    return [line.split()[1] for line in told if line.startswith(f"{word} ")]
