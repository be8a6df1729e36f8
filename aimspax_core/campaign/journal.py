"""The durable record of a campaign: a log of events, a snapshot now and then, and a lock."""

from __future__ import annotations

import contextlib
import logging
import secrets
import time
from collections.abc import Iterator
from types import TracebackType

from aimspax_core import locks
from aimspax_core.campaign.events import Event, StateRestored
from aimspax_core.campaign.journal_lines import DamagedLineError, Entry, line_of, sealed
from aimspax_core.campaign.journal_parts import PART_EVENTS, close_part, drop_closed
from aimspax_core.campaign.journal_reading import FEW, Reading, Snapshot, entries, read
from aimspax_core.campaign.rules import apply
from aimspax_core.campaign.state import CampaignState
from aimspax_core.errors import CampaignError, HeldError
from aimspax_core.locks import Holder
from aimspax_core.run_directory import RunDir
from aimspax_core.safe_files import append, replacing
from aimspax_core.storage import text as text_of
from aimspax_core.versions import release

__all__ = ["SNAPSHOT_EVERY", "Entry", "Journal", "entries", "holder", "load"]

SNAPSHOT_EVERY = FEW
"""Events from one snapshot to the next."""

log = logging.getLogger(f"aimspax.{__name__}")


class Journal:
    """The events of a campaign, on disk before they count.

    Use as a context manager; one process at a time can hold a campaign's journal.

    Attributes:
        seq: Number of events so far.
        notes: What was found damaged, and what that costs; a line each, for the user.
    """

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._size: int | None = None  # of its file, as far as events are in it that count
        self._opened = contextlib.ExitStack()
        self.seq = self._covered = 0  # the last event, and the last that a snapshot was made of
        self._closed = 0  # the last event that is in a closed part
        self.notes: tuple[str, ...] = ()
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
            found = read(self._run)
            self.seq, self._state, self.notes = found.seq, found.state, found.notes
            self._repair(found)
            self._opened = stack.pop_all()
        return self

    def _repair(self, found: Reading) -> None:
        """Put the files in order, so that what was damaged is no news the next time."""
        if found.lost:
            name = f"journal-cut-at-{found.seq}-{secrets.token_hex(4)}.jsonl"
            self.notes += (f"what was cut off is kept in {self._run.state / name}",)
            with replacing(self._run.state / name) as aside, self._run.journal.open("rb") as file:
                file.seek(found.end)
                aside.write_bytes(file.read())
        self._size = append(self._run.journal, b"", found.end) - drop_closed(self._run.journal)
        self._covered, self._closed = found.covered, found.closed
        if not found.led and found.state is not None:
            self.append(StateRestored(state=found.state, reason=found.notes[-1]))
        if found.notes and self._state is not None:
            self._snapshot()

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
            text += line_of(Entry(seq=seq, time=time.time(), event=event))
        if new is None or not text:
            return self.state
        self._size = append(self._run.journal, text, self._size)
        self.seq, self._state = self.seq + len(events), new
        due = self.seq - self._covered >= SNAPSHOT_EVERY
        if due and self._snapshot() and self.seq - self._closed >= PART_EVENTS:
            self._close_part()
        return new

    def _close_part(self) -> None:
        """Compress what the snapshot knows; what cannot be stays as it is."""
        try:
            self._closed = close_part(self._run.journal, self._closed + 1, self.seq)
        except (OSError, DamagedLineError) as error:
            log.warning("the journal is not compressed: %s", error)
        self._size = self._run.journal.stat().st_size

    def _snapshot(self) -> bool:
        """Save time for the next start; the events are in the journal, whatever happens here."""
        snapshot = Snapshot(seq=self.seq, aimspax=release(), state=self.state)
        try:
            with replacing(self._run.snapshot) as aside:
                aside.write_bytes(sealed(snapshot.model_dump_json()))
        except OSError as error:
            log.warning("no snapshot: %s; the next start reads the whole journal", text_of(error))
        else:
            return True
        finally:
            self._covered = self.seq
        return False


def load(run: RunDir) -> tuple[int, CampaignState | None]:
    """Return the number of events and the state after them; (0, None) if there are none.

    Another process may be writing meanwhile. What is damaged, and is not needed, is passed over:
    the process that goes on with the campaign tells it.

    Raises:
        CampaignError: Too much of the journal is damaged, or a newer release has written it.
    """
    found = read(run)
    return found.seq, found.state


def holder(run: RunDir, *, patient: bool = False) -> Holder | None:
    """Return the process that runs the campaign; None if none does.

    Args:
        run: The run directory.
        patient: Wait until it is known whether one on another machine still does; else it counts.
    """
    return locks.holder(run.lock, patient=patient)


@contextlib.contextmanager
def _alone(run: RunDir) -> Iterator[None]:
    """Hold the campaign's lock.

    Raises:
        HeldError: Another process holds it; the text says which.
    """
    with locks.held(run.lock) as lock:
        if lock is None:
            raise HeldError(
                f"{run.output}: this campaign is being run by {holder(run) or Holder()}"
            )
        yield
