"""Exit codes of the commands, and the terminal that they print to."""

from __future__ import annotations

from typing import Final

from rich.console import Console

DONE: Final = 0
FAILED: Final = 1
USER: Final = 2
"""There is something for the user to mend."""

INCOMPLETE: Final = 3
"""It is done, but for frames of a dataset that have no label."""

console = Console(highlight=False, soft_wrap=True)
