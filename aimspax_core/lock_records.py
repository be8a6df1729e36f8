"""What the file of a lock says of its holder, and what can be told from that.

A holder writes down which process it is and which file that is (its inode), and adds one to a
number now and then: its heartbeat. Whoever looks sees that the holder

- is dead: the process is gone from this machine, or the machine was booted since; or what holds
  this lock holds another file, from which this one was copied together with its directory;
- lives: the process is there, or the number has changed while one looked;
- or is dead, if the number has not changed for `SILENT_S`. Only changes are looked at, never a time
  that another machine has written.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import socket
import threading
import time
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

from aimspax_core.processes import Process

BEAT_S = 15.0
"""From one heartbeat to the next."""

SILENT_S = 60.0
"""A holder on another machine that has not changed its record for so long is dead."""

EMPTY_S = 1.0
"""How long a file may be empty before whoever made it has written to it."""

log = logging.getLogger("aimspax.locks")


class Verdict(Enum):
    """What is known of the holder of a lock."""

    FREE = "free"
    HELD = "held"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock; "?" where the lock's file does not say.

    Attributes:
        pid: Its number.
        host: The machine that it runs on.
        since: When it took the lock (local time).
        certain: False if it may be dead, on another machine, where it cannot be seen.
    """

    pid: int | str = "?"
    host: str = "?"
    since: str = "?"
    certain: bool = True

    def __str__(self) -> str:
        """Return the process, its machine and the time."""
        return f"process {self.pid} on {self.host}, since {self.since}"


@dataclass(frozen=True)
class LockRecord:
    """What the file of a lock says.

    Attributes:
        pid: The holder's number.
        host: The machine that it runs on.
        since: When it took the lock, for a reader.
        process: Which process it is.
        inode: Of the file that it holds.
        token: Of this lock alone.
        flock: Whether the operating system holds the lock, too.
        beat: Heartbeats so far.
    """

    pid: int
    host: str
    since: str
    process: str
    inode: int
    token: str
    flock: bool
    beat: int = 0

    @classmethod
    def new(cls, inode: int, flock: bool) -> LockRecord:
        """Return the record of a lock that this process takes."""
        return cls(
            pid=os.getpid(),
            host=socket.gethostname(),
            since=time.strftime("%Y-%m-%d %H:%M:%S"),
            process=str(Process.this()),
            inode=inode,
            token=secrets.token_hex(8),
            flock=flock,
        )

    @classmethod
    def read(cls, text: str) -> LockRecord | None:
        """Return what a file says; None if it is damaged, or of an earlier release."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None

    def is_known_to_flock(self) -> bool:
        """Return whether the operating system would say here that the lock is held, if it is."""
        process = Process.named(self.process)
        return self.flock and process is not None and process.shares_kernel()

    def text(self, beat: int = 0) -> str:
        """Return it for the file; the length does not depend on the heartbeat."""
        return f"{json.dumps(asdict(self) | {'beat': beat}):<512}\n"


def named(text: str) -> Holder:
    """Return the holder that a file names, whatever release has written it."""
    try:
        content = json.loads(text)
        return Holder(content["pid"], content["host"], content["since"])
    except (ValueError, TypeError, KeyError):
        return Holder()


class Watch:
    """Looks at the file of a lock, again and again, until it is known whether it is held.

    Attributes:
        text: What the file says.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.text = ""
        self._since: float | None = None
        self._told = False

    def look(self) -> Verdict:
        """Look once; what the file says is in `text` then."""
        try:
            with self._path.open(encoding="utf-8", errors="replace") as file:
                text, inode = file.read(), os.fstat(file.fileno()).st_ino
        except FileNotFoundError:
            return Verdict.FREE
        changed = self._since is not None and text != self.text
        if self._since is None or changed:
            self._since = time.monotonic()
        self.text = text
        verdict = _verdict(text, inode)
        if verdict is not Verdict.UNKNOWN:
            return verdict
        if changed and text:
            return Verdict.HELD
        silent_s = SILENT_S if text else EMPTY_S
        return Verdict.FREE if time.monotonic() - self._since >= silent_s else verdict

    def tell(self) -> None:
        """Say, once, who may hold the lock, and how long it takes until that is known."""
        if self.text and not self._told:
            self._told = True
            log.info(
                "%s: %s may hold this; watching for up to %.0f s whether it is still there",
                *(self._path, named(self.text), SILENT_S),
            )


def _verdict(text: str, inode: int) -> Verdict:
    """Return what a record tells by itself."""
    record = LockRecord.read(text)
    process = None if record is None else Process.named(record.process)
    if record is None or process is None:
        return Verdict.UNKNOWN
    if record.inode != inode:
        return Verdict.FREE
    if process == Process.this():
        return Verdict.HELD if HEART.beats_for(record.token) else Verdict.FREE
    alive = process.alive()
    if alive is None:
        return Verdict.UNKNOWN
    return Verdict.HELD if alive else Verdict.FREE


class Heart:
    """Beats for all locks of this process, in one thread that is there while there are locks."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[LockRecord, Path]] = {}
        self._beat = 0
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None

    def beats_for(self, token: str) -> bool:
        """Return whether this process holds a lock."""
        return token in self._held

    def add(self, record: LockRecord, path: Path) -> None:
        """Begin to beat for a lock."""
        with self._guard:
            self._held[record.token] = (record, path)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="locks", daemon=True)
                self._thread.start()

    def remove(self, record: LockRecord) -> None:
        """Cease to beat for a lock; after return its file is not written to."""
        with self._guard:
            self._held.pop(record.token, None)

    def beat(self) -> None:
        """Beat once for each lock whose file is still its own."""
        self._beat += 1
        for record, path in list(self._held.values()):
            with self._guard, contextlib.suppress(OSError):  # the next beat may reach the disk
                if record.token in self._held:
                    _renew(path, record, self._beat)

    def _run(self) -> None:
        while True:
            time.sleep(BEAT_S)
            self.beat()
            with self._guard:
                if not self._held:
                    self._thread = None
                    return


HEART = Heart()
"""The heart of this process."""


def _renew(path: Path, record: LockRecord, beat: int) -> None:
    """Write a heartbeat into the file of a lock, in place: its inode stays."""
    with path.open("r+", encoding="utf-8", errors="replace") as file:
        found = LockRecord.read(file.read())
        if found is not None and found.token == record.token:
            file.seek(0)
            file.write(record.text(beat))
