"""What a verification found: findings, notes, and what was looked at."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any


class Kind(StrEnum):
    """The sort of a finding."""

    MISSING = "missing"  # a file that must be there is not
    UNREADABLE = "unreadable"  # a file that cannot be read as what it should be
    CHANGED = "changed"  # a file whose content is not what its checksum or key says
    SEQUENCE = "sequence"  # the journal's events are not one after the other
    EVENT = "event"  # an event that cannot follow those before it
    TWICE = "twice"  # a point, a label or an epoch that is there more than once
    BUDGET = "budget"  # a label that the budget had nothing left for
    CHOICE = "choice"  # a label, a refusal or a restart that the rules would not have chosen
    MIXED = "mixed"  # a label in training and validation of one member
    SETS = "sets"  # a set that is not the one that the journal says
    VALUES = "values"  # energies, forces or positions that are not those of the label
    ERROR = "error"  # a model whose validation error is not the journalled one
    COUNTER = "counter"  # a number of the snapshot that is not what the events add up to
    STATE = "state"  # what the snapshot says otherwise than the events
    UNUSED = "unused"  # a label that was computed and is not used
    LEFT = "left"  # a file that only a process that runs may leave


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        kind: Its sort.
        file: The file that it is about.
        what: What is wrong, in a sentence.
    """

    kind: Kind
    file: Path
    what: str

    def line(self, directory: Path) -> str:
        """Return the finding in a line, with a path that begins in the run directory."""
        return f"{shown(self.file, directory)}: {self.what}"


@dataclass
class Report:
    """What one look at a run directory found.

    Attributes:
        findings: What is not as it should be, in the order in which it was found.
        notes: What one may want to know and is no fault: lines.
        looked_at: How many events, labels, datasets, checkpoints, MD states and models were read.
    """

    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    looked_at: Counter[str] = field(default_factory=Counter)

    def found(self, kind: Kind, file: Path, what: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(kind, file, what))

    def as_json(self, directory: Path) -> dict[str, Any]:
        """Return the report as plain data."""
        found = (
            {"kind": f.kind.value, "file": shown(f.file, directory), "what": f.what}
            for f in self.findings
        )
        return {
            "directory": str(directory),
            "looked_at": dict(self.looked_at),
            "findings": list(found),
            "notes": self.notes,
        }


def shown(file: Path, directory: Path) -> str:
    """Return a path as it is shown: inside the run directory, from there."""
    return str(file.relative_to(directory)) if file.is_relative_to(directory) else str(file)
