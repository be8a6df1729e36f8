"""Which process it is, among all processes of all machines; and whether it is still there.

A number alone names no process: it is given again, at the latest after a reboot; and each
container counts on its own. Start time, boot and container make it one of a kind. A host's name
alone names no machine: clones of a virtual machine, and containers, share names.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_NAME = re.compile(
    r"(?P<host>[\w-]+?)-(?:m(?P<machine>[0-9a-f]{0,8})-)?"
    r"(?P<boot>[0-9a-f]{0,8})-(?P<space>\d*)-(?P<pid>\d+)-(?P<start>\d*)"
)
_FIRST_SPACE = "4026531836"
"""The kernel's process numbers outside of all containers (`PROC_PID_INIT_INO`)."""

_HOST = 48
"""Longer names of machines are cut: names of files have their limit."""


@dataclass(frozen=True)
class Process:
    """A process; what the operating system does not tell is empty.

    Attributes:
        host: The name of its machine.
        machine: The machine, by an identifier that outlasts boots; empty in a container, which may
            have name and identifier from its image, as others on other machines have.
        boot: The machine's boot, by the first digits of its identifier.
        space: The process numbers that it is counted in: each container has its own.
        pid: Its number.
        start: When it began, in the kernel's ticks since the boot.
    """

    host: str
    machine: str
    boot: str
    space: str
    pid: int
    start: str

    @classmethod
    def this(cls) -> Process:
        """Return the process that asks."""
        return _process(os.getpid())

    @classmethod
    def named(cls, name: str) -> Process | None:
        """Return the process of a name that `str` gave; None if it is no such name."""
        found = _NAME.fullmatch(name)
        if found is None:
            return None
        return cls(
            found["host"],
            found["machine"] or "",  # an earlier release did not tell it
            found["boot"],
            found["space"],
            int(found["pid"]),
            found["start"],
        )

    def __str__(self) -> str:
        """Return a name that can be part of a file's name; there is no dot in it."""
        where = f"{self.host}-m{self.machine}-{self.boot}-{self.space}"
        return f"{where}-{self.pid}-{self.start}"

    def shares_kernel(self) -> bool:
        """Return whether it runs, or ran, on this machine since its boot, be it in a container."""
        here = Process.this()
        return (self.boot or self.host) == (here.boot or here.host)

    def alive(self) -> bool | None:
        """Return whether it is still there; None if that cannot be seen from here."""
        here = Process.this()
        if self.host != here.host or not (self.boot and here.boot):
            return None
        if self.boot != here.boot:
            return False if here.machine and self.machine == here.machine else None
        if self.space != here.space:
            return None
        start = _start(self.pid)
        return start is not None and start == self.start


@cache
def _process(pid: int) -> Process:
    host = re.sub(r"[^A-Za-z0-9-]", "_", socket.gethostname())[:_HOST]
    boot = _read("/proc/sys/kernel/random/boot_id").strip()[:8]
    try:
        space = re.sub(r"\D", "", str(Path("/proc/self/ns/pid").readlink()))
    except OSError:
        space = ""
    return Process(host, _machine(space), boot, space, pid, _start(pid) or "")


def _machine(space: str) -> str:
    """Return digits that name this machine; its identifier itself is not for others to see."""
    identifier = _read("/etc/machine-id").strip()
    if space != _FIRST_SPACE or not re.fullmatch("[0-9a-f]{32}", identifier):
        return ""
    return hashlib.sha256(f"aimspax {identifier}".encode()).hexdigest()[:8]


def _start(pid: int) -> str | None:
    """Return when a process of this machine began; None if it is gone, or ended and not fetched."""
    state, *fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split() or ["X"]
    return None if state in ("X", "Z") else fields[18]


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
