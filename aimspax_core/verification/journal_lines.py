"""The journal's lines, read as plain JSON: one event each, numbered from 1 without a gap."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aimspax_core.verification.findings import Kind, Report

Event = dict[str, Any]
"""An event as the journal has it."""


def events(journal: Path, report: Report) -> Iterator[tuple[int, Event]]:
    """Read events in order, with their numbers, up to the first line that is wrong.

    A torn last line is what a process that was killed leaves: a note, no finding.
    """
    expected = 1
    with journal.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                report.notes.append(f"{journal.name}: the last line is torn; it never counted")
                return
            where = f"line {expected}"
            try:
                entry = json.loads(line)
                seq, event = entry["seq"], entry["event"]
                kind = event["kind"]
            except (ValueError, KeyError, TypeError) as error:
                why = f"{type(error).__name__}: {error}"
                report.found(Kind.UNREADABLE, journal, f"{where} is no event ({why})")
                return
            if seq != expected:
                report.found(
                    Kind.SEQUENCE, journal, f"{where} has event {seq} ({kind}), not {expected}"
                )
                return
            report.looked_at["events"] += 1
            yield seq, event
            expected += 1
