"""Lines of a journal: one JSON object each, with a checksum as its last key.

A line is `{"seq":7,"time":…,"event":{…},"sum":"9f…"}`. The checksum is of all that is before it, so
that a digit that changed on the disk is noticed. Lines of release 0.1.0 have none, and count.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from aimspax_core.campaign.events import EVENT, Event
from aimspax_core.campaign.record import Record
from aimspax_core.campaign.state import SCHEMA_VERSION
from aimspax_core.errors import NewerReleaseError

_SUM = b',"sum":"'
_SEQ = re.compile(rb'\{"seq":(\d{1,15}),')


class DamagedLineError(ValueError):
    """A line, or a file, is not as it was written."""


class Entry(Record):
    """One line of the journal."""

    seq: int
    time: float
    event: Event


@dataclass(frozen=True)
class Line:
    """A line of a journal as it lies on the disk.

    Attributes:
        text: All of it, with the line's end if it has one.
        seq: Number of its event; None if the line is damaged.
        end: How many bytes of the journal's file it and all lines before it are; None if it is in a
            part that is closed.
        file: Where it is.
        number: Which line of the file it is, from 1.
    """

    text: bytes
    seq: int | None
    end: int | None
    file: Path
    number: int

    @property
    def place(self) -> str:
        """File and line, for a reader."""
        return f"{self.file}:{self.number}"

    @property
    def torn(self) -> bool:
        """Whether the line's end is missing: it was being written."""
        return not self.text.endswith(b"\n")


def sealed(text: str) -> bytes:
    """Add the checksum to a JSON object, as its last key."""
    body = text.encode()[:-1]
    return b'%s%s%s"}' % (body, _SUM, _digest(body))


def unsealed(text: bytes) -> bytes:
    """Return the JSON object of a text without its checksum, if that holds or there is none.

    Raises:
        DamagedLineError: The text was changed after it was written.
    """
    body, mark, tail = text.rpartition(_SUM)
    if not mark or not tail.endswith(b'"}') or len(tail) > len(_digest(b"")) + 2:
        return text
    if tail[:-2] != _digest(body):
        raise DamagedLineError("its checksum is another")
    return body + b"}"


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:16].encode()


def split(content: Iterable[bytes], file: Path, closed: bool = False) -> Iterator[Line]:
    """Read a journal's lines; only what is cheap to see is looked at.

    Args:
        content: The file, open in binary mode.
        file: Its name.
        closed: Whether it is a part that is closed.
    """
    end = 0
    for number, text in enumerate(content, start=1):
        end += len(text)
        yield Line(text, _seq(text), None if closed else end, file, number)


def _seq(text: bytes) -> int | None:
    found = _SEQ.match(text)
    if found is None or not text.endswith(b"}\n"):
        return None
    try:
        if unsealed(text[:-1]) == text[:-1]:
            entry_of(text)  # there is no checksum to go by
    except DamagedLineError:
        return None
    return int(found[1])


def line_of(entry: Entry) -> bytes:
    """Return an entry as a line of the journal."""
    return sealed(entry.model_dump_json()) + b"\n"


def entry_of(text: bytes) -> Entry:
    """Return what a line holds.

    Raises:
        DamagedLineError: It is not a line of a journal.
        NewerReleaseError: A newer release has written it.
    """
    try:
        content = json.loads(unsealed(text.rstrip(b"\n")))
        seq, time, event = content["seq"], content["time"], content["event"]
        if event.get("schema_version", 0) > SCHEMA_VERSION:
            raise NewerReleaseError.of("the journal", event.get("aimspax", ""))
        return Entry.model_construct(seq=seq, time=time, event=EVENT.validate_python(event))
    except ValidationError as error:
        if _SUM in text:  # it is as it was written, so today's code has not written it
            raise NewerReleaseError.of("the journal", event.get("aimspax", "")) from error
        raise DamagedLineError(str(error)) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedLineError(str(error)) from error
