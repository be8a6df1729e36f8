"""The journal's lines, read as plain JSON: one event each, numbered from 1 without a gap."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aimspax_core.verification.findings import Kind, Report

Event = dict[str, Any]
"""An event as the journal has it."""

RESTORED = "state-restored"
"""The event that tells the whole state after damage: what is wrong before it has been mended."""

_SUM = b',"sum":"'
_SUM_LENGTH = 16


def events(journal: Path, report: Report) -> Iterator[tuple[int, Event]]:
    """Read events in order, with their numbers, up to the first line that is wrong.

    If the state is told anew behind that line, they go on there, and what was wrong is a note. So
    is a torn last line, which a process leaves that was killed.
    """
    expected, wrong = 1, None
    for number, line in enumerate(_lines(journal), start=1):
        if not line.endswith(b"\n"):
            report.notes.append(f"{journal.name}: the last line is torn; it never counted")
            break
        kind, what, entry = _entry(line, expected)
        restored = not what or (kind is Kind.SEQUENCE and entry["event"]["kind"] == RESTORED)
        if wrong is not None and (entry.get("event") or {}).get("kind") != RESTORED:
            continue
        if not restored:
            wrong = (kind, f"line {number} {what}")
            continue
        if wrong is not None or what:
            told = wrong[1] if wrong else f"line {number} {what}"
            report.notes.append(f"{journal.name}: {told}; the state was told anew behind it")
        report.looked_at["events"] += 1
        wrong, expected = None, entry["seq"] + 1
        yield entry["seq"], entry["event"]
    if wrong is not None:
        report.found(wrong[0], journal, wrong[1])


def events_after(journal: Path, seq: int) -> Iterator[tuple[int, Event]]:
    """Read the events that follow an event, as far as they are sound."""
    expected = seq + 1
    for line in _lines(journal):
        _, wrong, entry = _entry(line, expected)
        if not wrong and line.endswith(b"\n"):
            yield expected, entry["event"]
            expected += 1


def action_id(action: dict[str, Any]) -> str:
    """Return the name of an action, by which its completion is told."""
    match action["kind"]:
        case "sample":
            name = f"sample:{action['step']}:{action['geometry']}"
            return f"{name}:{action['part']}" if action.get("part") else name
        case "label":
            return f"label:{action['key']}"
        case "propagate":
            return f"propagate:{action['number']}"
        case "train" | "converge":
            return f"{action['kind']}:{action['tag']}:{action['checkpoint']}"
        case "assess":
            return f"assess:{action['number']}"
        case "publish":
            return f"publish:{action['what']}"
        case other:
            return str(other)


def unsealed(content: bytes) -> tuple[bytes, bool]:
    """Return a JSON object without the checksum at its end, and whether that holds."""
    body, mark, tail = content.rpartition(_SUM)
    if not mark or len(tail) != _SUM_LENGTH + 2 or not tail.endswith(b'"}'):
        return content, True  # of a release that wrote none
    return body + b"}", hashlib.sha256(body).hexdigest()[:_SUM_LENGTH].encode() == tail[:-2]


def _lines(journal: Path) -> Iterator[bytes]:
    """Read all lines: those of closed parts, which are compressed, and those of the journal's file.

    Between two steps of closing a part its lines are in both; if the second one fails, and a later
    part is closed, the lines of one are in the other, too. They count once.
    """
    known: set[bytes] = set()  # digests: there may be many lines, and they are long
    for part in sorted(journal.with_name("journal-parts").glob("*.jsonl.gz")):
        try:
            content = gzip.decompress(part.read_bytes())
        except (OSError, EOFError, zlib.error) as error:
            yield f"{part.name}: {error}\n".encode()
            continue
        lines = content.splitlines(keepends=True)
        yield from (line for line in lines if _digest(line) not in known)
        known |= {_digest(line) for line in lines}
    with journal.open("rb") as file:
        yield from (line for line in file if _digest(line) not in known)


def _digest(line: bytes) -> bytes:
    return hashlib.sha256(line).digest()[:16]


def _entry(line: bytes, expected: int) -> tuple[Kind, str, dict[str, Any]]:
    """Return what is wrong with a line (nothing: an empty text), and its content if it has one."""
    content, holds = unsealed(line.rstrip(b"\n"))
    if not holds:
        return Kind.CHANGED, "has the checksum of another content", {}
    try:
        entry = json.loads(content)
        seq, kind = int(entry["seq"]), entry["event"]["kind"]
    except (ValueError, KeyError, TypeError) as error:
        return Kind.UNREADABLE, f"is no event ({type(error).__name__}: {error})", {}
    if seq != expected:
        return Kind.SEQUENCE, f"has event {seq} ({kind}), not {expected}", entry
    return Kind.SEQUENCE, "", entry
