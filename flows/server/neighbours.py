"""Who else can log in to this machine: they could use a local server that asks for no password.

Whoever reaches an open Prefect API can have its workers run any code as their owner.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from aimspax_core.settings.schedulers import SCHEDULERS

NETWORK_SOURCES = {
    "ldap": "LDAP",
    "nis": "NIS",
    "nisplus": "NIS+",
    "nslcd": "LDAP",
    "sss": "SSSD",
    "vas4": "Active Directory",
    "winbind": "Active Directory",
}
"""Sources of accounts in `nsswitch.conf` that are not files of this machine."""

_NO_LOGIN = {"false", "nologin", "sync", "shutdown", "halt", "true"}
_UID_MIN, _UID_MAX = 1000, 60000
_SHOWN = 3


@dataclass(frozen=True)
class Account:
    """A line of `passwd`; `shell` is empty if the line has none, which means `/bin/sh`."""

    name: str
    uid: int
    shell: str

    @property
    def can_log_in(self) -> bool:
        """Whether it has a login shell."""
        return self.shell.rpartition("/")[2] not in _NO_LOGIN


@dataclass(frozen=True)
class Facts:
    """What a machine says of who may use it.

    Attributes:
        uid: Whose server it would be.
        accounts: Those of `passwd`.
        sources: Where accounts come from, as `nsswitch.conf` says for `passwd`.
        sssd: Whether SSSD, which some distributions name there always, knows any domain.
        commands: Commands of batch systems that are there, with the batch system's title.
        sessions: Users that are logged in or have processes, by number.
        uid_min: The first number of people's accounts.
        uid_max: The last one.
    """

    uid: int
    accounts: tuple[Account, ...] = ()
    sources: tuple[str, ...] = ()
    sssd: bool = False
    commands: tuple[tuple[str, str], ...] = ()
    sessions: frozenset[int] = frozenset()
    uid_min: int = _UID_MIN
    uid_max: int = _UID_MAX


def why_shared(facts: Facts) -> str:
    """Return why others can log in to a machine; empty if nothing says so."""
    people = [a for a in facts.accounts if _a_person(a.uid, facts) and a.can_log_in]
    if people:
        return f"others can log in here ({_some(a.name for a in people)})"
    network = [
        title
        for source, title in NETWORK_SOURCES.items()
        if source in facts.sources and (source != "sss" or facts.sssd)
    ]
    if network:
        return f"accounts come from the network ({_some(network)})"
    if facts.commands:
        command, title = facts.commands[0]
        return f"{title} is here ({command})"
    others = sorted(uid for uid in facts.sessions if _a_person(uid, facts))
    if others:
        return f"others are logged in now ({_some(f'user {uid}' for uid in others)})"
    return ""


def _a_person(uid: int, facts: Facts) -> bool:
    return uid != facts.uid and facts.uid_min <= uid <= facts.uid_max


def _some(names: Iterable[str]) -> str:
    found = list(dict.fromkeys(names))
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more


def facts_of_this_machine(root: Path = Path("/")) -> Facts:
    """Gather what this machine says; what cannot be read says nothing.

    Args:
        root: Where its files are.
    """
    limits = dict(re.findall(r"^\s*(UID_M\w\w)\s+(\d+)", _text(root / "etc/login.defs"), re.M))
    passwd = _text(root / "etc/passwd")
    known = re.findall(r"^\s*passwd:(.*)$", _text(root / "etc/nsswitch.conf"), re.M)
    sources = [word for line in known for word in re.sub(r"\[.*?\]", " ", line).split()]
    if re.search(r"^\+", passwd, re.M):
        sources.append("nis")  # the way of old, in the file itself
    return Facts(
        uid=os.getuid(),
        accounts=tuple(_accounts(passwd)),
        sources=tuple(sources),
        sssd=_sssd(root / "etc/sssd"),
        commands=tuple(
            (row.command, row.title) for row in SCHEDULERS if shutil.which(row.command) is not None
        ),
        sessions=frozenset((*_owners(root / "proc"), *_numbers(root / "run/user"))),
        uid_min=int(limits.get("UID_MIN", _UID_MIN)),
        uid_max=int(limits.get("UID_MAX", _UID_MAX)),
    )


def _accounts(passwd: str) -> Iterator[Account]:
    for line in passwd.splitlines():
        fields = line.split(":")
        if len(fields) >= 7 and fields[2].isdecimal():
            yield Account(fields[0], int(fields[2]), fields[6].strip())


def _sssd(folder: Path) -> bool:
    """Whether SSSD is set up; a folder that others may not look into is there for a reason."""
    try:
        return (folder / "sssd.conf").exists() or any((folder / "conf.d").glob("*.conf"))
    except PermissionError:
        return True
    except OSError:
        return False


def _owners(proc: Path) -> Iterator[int]:
    for number in _numbers(proc):
        with contextlib.suppress(OSError):  # it has ended
            yield (proc / str(number)).stat().st_uid


def _numbers(folder: Path) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(one.name) for one in folder.iterdir() if one.name.isdecimal()]
    return []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
