"""The watch on the Prefect API: one thread asks whether it answers, everybody else looks here.

A run can do without the API: nothing of it waits for a server that is dead, hangs, or has lost its
database. What is told to the API is told by `flows.runs.teller`.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

import httpx
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL

from aimspax_core.text import duration_text
from flows.runs.api_health import Answer, ApiHealth, Found
from flows.server.api import NO_ANSWER, ServerError, ask
from flows.server.current import OURS, revive

LOOK_S = 2.0
"""From one look at the API to the next (s); each is one small call."""

_TIMEOUT_S = 5.0
_REVIVE_S = 60.0
"""From one attempt to start our own server again to the next (s)."""

log = logging.getLogger(f"aimspax.{__name__}")


@dataclass
class Outage:
    """A time without the API.

    Attributes:
        began: When (seconds since 1970).
        why: What was wrong.
        seconds: How long it took; None while it lasts.
        done: Tasks that were done without the API, by their names.
    """

    began: float
    why: str
    seconds: float | None = None
    done: Counter[str] = field(default_factory=Counter)

    def row(self) -> dict[str, str]:
        """Return the outage as the row of a table."""
        began = datetime.fromtimestamp(self.began).astimezone().isoformat(" ", "seconds")
        took = duration_text(self.seconds or 0.0)
        return {"since": began, "for": took, "why": self.why, "done without it": self.sums}

    @property
    def sums(self) -> str:
        """What was done meanwhile: `3 label, 1 train`; `nothing`."""
        done = (f"{count} {name}" for name, count in sorted(self.done.items()))
        return ", ".join(done) or "nothing"


class ApiWatch:
    """What is known of the Prefect API now.

    Attributes:
        outages: Times without it, the latest last.
        waits: Whether nothing new begins without it: `MISC.without_server: wait`.

    Args:
        look: Looks at the API once; None: all is well, always.
        revive: Starts our own server again if it died.
    """

    def __init__(
        self, look: Callable[[], Found] | None = None, revive: Callable[[], object] | None = None
    ) -> None:
        self.outages: list[Outage] = []
        self.waits = False
        self._look, self._revive = look, revive
        self._found = Found(Answer.FINE)
        self._health = ApiHealth()
        self._revived = -_REVIVE_S
        self._lock = threading.Lock()
        self._hurry, self._closed = threading.Event(), False
        self._listeners: list[Callable[[bool], None]] = []

    @property
    def watches(self) -> bool:
        """Whether this watch looks at all, and tells what it finds."""
        return self._look is not None

    @property
    def answers(self) -> bool:
        """Whether the API can be asked."""
        return not self._health.away

    @property
    def holds(self) -> bool:
        """Whether nothing new should begin; for a run that the API forgot nobody need wait."""
        return self.waits and self._health.away and not self._health.lost

    @property
    def state(self) -> str:
        """Type of the flow run's state on the server, such as `CANCELLING`; empty: not known."""
        return self._found.state

    @property
    def state_name(self) -> str:
        """Name of the flow run's state on the server, such as `Suspended`; empty: not known."""
        return self._found.state_name

    def on_change(self, listener: Callable[[bool], None]) -> Callable[[], None]:
        """Have a function called with whether the API answers, now and whenever that changes.

        Returns:
            What ends that, however often it is called.
        """
        self._listeners.append(listener)
        listener(self.answers)

        def leave() -> None:
            with contextlib.suppress(ValueError):
                self._listeners.remove(listener)

        return leave

    def doubt(self) -> None:
        """Look at once: a call has failed."""
        with self._lock:
            self._health = self._health.doubted()
        self._hurry.set()

    def look_now(self) -> bool:
        """Look in this moment, unless the API is away; return whether it can be asked."""
        if self._look is None or not self.answers:
            return self.answers
        found = self._look()
        if found.answer is Answer.FINE:
            with self._lock:
                self._found = found
        return found.answer is Answer.FINE

    def note(self, task: str) -> None:
        """Count a task that was done, if the API is away."""
        with self._lock:
            if self.outages and not self.answers:
                self.outages[-1].done[task] += 1

    def watch(self) -> None:
        """Look again and again until the watch is closed."""
        assert self._look is not None
        failed = False
        while not self._closed:
            try:
                self.take(self._look())
                if self._health.refused > 1 and self._revive is not None:
                    self._start_again(self._revive)
            # A watch that ended would leave the run with what it saw last.
            except Exception:
                log.log(logging.DEBUG if failed else logging.ERROR, "the watch", exc_info=True)
                failed = True
            self._hurry.wait(LOOK_S)
            self._hurry.clear()

    def close(self) -> None:
        """Look no more."""
        self._closed = True
        self._hurry.set()

    def take(self, found: Found) -> None:
        """Take in what a look has found, and say so if the API went, or is back."""
        with self._lock:
            before, self._health = self._health, self._health.after(found)
            after = self._health
            if found.answer is Answer.FINE:
                self._found = found
        if after.away and not before.away:
            self.outages.append(Outage(time.time(), after.why))
            log.warning("%s: %s", after.why, self._meanwhile)
        elif after.lost and not before.lost:
            log.warning("%s: %s", after.why, self._meanwhile)
        elif before.away and not after.away:
            outage = self.outages[-1]
            outage.seconds = time.time() - outage.began
            took = duration_text(outage.seconds)
            log.warning("the Prefect API is back, after %s; done without: %s", took, outage.sums)
        if after.away is not before.away:
            for listener in tuple(self._listeners):
                listener(not after.away)

    @property
    def _meanwhile(self) -> str:
        """What the run does while the API is away."""
        return _TO_ITS_END if self._health.lost else _WAITS if self.holds else _GOES_ON

    def _start_again(self, revive: Callable[[], object]) -> None:
        if time.monotonic() - self._revived < _REVIVE_S:
            return
        self._revived = time.monotonic()
        try:
            revive()
        except ServerError as error:
            log.warning("the Prefect server cannot be started again: %s", error)


