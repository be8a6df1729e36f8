"""Small pieces of sentences: lengths of time, lists of names, the nearest name to a wrong one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def duration_text(seconds: float) -> str:
    """Return a length of time for a reader: `0.35 s`, `90 s`, `10 min`, `1 h`, `2.5 h`.

    Args:
        seconds: The length of time (s); a negative one counts as none.
    """
    seconds = max(0.0, seconds)
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 9.95 else f"{seconds:.0f} s"
    if seconds < 7200 and seconds != 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f}".removesuffix(".0") + " h"


def per_minute(count: int, seconds: float) -> str:
    """Return a rate for a reader: `12 a minute`, or `3 an hour` where it is below 3 a minute.

    Args:
        count: How many there were.
        seconds: In which time (s).
    """
    a_minute = 60 * count / seconds
    return f"{a_minute:.0f} a minute" if a_minute >= 3 else f"{60 * a_minute:.0f} an hour"


def number_of(count: int, one: str, more: str = "") -> str:
    """Return `1 label` or `2 labels`.

    Args:
        count: How many there are.
        one: The word for one.
        more: The word for more of them; empty: with an s.
    """
    return f"{count} {one}" if count == 1 else f"{count} {more or one + 's'}"


def or_list(names: Iterable[object]) -> str:
    """Return names as `a, b or c`; at least one."""
    return _list(names, "or")


def and_list(names: Iterable[object]) -> str:
    """Return names as `a, b and c`; at least one."""
    return _list(names, "and")


def _list(names: Iterable[object], word: str) -> str:
    *first, last = [str(name) for name in names]
    return f"{', '.join(first)} {word} {last}" if first else last


def nearest_name(name: object, known: Iterable[object], least: float = 0.6) -> str | None:
    """Return the known name that is most like a wrong one, whatever its case.

    Args:
        name: What was written; anything but a text is compared as it is printed.
        known: The names that there are.
        least: The likeness, between 0 and 1, that a known name must have (`difflib`'s ratio).

    Returns:
        The name as it is known; None if no known name is like it.
    """
    folded = {str(one).lower(): str(one) for one in known}
    close = difflib.get_close_matches(str(name).lower(), list(folded), n=1, cutoff=least)
    return folded[close[0]] if close else None


def did_you_mean(name: object, known: Iterable[object]) -> str:
    """Return `; did you mean x?` with the nearest known name; empty if no known name is near."""
    close = nearest_name(name, known)
    return f"; did you mean {close}?" if close is not None else ""
