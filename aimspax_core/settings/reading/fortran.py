"""Numbers and logical values as Fortran's list-directed input takes them."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([ed][+-]?\d+)?", re.ASCII | re.IGNORECASE)
_LOGICAL = re.compile(r"\.?(t|f|true|false)\.?", re.IGNORECASE)
_LIST_COMMA = re.compile(r"(?<=[\d.]),(?=\s|[-+.\d]|$)", re.ASCII)


def fortran_number(token: str) -> float | None:
    """Return what Fortran reads as a number (`1d-5`, `.5`, `0.`); None if it is none."""
    if not _NUMBER.fullmatch(token):
        return None
    return float(token.lower().replace("d", "e"))


def fortran_logical(token: str) -> bool | None:
    """Return what Fortran reads as a logical (`.true.`, `T`, `false`); None if it is none."""
    if not _LOGICAL.fullmatch(token):
        return None
    return token.lstrip(".")[:1].lower() == "t"


def fortran_words(line: str) -> list[str]:
    """Return the words of a line; a comma between numbers parts them as a blank does."""
    return _LIST_COMMA.sub(" ", line).split()
