"""Whether our server asks for a password, which one, and why."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from flows.server.api import AUTH, SERVER_AUTH, ServerError, Setting, setting
from flows.server.neighbours import facts_of_this_machine, why_shared
from flows.server.own_files import KEY, make_key, read_key

Choice = Literal["auto", "always", "never"]
"""`MISC.server_password`."""

CHOICE = "AIMSPAX_MISC__SERVER_PASSWORD"
"""The environment variable of that key, which also counts where there are no settings files."""


@dataclass(frozen=True)
class Need:
    """Whether a server on this machine wants a password.

    Attributes:
        password: Whether it does.
        why: The reason, to be told; also if it does not.
    """

    password: bool
    why: str


def choice_of_environment() -> Choice:
    """Return what the environment says of `MISC.server_password`.

    Raises:
        ServerError: It says something else.
    """
    found = os.environ.get(CHOICE, "").strip().lower() or "auto"
    for allowed in get_args(Choice):
        if found == allowed:
            return allowed
    raise ServerError(f"{CHOICE}: found {found!r}; allowed: {', '.join(get_args(Choice))}")


def need(choice: Choice, everywhere: bool) -> Need:
    """Return whether a server wants a password.

    Args:
        choice: What the user wants.
        everywhere: Whether it listens beyond loopback: then it always does.
    """
    if everywhere:
        return Need(True, "it can be reached from other machines")
    if choice != "auto":
        return Need(choice == "always", f"MISC.server_password is {choice}")
    shared = why_shared(facts_of_this_machine())
    return Need(bool(shared), shared or "nobody else can log in here")


def password_for(home: Path, wanted: Need) -> Setting | None:
    """Return the password of a server that is about to start: the user's own, or one of ours.

    Args:
        home: Prefect's folder.
        wanted: Whether it needs one; the user's own is taken in any case.
    """
    if chosen := setting(SERVER_AUTH):
        return chosen
    if not wanted.password:
        return None
    if (chosen := setting(AUTH)) and not ((home / KEY).exists() and read_key(home) == chosen.value):
        return chosen  # not ours, which an earlier `ensure` may have left in the environment
    return Setting(make_key(home), KEY)
