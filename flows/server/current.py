"""The Prefect server of a run: the one that is configured, or a local one that outlives the run."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from flows.server import own
from flows.server.api import (
    AUTH,
    PASSING,
    SERVER_AUTH,
    URL,
    ServerError,
    Setting,
    keep_off_proxies,
    on_loopback,
    prefect_home,
    problem,
    setting,
)
from flows.server.own_files import Server, log_file, running
from flows.server.password import Choice, choice_of_environment, need

__all__ = [
    "CLIENT_VARIABLES",
    "Server",
    "ServerError",
    "ServerStatus",
    "ensure",
    "keep_untracked",
    "read_again",
    "revive",
    "status",
    "stop",
]

OURS = "AIMSPAX_SERVER_URL"
"""Where it equals PREFECT_API_URL, `ensure` has set that, not the user."""

CLIENT_VARIABLES = (URL, OURS, AUTH)
"""Environment variables that `ensure` sets for clients of the server."""

PATIENCE = {
    # A call fails within seconds while the server hangs, instead of within minutes. How often it
    # is made again stays as Prefect has it, for about a minute: commands, and runs as they begin
    # and end, need an answer. In between a run needs none: see `flows.runs.outcome`.
    "PREFECT_API_REQUEST_TIMEOUT": "15",
    "PREFECT_CLIENT_RETRY_EXTRA_CODES": ",".join(map(str, sorted(PASSING))),
    # A server may be raised to another version while a run goes on.
    "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
    # That events are not told is told by the run itself, once and in a line.
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
}
"""Settings of Prefect's clients in a run, unless the user has set them."""


@dataclass(frozen=True)
class ServerStatus:
    """The server that a run would use, and how it does.

    Attributes:
        server: The server that a run would use.
        problem: Why it cannot be used, or None if it answers.
        version: Of Prefect, if the server is ours.
        started: When the server was started (ISO 8601), if it is ours.
        log: The file with the server's output, if it is ours.
        open_to: Why a server that is started today would have a password, if ours has none.
    """

    server: Server
    problem: str | None
    version: str | None = None
    started: str | None = None
    log: Path | None = None
    open_to: str = ""


def keep_untracked() -> None:
    """Have Prefect tell nobody that it is used, unless the user lets it: before its import."""
    os.environ["DO_NOT_TRACK"] = os.environ.get("DO_NOT_TRACK") or "1"


def ensure(
    host: str | None = None, password: Choice | None = None, prefect_reads: bool = True
) -> Server:
    """Find the Prefect server, or start the local one; point this process and its children at it.

    A server that the user named (`PREFECT_API_URL` in the environment, or in the active Prefect
    profile) is used and never started. Any number of processes may call this at once.

    Args:
        host: Name or address under which compute nodes reach this machine; None if there are
            none. With a host, our server listens on all interfaces and has a password; if it runs
            and listens on loopback only, it is started again, unless flow runs use it.
        password: Whether a server of ours that is started on loopback has one
            (`MISC.server_password`); None: as the environment says.
        prefect_reads: Whether Prefect, if it has been imported already, reads its settings again.
            Not while another thread imports it: there is no telling how far that is. Then
            `read_again` has to follow the import.

    Returns:
        The server, which answers. `PREFECT_API_URL` is set to its API, and
        `PREFECT_API_AUTH_STRING` to the password if that is one of ours.

    Raises:
        ServerError: The named server does not answer, or cannot be reached by compute nodes; or
            ours does not come up in time, or is in use and cannot be started again.
    """
    keep_untracked()
    if (auth := setting(SERVER_AUTH)) and not setting(AUTH):
        os.environ[AUTH] = auth.value
    server = _configured(host) or own.find_or_start(host, password or choice_of_environment())
    os.environ[URL] = server.api_url
    if server.ours:
        os.environ[OURS] = server.api_url
    if on_loopback(server.api_url):
        keep_off_proxies()
    os.environ.update({name: value for name, value in PATIENCE.items() if setting(name) is None})
    if prefect_reads and "prefect" in sys.modules:  # it has read the environment as it was before
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()
    return server


def read_again() -> None:
    """Have Prefect, which was imported before the environment was complete, read that again."""
    from prefect.context import refresh_global_settings_context
    from prefect.logging.configuration import setup_logging

    refresh_global_settings_context()
    setup_logging()


def status() -> ServerStatus | None:
    """Describe the server that a run would use; None if that would have to be started first.

    Raises:
        ServerError: Our server runs on another host, or its password cannot be read.
    """
    if named := _named_by_user():
        return ServerStatus(_server(named.value), problem(named.value))
    home = prefect_home()
    if not home.is_dir() or (state := running(home)) is None:
        return None
    wrong = own.own_problem(home, state)
    server = state.server(home, started=False)
    today = need(choice_of_environment(), state.everywhere)
    meant = state.password is not None or state.why == need("never", everywhere=False).why
    open_to = today.why if today.password and not meant else ""
    return ServerStatus(server, wrong, state.version, state.started, log_file(home), open_to)


def revive(api_url: str) -> bool:
    """Start our own server again if it died: at the same address, with the same database.

    A server that was stopped on purpose, or that another process is starting, is left alone.

    Args:
        api_url: Where it listened, as in `PREFECT_API_URL`.

    Returns:
        Whether it was started; the log says so.

    Raises:
        ServerError: It does not come up.
    """
    return own.start_again(api_url) is not None


def stop() -> bool:
    """End the local server that aimspax started; any other is left alone.

    Returns:
        True if there was one.

    Raises:
        ServerError: Our server runs on another host.
    """
    state = own.end()
    ours = os.environ.pop(OURS, None)
    if ours and os.environ.get(URL) == ours:
        os.environ.pop(URL, None)
        if state is not None and state.has_key:
            os.environ.pop(AUTH, None)
    return state is not None


def _named_by_user() -> Setting | None:
    url = setting(URL)
    if url is None or url.value == os.environ.get(OURS):
        return None
    return Setting(url.value.rstrip("/"), url.source)


def _configured(host: str | None) -> Server | None:
    """Return the server that the user named, once it has answered; None if none was named."""
    named = _named_by_user()
    if named is None:
        return None
    if host and on_loopback(named.value) and not on_loopback(f"http://{host}"):
        raise ServerError(
            f"compute nodes cannot reach the Prefect server at {named.value}.\n"
            f"It is set by {named.source}. Give the address under which they reach it, or remove "
            "the setting: then aimspax starts a server by itself."
        )
    if wrong := problem(named.value):
        raise ServerError(
            f"the Prefect server at {named.value} cannot be used: {wrong}.\n"
            f"It is set by {named.source}. Start that server, correct the address, or remove the "
            "setting: then aimspax starts a local server by itself."
        )
    return _server(named.value)


def _server(api_url: str) -> Server:
    """Describe the server that the user named."""
    ui, auth = setting("PREFECT_UI_URL"), setting(AUTH)
    url = ui.value if ui else api_url.removesuffix("/api")
    password = auth.source if auth else None
    return Server(url, api_url, None, started=False, ours=False, password=password)
