"""How a file that we have written is told from one of the user's with the same name."""

from __future__ import annotations

from pathlib import Path

from aimspax_core.report.document import contents

GENERATOR = "aimspax report"
"""What a page, and a file of references, say of what wrote them."""

REFERENCES_HEAD = f"% Written by {GENERATOR}."
"""First line of a file of references; BibTeX reads over what is in no entry."""

_HEAD = 1000
"""Bytes of a file within which it says so."""

_FORMATS = (contents.FORMAT, contents.COMPARED_FORMAT)
_MARKS = {
    ".html": (f'content="{GENERATOR}"',),
    ".json": tuple(f'"format": "{name}"' for name in _FORMATS),
    ".bib": (REFERENCES_HEAD,),
}
"""What is within each kind of file."""


def is_report(path: Path) -> bool:
    """Return whether a file is one of ours: a page, its data, or its references.

    Raises:
        OSError: It is not there, or cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    return any(mark.encode() in head for mark in _MARKS[path.suffix])
