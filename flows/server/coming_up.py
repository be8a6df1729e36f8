"""A Prefect server that has been started is waited for, as long as it gets on."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from flows.server.api import silence
from flows.server.own_files import State, alive, log_file

STARTUP_S = 240.0
"""How long a server that lives may take until it answers (s): on a busy machine, or with a large
database that it brings up to date."""

LONGEST_S = 1200.0
"""How long it may take while it computes (s): there the machine has hardly any time for it."""

_SLOW_S = 45.0
"""When a person is told that this takes its time (s)."""

_MINUTE_S = 60.0
"""From one look at what it computes to the next, and from one word to a person to the next (s)."""

_LEAST_S = 1.0
"""CPU time in that time (s) of a server that gets on: one with nothing to do takes less."""

logger = logging.getLogger(f"aimspax.{__name__}")


class Patience:
    """Whether a server that does not answer is waited for.

    Args:
        cpu_s: Returns the CPU time that it has taken so far (s).
    """

    def __init__(self, cpu_s: Callable[[], float]) -> None:
        self._cpu_s = cpu_s
        self._looked_at, self._had, self._gets_on = 0.0, 0.0, False

    def left(self, waited_s: float) -> bool:
        """Return whether it is waited for longer than this time (s)."""
        if waited_s - self._looked_at >= _MINUTE_S:
            had = self._cpu_s()
            self._gets_on = had - self._had >= _LEAST_S
            self._looked_at, self._had = waited_s, had
        return waited_s < STARTUP_S or (self._gets_on and waited_s < LONGEST_S)


def comes_up(home: Path, state: State, spawned: bool) -> bool:
    """Wait until a server answers; False if it died or takes longer than it may.

    Args:
        home: Prefect's folder.
        state: What is known of the server.
        spawned: Whether this process has just started it: it may not have its port yet.
    """
    began, tell_at = time.monotonic(), _SLOW_S
    patience = Patience(lambda: _cpu_s(state.pid))
    while patience.left(waited_s := time.monotonic() - began):
        if not alive(home):
            return False
        if silence(f"{state.url}/api") is None and (not spawned or _listens(state)):
            return True
        if waited_s > tell_at:
            tell_at = waited_s + _MINUTE_S
            logger.warning(
                "the local Prefect server has not answered for %.0f s (log: %s)%s; still waiting",
                *(waited_s, log_file(home), busy_text()),
            )
        time.sleep(0.2)
    return False


def busy_text() -> str:
    """Return how busy this machine is, as the end of a sentence; nothing if it is not."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load < 2 * cores:
        return ""
    return f": this machine is busy, {load:.0f} processes want its {cores} cores"


def _cpu_s(pid: int) -> float:
    """Return the CPU time of a process and those that it has begun (s)."""
    total = 0.0
    with contextlib.suppress(psutil.Error):
        server = psutil.Process(pid)
        for process in (server, *server.children(recursive=True)):
            with contextlib.suppress(psutil.Error):  # one may end meanwhile
                times = process.cpu_times()
                total += times.user + times.system
    return total


def _listens(state: State) -> bool:
    """Return whether it is our server that listens on its port.

    Two servers of different folders that start in the same seconds have found the same port free:
    what answers there may be the other one, while ours has yet to find the port taken. Where that
    cannot be told, as in a container that shows nobody's sockets, it is taken to be ours.
    """
    try:
        return any(
            one.status == psutil.CONN_LISTEN and one.laddr.port == state.port
            for one in psutil.Process(state.pid).net_connections("tcp")
        )
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
