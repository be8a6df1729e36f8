"""The durable record of a campaign: a log of events, a snapshot now and then, and a lock."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from aimspax_core import locks
from aimspax_core.campaign.events import EVENT, Event
from aimspax_core.campaign.record import Record
from aimspax_core.campaign.rules import apply
from aimspax_core.campaign.state import SCHEMA_VERSION, CampaignState
from aimspax_core.errors import CampaignError
from aimspax_core.locks import Holder
from aimspax_core.run_directory import RunDir
from aimspax_core.safe_files import append, write_text
from aimspax_core.storage import text as text_of

SNAPSHOT_EVERY = 200
"""Events from one snapshot to the next."""

log = logging.getLogger(f"aimspax.{__name__}")


class Entry(Record):
    """One line of the journal."""

    seq: int
    time: float
    event: Event


class _Snapshot(Record):
    seq: int
    state: CampaignState


class Journal:
    """The events of a campaign, on disk before they count.

    Use as a context manager; one process at a time can hold a campaign's journal.
    """

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._size: int | None = None  # of its file, as far as events are in it that count
        self._opened = contextlib.ExitStack()
        self.seq = self._covered = 0  # the last event, and the last that a snapshot was made of
        self._state: CampaignState | None = None

    @property
    def state(self) -> CampaignState:
        """The state after all events so far.

        Raises:
            CampaignError: The campaign has not started.
        """
        if self._state is None:
            raise CampaignError(f"{self._run.output}: no campaign has been started here")
        return self._state

    @property
    def begun(self) -> bool:
        """True if there is at least one event."""
        return self._state is not None

    def __enter__(self) -> Journal:
        self._run.state.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            stack.enter_context(_alone(self._run))
            self.seq, self._state = load(self._run)
            self._covered = self.seq
            _cut_torn_line(self._run.journal)
            self._size = append(self._run.journal, b"")
            self._opened = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._opened:
            if self.seq > self._covered:
                self._snapshot()

    def append(self, *events: Event) -> CampaignState:
        """Write events to disk, then apply them; return the new state.

        Those that come together wait for the disk once, which on a network's file system takes
        longer than all else. None of them counts if one is refused.

        Raises:
            OSError: The journal cannot be written to; it names the file. No event counts, and the
                same call may be made again later.
        """
        assert self._size is not None
        new, text = self._state, b""
        for seq, event in enumerate(events, start=self.seq + 1):
            new = apply(new, event)
            entry = Entry(seq=seq, time=time.time(), event=event)
            text += entry.model_dump_json().encode() + b"\n"
        if new is None or not text:
            return self.state
        self._size = append(self._run.journal, text, self._size)
        self.seq, self._state = self.seq + len(events), new
        if self.seq - self._covered >= SNAPSHOT_EVERY:
            self._snapshot()
        return new

    def _snapshot(self) -> None:
        """Save time for the next start; the events are in the journal, whatever happens here."""
        snapshot = _Snapshot(seq=self.seq, state=self.state)
        try:
            write_text(self._run.snapshot, snapshot.model_dump_json())
        except OSError as error:
            log.warning("no snapshot: %s; the next start reads the whole journal", text_of(error))
        self._covered = self.seq


def load(run: RunDir) -> tuple[int, CampaignState | None]:
    """Return the number of events and the state after them; (0, None) if there are none.

    The snapshot only saves time: one that cannot be used is left out, and all events are replayed.
    Another process may be writing meanwhile.

    Raises:
        CampaignError: A line of the journal is damaged, or its end is missing.
    """
    snapshot = _usable_snapshot(run.snapshot)
    known, state = (0, None) if snapshot is None else (snapshot.seq, snapshot.state)
    seq = 0
    for seq, line in _lines(run.journal):
        if seq > known:
            state = apply(state, _entry(run.journal, seq, line).event)
    if seq < known:
        raise CampaignError(
            f"{run.journal} ends with event {seq}, but {run.snapshot.name} knows {known} events: "
            "the journal was cut or replaced. Put it back, or remove the snapshot to go on from "
            f"event {seq}"
        )
    return seq, state


def entries(path: Path) -> Iterator[Entry]:
    """Read the journal's lines in order; a torn last line, a crash's trace, is left out.

    Raises:
        CampaignError: A line that is not the last is damaged.
    """
    for number, line in _lines(path):
        yield _entry(path, number, line)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Read the journal's lines and their numbers, which are those of the events."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                log.info("%s: the last line is torn and is left out", path)
                return
            yield number, line


def _entry(path: Path, number: int, line: bytes) -> Entry:
    try:
        content = json.loads(line)
        if content["seq"] != number:
            raise ValueError(f"event {content['seq']} in the place of event {number}")
        event = EVENT.validate_python(content["event"])
        return Entry.model_construct(seq=number, time=content["time"], event=event)
    except (ValueError, KeyError, TypeError) as error:
        raise CampaignError(f"{path}:{number}: damaged journal line ({error})") from error


def _usable_snapshot(path: Path) -> _Snapshot | None:
    try:
        snapshot = _Snapshot.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        log.warning("%s is left out, all events are replayed: %s", path, error)
        return None
    if snapshot.state.schema_version != SCHEMA_VERSION:
        log.warning("%s is of another release; all events are replayed", path)
        return None
    return snapshot


def _cut_torn_line(path: Path) -> None:
    """Remove an incomplete last line, so that the next event begins a line of its own."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        content_end = file.seek(0, os.SEEK_END)
        position = content_end
        while position > 0:
            file.seek(position - 1)
            if file.read(1) == b"\n":
                break
            position -= 1
        if position < content_end:
            file.truncate(position)


def holder(run: RunDir) -> Holder | None:
    """Return the process that runs the campaign; None if none does."""
    return locks.holder(run.lock)


@contextlib.contextmanager
def _alone(run: RunDir) -> Iterator[None]:
    """Hold the campaign's lock.

    Raises:
        CampaignError: Another process holds it; the text says which.
    """
    with locks.held(run.lock) as lock:
        if lock is None:
            raise CampaignError(
                f"{run.output}: this campaign is being run by {holder(run) or Holder()}"
            )
        yield