_GOES_ON = (
    "going on without it (MISC.without_server: go_on); the run's page stands still until it is back"
)
_TO_ITS_END = "going on without it to the end; the next start has a page again"
_WAITS = (
    "nothing new begins until it is back (MISC.without_server: wait); what runs is finished and "
    "kept"
)


def from_api(error: BaseException) -> bool:
    """Tell whether an error is that of a Prefect API that is away, and not of the work."""
    if isinstance(error, RuntimeError):
        return str(error).startswith("Failed to reach API")
    return isinstance(error, httpx.HTTPError | PrefectException)


def look(api_url: str, flow_run: str) -> Found:
    """Look at the API once, by asking for a flow run: its database has to answer, too.

    Args:
        api_url: As in `PREFECT_API_URL`.
        flow_run: The id of the flow run.
    """
    at = f"the Prefect API at {api_url}"
    try:
        found = ask(f"{api_url}/flow_runs/{flow_run}", timeout_s=_TIMEOUT_S)
    except httpx.HTTPStatusError as error:
        code = error.response.status_code
        if code == httpx.codes.NOT_FOUND:
            return Found(Answer.UNKNOWN, f"{at} does not know this run (is its database lost?)")
        return Found(Answer.SILENT, f"{at} answers {code} {error.response.reason_phrase}")
    except httpx.ConnectError as error:
        return Found(Answer.REFUSED, f"{at} does not answer ({error})")
    except NO_ANSWER as error:
        return Found(Answer.SILENT, f"{at} does not answer ({str(error) or type(error).__name__})")
    state = (found.get("state") if isinstance(found, dict) else None) or {}
    return Found(Answer.FINE, state=state.get("type", ""), state_name=state.get("name", ""))


_CALM = ApiWatch()
_current: list[ApiWatch] = []


def api_watch() -> ApiWatch:
    """Return the watch of this process's run; outside of a run, one that finds all well."""
    return _current[-1] if _current else _CALM


@contextlib.contextmanager
def watching() -> Iterator[ApiWatch]:
    """Watch the API of the flow run that this is in, while the block runs."""
    context, url = FlowRunContext.get(), str(PREFECT_API_URL.value() or "").rstrip("/")
    if _current or context is None or context.flow_run is None or not url:
        yield api_watch()
        return
    flow_run = str(context.flow_run.id)
    ours = os.environ.get(OURS, "") == url
    watch = ApiWatch(lambda: look(url, flow_run), (lambda: revive(url)) if ours else None)
    # What is logged there belongs to the flow run of this thread, as contexts know it.
    run = contextvars.copy_context().run
    thread = threading.Thread(target=run, args=(watch.watch,), name="api-watch", daemon=True)
    _current.append(watch)
    thread.start()
    try:
        yield watch
    finally:
        watch.close()
        _current.remove(watch)
