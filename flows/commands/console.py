"""What a run shows in the terminal: its log lines, and a bar for the phase it is in."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from aimspax_core.campaign.events import Event
from aimspax_core.campaign.state import CampaignState
from aimspax_core.report.doing import doing_text, under_way
from aimspax_core.report.now_and_then import NowAndThen
from aimspax_core.report.progress import progress
from flows.runs.listeners import listening

_SILENCE_S = 30.0
"""Where there is no bar, after so long without a line the campaign says what it is doing (s)."""

_TICK_S = 1.0

_WIDE = 110
"""Columns of a terminal that has room for what is under way beside the bar."""

_STYLES = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "bold red"}


class _Lines(logging.Handler):
    """Prints log lines above the bar, and moves the bar along."""

    def __init__(self, bar: Progress, max_convergence_epochs: int) -> None:
        super().__init__()
        self._bar = bar
        self._max_convergence_epochs = max_convergence_epochs
        self._task: TaskID | None = None
        self._title = ""

    def emit(self, record: logging.LogRecord) -> None:
        style = _STYLES.get(record.levelno, "")
        time = self.formatter.formatTime(record, "%H:%M:%S") if self.formatter else ""
        line = f"[dim]{time}[/dim] {escape(self.format(record))}"
        self._bar.console.print(line, style=style, soft_wrap=True)

    def on_state(self, before: CampaignState | None, event: Event, after: CampaignState) -> None:
        """Move the bar to where the campaign is after an event."""
        now = progress(after, self._max_convergence_epochs)
        if self._task is None or now.title != self._title:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._title = now.title
            self._task = self._bar.add_task(now.title, total=1.0)
        total = None if now.fraction is None else 1.0
        wide = self._bar.console.width >= _WIDE
        doing = under_way(after) if wide else ""
        text = f"{now.title}: {doing}" if doing else now.title
        self._bar.update(self._task, completed=now.fraction or 0.0, total=total, description=text)


class _Sign(logging.Handler):
    """Says what a campaign is doing where nothing else has been said for a while."""

    def __init__(self, console: Console, silence_s: float) -> None:
        super().__init__()
        self._console, self._tick_s = console, min(_TICK_S, silence_s)
        self._pauses = NowAndThen(time.monotonic(), silence_s)
        self._state: CampaignState | None = None
        self._launched = False  # something, since this process began
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="sign of life", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Note that something was said."""
        self._pauses.heard(time.monotonic())

    def on_state(self, before: CampaignState | None, event: Event, after: CampaignState) -> None:
        """Keep the state after an event."""
        self._state = after
        self._launched = self._launched or bool(after.in_flight)

    def close(self) -> None:
        """Say nothing more."""
        self._over.set()
        self._thread.join()
        super().close()

    def _watch(self) -> None:
        while not self._over.wait(self._tick_s):
            state = self._state
            idle = state is not None and not state.in_flight and self._launched  # as at the end
            if idle or (state is not None and state.paused is not None):
                continue
            if self._pauses.due(time.monotonic(), None):
                now = time.strftime("%H:%M:%S")
                self._console.print(f"{now} {doing_text(state)}", markup=False, soft_wrap=True)


class _Plain(logging.Handler):
    """Prints log lines where there is no bar yet."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        style = _STYLES.get(record.levelno, "")
        self._console.print(record.getMessage(), style=style, markup=False, soft_wrap=True)


@contextlib.contextmanager
def saying(console: Console) -> Iterator[None]:
    """Print what is logged while the block runs: what a command does before the campaign."""
    handler, logger = _Plain(console), logging.getLogger("aimspax")
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


@contextlib.contextmanager
def signs_of_life(console: Console, silence_s: float = _SILENCE_S) -> Iterator[None]:
    """Say now and then what the campaign is doing while the block runs, if there is no bar."""
    if console.is_terminal:
        yield
        return
    sign, logger = _Sign(console, silence_s), logging.getLogger("aimspax")
    logger.addHandler(sign)
    try:
        with listening(sign.on_state):
            yield
    finally:
        logger.removeHandler(sign)
        sign.close()


@contextlib.contextmanager
def following(console: Console, max_convergence_epochs: int) -> Iterator[None]:
    """Show the campaign's log lines and progress while the block runs."""
    columns: list[Any] = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn()]
    columns += [
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    ]
    bar = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
    lines = _Lines(bar, max_convergence_epochs)
    lines.setFormatter(logging.Formatter())
    logger = logging.getLogger("aimspax")
    logger.addHandler(lines)
    try:
        with bar, listening(lines.on_state):
            yield
    finally:
        logger.removeHandler(lines)
