"""What a run shows in the terminal: its log lines, and a bar for the phase it is in."""

from __future__ import annotations

import contextlib
import logging
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
from aimspax_core.report.progress import progress
from flows.runs.listeners import listening

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
        self._bar.update(self._task, completed=now.fraction or 0.0, total=total)


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
