"""From the files of a journal to the state of the campaign, whatever has become of the files.

The snapshot saves the replay of the events that it knows, and stands in for lines that are damaged
or gone. Lines that neither it nor the lines before them lead to are of no use. If they are few,
what is before them is gone on from; if they are many, a person decides.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aimspax_core.campaign.events import StateRestored
from aimspax_core.campaign.journal_lines import DamagedLineError, Entry, Line, entry_of, unsealed
from aimspax_core.campaign.journal_parts import lines, parts
from aimspax_core.campaign.record import Record
from aimspax_core.campaign.rules import apply
from aimspax_core.campaign.state import SCHEMA_VERSION, CampaignState
from aimspax_core.errors import CampaignError, NewerReleaseError
from aimspax_core.run_directory import RunDir

FEW = 200
"""How many events a campaign may lose to damage without asking; a snapshot is as old at most."""

_RESTORED = b'"event":{"kind":"%s"' % StateRestored.model_fields["kind"].default.encode()

log = logging.getLogger(f"aimspax.{__name__}")


class Snapshot(Record):
    """A state, and how many events lead to it."""

    seq: int
    aimspax: str = ""
    state: CampaignState


@dataclass(frozen=True)
class Reading:
    """What the files of a journal tell.

    Attributes:
        seq: Number of the last event.
        state: The state after it; None if there are no events.
        end: How many bytes of the journal's file count; what is behind them is to be cut off.
        lost: How many whole lines are behind them.
        covered: How many events the snapshot knows.
        closed: The last event that is in a closed part.
        led: Whether the events lead to the state; else only the snapshot knows it.
        notes: What was damaged, and what that costs, a line each.
    """

    seq: int
    state: CampaignState | None
    end: int
    lost: int
    covered: int
    closed: int
    led: bool
    notes: tuple[str, ...]


def read(run: RunDir) -> Reading:
    """Read a journal; another process may be writing to it meanwhile.

    Raises:
        CampaignError: Too much of the journal is damaged, or a newer release has written it.
    """
    snapshot, notes = _snapshot(run.snapshot)
    closed = parts(run.journal)
    replay = _Replay()
    if snapshot is not None:
        known = max((part.last for part in closed if part.last <= snapshot.seq), default=0)
        replay = _Replay(snapshot.seq, snapshot.state, known=known)
    try:
        for line in lines(run.journal, after=replay.known):
            replay.take(line)
    except NewerReleaseError as error:
        version = error.version or _last_release(run.journal)
        raise NewerReleaseError.of(run.journal, version) from error
    if replay.lost and (replay.lost > FEW or replay.state is None):
        raise CampaignError(
            f"{replay.behind}: {_count(replay.lost)} from there on cannot be "
            "replayed, and no snapshot covers them. Put back a copy of the file; or begin anew "
            "with --fresh: this campaign is moved aside, and each of its labels is used again, "
            "none is computed twice"
        )
    notes += _notes(run, replay)
    led = replay.broken is None and replay.known >= replay.seq
    return Reading(
        seq=replay.seq,
        state=replay.state,
        end=replay.end,
        lost=replay.lost,
        covered=0 if snapshot is None else snapshot.seq,
        closed=max((part.last for part in closed), default=0),
        led=led,
        notes=tuple(notes),
    )


def entries(journal: Path) -> Iterator[Entry]:
    """Read a journal's events in order; a torn last line, a crash's trace, is left out.

    Damaged lines are left out too if the state is told again after them.

    Raises:
        CampaignError: A line is damaged, and the state is not told again after it.
    """
    known, wrong = 0, ""
    for line in lines(journal):
        if line.torn:
            log.info("%s: the last line is torn and is left out", journal)
            break
        if line.seq is not None and line.seq <= known:
            continue
        restored = _RESTORED in line.text
        if not restored and (wrong or line.seq != known + 1):
            wrong = wrong or f"{line.place}: {_misplaced(line.seq, known + 1)}"
            continue
        try:
            entry = entry_of(line.text)
        except DamagedLineError as error:
            wrong = wrong or f"{line.place}: {_DAMAGED} ({error})"
            continue
        if wrong:
            log.warning("%s; events up to %d are left out", wrong, entry.seq)
        known, wrong = entry.seq, ""
        yield entry
    if wrong:
        raise CampaignError(wrong)


def _last_release(journal: Path) -> str:
    """Return the last release that has written to a journal, as far as it says so."""
    found = [_RELEASE.findall(line.text) for line in lines(journal)]
    return next((names[-1].decode() for names in reversed(found) if names), "")


_RELEASE = re.compile(rb'"aimspax":"([^"]+)"')
_DAMAGED = "damaged journal line"


def _misplaced(found: int | None, expected: int) -> str:
    if found is None:
        return f"{_DAMAGED} (it is none, or was changed after it was written)"
    return f"{_DAMAGED} (event {found} in the place of event {expected})"


@dataclass
class _Replay:
    """A state, and what becomes of it line by line.

    Attributes:
        seq: Number of the event that led to the state.
        state: The state.
        end: Bytes of the file up to the last line that the state knows.
        known: The last event that the lines alone lead to.
        broken: Place of the first line that is of no use, if the state knows lines behind it.
        behind: The same, if it knows none.
        lost: How many whole lines there are from `behind` on.
        torn: Whether the last line was not finished.
    """

    seq: int = 0
    state: CampaignState | None = None
    end: int = 0
    known: int = 0
    broken: str | None = None
    behind: str = ""
    lost: int = 0
    torn: bool = False

    def take(self, line: Line) -> None:
        """Take the next line of the journal."""
        if line.torn:
            self.torn = True
            return
        wrong = self._wrong(line)
        if wrong:
            self.behind = self.behind if self.lost else f"{line.place}: {wrong}"
            self.lost += 1
            return
        if self.lost and self.broken is None:
            self.broken = self.behind
        self.lost, self.end = 0, line.end or self.end
        self._note_known(line)

    def _wrong(self, line: Line) -> str:
        """Take a line into the state; return why it cannot be, which is empty if it can."""
        if line.seq is not None and line.seq <= self.seq:
            return ""
        if line.seq != self.seq + 1 and _RESTORED not in line.text:
            return _misplaced(line.seq, self.seq + 1)
        try:
            entry = entry_of(line.text)
            self.state, self.seq = apply(self.state, entry.event), entry.seq
        except (KeyError, ValueError) as error:
            return f"{_DAMAGED} ({error})"
        return ""

    def _note_known(self, line: Line) -> None:
        """Note how far the lines alone lead."""
        assert line.seq is not None
        if _RESTORED in line.text:
            self.known, self.broken = line.seq, None
        elif line.seq == self.known + 1:
            self.known = line.seq
        elif line.seq > self.known and self.broken is None:
            self.broken = f"{line.place}: {_misplaced(line.seq, self.known + 1)}"


def _notes(run: RunDir, replay: _Replay) -> Iterator[str]:
    """Yield what is damaged, and what that costs."""
    if replay.lost:
        yield (
            f"{replay.behind}: {_count(replay.lost)} from there on cannot be "
            f"replayed, and the campaign goes on from event {replay.seq}. Labels that came since "
            "are found in the label store; should other files of that time be gone, begin anew "
            "with --fresh, which uses all labels"
        )
    elif replay.torn:
        yield f"{run.journal}: the last line was not finished, and is cut off"
    if replay.broken is not None:
        yield (
            f"{replay.broken}. {run.snapshot.name} covers it, and the campaign has "
            f"lost nothing; figures leave out what happened between events {replay.known} and "
            f"{replay.seq}"
        )
    elif replay.known < replay.seq:
        yield (
            f"{run.journal} ends with event {replay.known}, but {run.snapshot.name} knows "
            f"{replay.seq} events: the journal was cut or replaced. The campaign goes on from the "
            "snapshot, and has lost nothing that came before it; figures leave out what is between"
        )


def _count(number: int) -> str:
    return "1 event" if number == 1 else f"{number} events"


def _snapshot(path: Path) -> tuple[Snapshot | None, list[str]]:
    """Read the snapshot, if it is there and can be used; else say why not.

    Raises:
        NewerReleaseError: A newer release has written it.
    """
    try:
        content = unsealed(path.read_bytes())
        version = json.loads(content)["state"]["schema_version"]
        if version > SCHEMA_VERSION:
            raise NewerReleaseError.of(path, json.loads(content).get("aimspax", ""))
        if version < SCHEMA_VERSION:
            return None, [f"{path} is of another release; all events are replayed"]
        return Snapshot.model_validate_json(content), []
    except FileNotFoundError:
        return None, []
    except (ValueError, KeyError, TypeError) as error:
        why = str(error).partition("\n")[0]
        return None, [f"{path} is damaged ({why}); all events are replayed"]
