"""Closed parts of a journal: the oldest events, compressed, in files of their own.

A part holds lines of `journal.jsonl` as they were; its name says which events they are, and gzip
adds a checksum of all of it. It is made in this order, so that a process may be killed anywhere: a
snapshot knows the events; the part is written and read back; it is on the disk under its name; only
then the lines leave `journal.jsonl`. Until they have, they are in both, and count once.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aimspax_core.campaign.journal_lines import DamagedLineError, Line, split
from aimspax_core.safe_files import replacing

PART_EVENTS = 5_000
"""How many events a part has at least."""

_NAME = re.compile(r"(\d{9})-(\d{9})\.jsonl\.gz")
_BROKEN = (OSError, EOFError, zlib.error)
"""What reading a damaged part raises."""


@dataclass(frozen=True)
class Part:
    """A closed part of a journal.

    Attributes:
        path: Its file.
        first: Number of its first event.
        last: Number of its last event.
    """

    path: Path
    first: int
    last: int

    def lines(self) -> Iterator[Line]:
        """Read its lines; damage ends them with a line that is none."""
        number = 0
        try:
            with gzip.open(self.path, "rb") as file:
                for line in split(file, self.path, closed=True):
                    number = line.number
                    yield line
        except _BROKEN:
            yield Line(b"\n", None, None, self.path, number + 1)


def parts(journal: Path) -> list[Part]:
    """Return the closed parts of a journal in order."""
    found = ((path, _NAME.fullmatch(path.name)) for path in _folder(journal).glob("*.gz"))
    known = [Part(path, int(match[1]), int(match[2])) for path, match in found if match]
    return sorted(known, key=lambda part: (part.first, part.last))


def lines(journal: Path, after: int = 0) -> Iterator[Line]:
    """Read the lines of a journal, those of its closed parts first.

    Another process may be closing a part meanwhile; some lines come twice then.

    Args:
        journal: The file that grows.
        after: Parts with no event after this one are left out.
    """
    if not journal.exists():
        yield from _closed(journal, after)
        return
    with journal.open("rb") as file:  # opened first: what leaves it meanwhile is still in it
        yield from _closed(journal, after)
        yield from split(file, journal)


def _closed(journal: Path, after: int) -> Iterator[Line]:
    for part in parts(journal):
        if part.last > after:
            yield from part.lines()


def close_part(journal: Path, first: int, last: int) -> int:
    """Compress all lines of a journal's file, and empty it.

    Where an earlier call has written the part, and could not empty the file, that is done now; the
    events since stay in the file.

    Args:
        journal: The file, whose last line is finished.
        first: Number of its first event.
        last: Number of its last event, which a snapshot knows.

    Returns:
        The last event that is in a part now, and no longer in the file.

    Raises:
        OSError: The disk does not take it; nothing is lost.
        DamagedLineError: What was written is read back otherwise; it is removed again.
    """
    if drop_closed(journal):
        return parts(journal)[-1].last
    content = journal.read_bytes()
    path = _folder(journal) / f"{first:09d}-{last:09d}.jsonl.gz"
    with replacing(path) as aside:
        aside.write_bytes(gzip.compress(content, mtime=0))
        if _text(aside) != content:
            raise DamagedLineError(f"{path} is not read as it was written")
    _keep(journal, b"")
    return last


def drop_closed(journal: Path) -> int:
    """Remove lines that are in a closed part, too: a process was killed in between.

    Returns:
        How many bytes were removed.
    """
    closed = parts(journal)
    if not closed or not journal.exists():
        return 0
    content, text = journal.read_bytes(), _text(closed[-1].path)
    if not text or not content.startswith(text):
        return 0
    _keep(journal, content[len(text) :])
    return len(text)


def _keep(journal: Path, content: bytes) -> None:
    with replacing(journal) as aside:
        aside.write_bytes(content)


def _text(path: Path) -> bytes:
    """Return what a part holds; nothing if it is damaged."""
    try:
        return gzip.decompress(path.read_bytes())
    except _BROKEN:
        return b""


def _folder(journal: Path) -> Path:
    return journal.with_name("journal-parts")
