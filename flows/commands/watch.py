"""`aimspax status --watch`: how far a campaign is, shown anew as it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.text import Text

from aimspax_core.campaign.journal import holder
from aimspax_core.campaign.state import Phase
from flows.commands.exit_codes import DONE
from flows.commands.status import Status

LOOK_S = 1.0
"""From one look at the journal to the next (s)."""

GONE = "whoever ran it is gone: nothing new will come until somebody runs it again"


def watch(
    directory: Path,
    overrides: Mapping[str, Any],
    terminal: Console | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Show how far a campaign is, again and again, until it is over or whoever ran it is gone.

    In a terminal the text is renewed where it stands. Elsewhere, as in a pipe or a dumb terminal, a
    new one follows whenever something has changed.

    Args:
        directory: The run directory.
        overrides: Values in place of the files'.
        terminal: Where to print; None: standard output.
        sleep: Waits for so many seconds.
    """
    terminal = terminal or Console(highlight=False)
    status = Status(directory, overrides)
    look = _Look(status)
    if not terminal.is_terminal or terminal.is_dumb_terminal:
        return _follow(terminal, look, sleep)
    with Live(console=terminal, auto_refresh=False, vertical_overflow="ellipsis") as live:
        while True:
            if (shown := look.news()) is not None:
                bar = Padding(ProgressBar(1.0, status.fraction))  # on a line of its own
                live.update(Group(_time(), bar, *shown), refresh=True)
            if look.over:
                return DONE
            sleep(LOOK_S)


def _follow(terminal: Console, look: _Look, sleep: Callable[[float], None]) -> int:
    """Print what is new, one block below the other."""
    while True:
        if (shown := look.news()) is not None:
            for one in (_time(), *shown):
                terminal.print(one, soft_wrap=isinstance(one, Text))  # a reader has his own width
            terminal.print()
            terminal.file.flush()
        if look.over:
            return DONE
        sleep(LOOK_S)


def _time() -> Text:
    return Text(time.strftime("%H:%M:%S"), style="dim")


class _Look:
    """Looks at a campaign, and knows whether anything is new.

    Args:
        status: What tells how far it is.

    Attributes:
        over: Whether nothing new will come, as the campaign has ended, or nobody runs it any more.
    """

    def __init__(self, status: Status) -> None:
        self._status = status
        self._seen: object = None
        self._was_run = False
        self.over = False

    def news(self) -> Sequence[RenderableType] | None:
        """Return what is to be shown; None: it is what was shown last."""
        seen = self._stamp()
        if seen == self._seen:
            return None
        self._seen = seen
        runs = holder(self._status.run) is not None  # first: it may end in this moment
        blocks, state = self._status.blocks(), self._status.state
        ended = state is not None and state.phase in (Phase.FINISHED, Phase.FAILED)
        self.over = not runs and (ended or self._was_run)
        self._was_run = runs
        return [*blocks, Text(GONE)] if self.over and not ended else blocks

    def _stamp(self) -> object:
        """Return what changes with whatever is shown: the journal, and who writes it."""
        try:
            found = self._status.run.journal.stat()
        except FileNotFoundError:
            return "none"
        return found.st_size, found.st_mtime_ns, holder(self._status.run)
