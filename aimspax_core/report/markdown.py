"""Tables and pictures in Markdown."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence

_ESCAPED = str.maketrans({"|": r"\|", "\n": " ", "<": "&lt;", "[": r"\[", "*": r"\*", "`": r"\`"})


def table(rows: Sequence[Mapping[str, object]], headings: bool = True) -> str:
    """Return rows, whose columns are the same, as a table; nothing if there are none.

    Args:
        rows: The rows, by the headings of their columns.
        headings: Whether the headings are shown.
    """
    if not rows:
        return ""
    names = [*rows[0]]
    head = _row(names if headings else [""] * len(names))
    return "\n".join([head, _row(["---"] * len(names)), *(_row(row.values()) for row in rows)])


def plain(text: object) -> str:
    """Return a text that Markdown shows as it is."""
    return str(text).translate(_ESCAPED)


def picture(png: bytes, name: str) -> str:
    """Return a picture, the content of a PNG file, that needs no other file."""
    return f"![{name}](data:image/png;base64,{base64.b64encode(png).decode()})"


def sections(parts: Mapping[str, str]) -> str:
    """Return texts under their headings; those without a text are left out."""
    return "\n\n".join(
        f"## {name}\n\n{text}" if name else text for name, text in parts.items() if text
    )


def _row(cells: Iterable[object]) -> str:

    return f"| {' | '.join(plain(cell) for cell in cells)} |"
