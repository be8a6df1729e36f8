"""The page `docs/command-line.md`: every command with its flags, from the command line itself.

`python -m flows.commands.reference_page > docs/command-line.md` renews it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from cyclopts.docs import generate_markdown_docs

from flows.commands.app import app

_HEAD = """# All commands and flags

<!-- Generated: python -m flows.commands.reference_page > docs/command-line.md -->

What `aimspax COMMAND --help` prints. What the commands are for, their exit codes, and how values
reach them is on the page on [the command line](commands.md).

"""


def reference_page() -> str:
    """Return the page as Markdown."""
    with _called_as("aimspax"):
        found = generate_markdown_docs(
            app,
            heading_level=2,
            generate_toc=False,  # the site has one beside the page
            flatten_commands=True,
            no_root_title=True,
            skip_preamble=True,
        )
    found = found.replace("```console", "```text")  # nothing to type: what a command takes
    found = found.replace("(#aimspax-install", "(#aimspax---install")  # as headings are named
    return _HEAD + found.strip() + "\n"


@contextlib.contextmanager
def _called_as(name: str) -> Iterator[None]:
    """Have usages name the command, and not the process that writes this page."""
    before, sys.argv = sys.argv, [name]
    try:
        yield
    finally:
        sys.argv = before


if __name__ == "__main__":
    print(reference_page(), end="")
