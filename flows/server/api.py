"""A Prefect API without Prefect, which takes seconds to import: its settings, and if it answers."""

from __future__ import annotations

import base64
import ipaddress
import json
import logging
import os
import ssl
import time
import tomllib
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from aimspax_core.errors import AimspaxError

logger = logging.getLogger(f"aimspax.{__name__}")

LOOPBACK = "127.0.0.1"
URL = "PREFECT_API_URL"
AUTH = "PREFECT_API_AUTH_STRING"
SERVER_AUTH = "PREFECT_SERVER_API_AUTH_STRING"

BUSY_S = 30.0
"""How long a server that is there may take for an answer (s): its machine may be busy."""

PASSING = frozenset({408, 429, 500, 502, 503, 504})
"""Codes of answers that may be others a moment later. With SQLite, Prefect's server answers 503 at
once while its database is locked; with PostgreSQL, 500 while that is started again; what stands
before a server, 502 and 504."""

_PAUSE_S = (0.2, 3.0)
"""From one answer of this kind to the next question: at first, and at most (s)."""


class ServerError(AimspaxError):
    """There is no Prefect server that a run could use."""


@dataclass(frozen=True)
class Setting:
    """One of Prefect's settings.

    Attributes:
        value: The setting's value.
        source: Where the value was found (environment or profile), for messages.
    """

    value: str
    source: str


def setting(name: str) -> Setting | None:
    """Return one of Prefect's settings: the environment goes before the active profile."""
    if value := os.environ.get(name):
        return Setting(value, f"{name} in the environment")
    path = Path(os.environ.get("PREFECT_PROFILES_PATH") or prefect_home() / "profiles.toml")
    try:
        profiles = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return None
    except tomllib.TOMLDecodeError as error:
        logger.warning("%s is not valid TOML and is ignored: %s", path, error)
        return None
    active = os.environ.get("PREFECT_PROFILE") or profiles.get("active")
    value = profiles.get("profiles", {}).get(active, {}).get(name)
    return Setting(str(value), f"{name} in the profile '{active}' of {path}") if value else None


def prefect_home() -> Path:
    """Return the folder where Prefect keeps its files."""
    return Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser().absolute()


def silence(api_url: str, password: str | None = None, patience_s: float = 0.0) -> str | None:
    """Return why an API does not answer; None if it does.

    Args:
        api_url: As in `PREFECT_API_URL`.
        password: Used instead of the credentials that Prefect's client would use.
        patience_s: How long it is asked again while it may be busy (s).
    """
    try:
        ask(f"{api_url}/health", password, patience_s=patience_s)
    except httpx.HTTPStatusError as error:
        answer = error.response
        return f"{api_url}/health answers {answer.status_code} {answer.reason_phrase}"
    except json.JSONDecodeError:
        return f"what answers at {api_url} is not a Prefect API (does the address end in /api?)"
    except NO_ANSWER as error:
        return f"{api_url}/health does not answer ({_reason(error)})"
    return None


def problem(api_url: str, password: str | None = None) -> str | None:
    """Return why the API cannot be used: it is silent or refuses our credentials; None if it can.

    Args:
        api_url: As in `PREFECT_API_URL`.
        password: None for the credentials that Prefect's client would use.
    """
    if silent := silence(api_url, password, BUSY_S):
        return silent
    try:
        ask(f"{api_url}/admin/version", password, timeout_s=BUSY_S, patience_s=BUSY_S)
    except httpx.HTTPStatusError as error:
        if error.response.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            return f"it wants other credentials than those in {AUTH}"
    except NO_ANSWER as error:
        return f"{api_url}/admin/version does not answer ({_reason(error)})"
    return None


def may_pass(error: BaseException) -> bool:
    """Return whether a question that failed may be answered a moment later, if asked again.

    Nobody who refuses connections is only busy, so that is told at once. Prefect's own client asks
    again by nearly the same rule, with the codes that `flows.server.current` gives it.
    """
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in PASSING
    broken = httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError
    return isinstance(error, broken) and not isinstance(error, httpx.ConnectError)


def ask(
    url: str,
    password: str | None = None,
    body: Any = None,
    timeout_s: float = 5.0,
    patience_s: float = 0.0,
) -> Any:
    """Ask an API, with the credentials and certificates that Prefect's client would use.

    Args:
        url: What to get, or where to post.
        password: Used instead of those credentials.
        body: What to post, as JSON; None to get.
        timeout_s: How long to wait for an answer (s).
        patience_s: How long to ask again after what may pass (s); see `may_pass`.

    Raises:
        httpx.HTTPStatusError: The answer is an error.
        NO_ANSWER: There is no answer, it is not JSON, this is not an address, or the file of
            certificates cannot be read.
    """
    end, pause_s = time.monotonic() + patience_s, _PAUSE_S[0]
    while True:
        try:
            return _ask_once(url, password, body, timeout_s)
        except httpx.HTTPError as error:
            if not may_pass(error) or time.monotonic() + pause_s > end:
                raise
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _PAUSE_S[1])


def _ask_once(url: str, password: str | None, body: Any, timeout_s: float) -> Any:
    headers = {}
    auth = Setting(password, "") if password else setting(AUTH)
    if auth:
        headers["Authorization"] = f"Basic {base64.b64encode(auth.value.encode()).decode()}"
    elif key := setting("PREFECT_API_KEY"):
        headers["Authorization"] = f"Bearer {key.value}"
    answer = httpx.request(
        "GET" if body is None else "POST",
        url,
        json=body,
        headers=headers,
        timeout=timeout_s,
        follow_redirects=True,
        verify=_certificates() if url.startswith("https:") else False,
        trust_env=not on_loopback(url),  # no proxy leads there
    )
    answer.raise_for_status()
    return answer.json()


NO_ANSWER = (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError)
"""What `ask` raises if there is no answer in JSON, or a certificate cannot be read (`OSError`)."""


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _certificates() -> ssl.SSLContext:
    """Return whom to trust, as Prefect's settings say."""
    file = setting("PREFECT_API_SSL_CERT_FILE")
    context = ssl.create_default_context(cafile=file.value if file else None)
    insecure = setting("PREFECT_API_TLS_INSECURE_SKIP_VERIFY")
    if insecure and insecure.value.lower() in {"1", "true", "yes", "on"}:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def on_loopback(url: str) -> bool:
    """Return whether a URL leads to this machine itself, whichever machine that is."""
    host = urllib.parse.urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_unspecified


def keep_off_proxies(*hosts: str) -> None:
    """Let Prefect's client reach this machine directly where a proxy leads to the web.

    Args:
        hosts: Names or addresses of this machine besides those of the loopback.
    """
    if not urllib.request.getproxies_environment():
        return
    listed = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    kept = [host for host in listed.split(",") if host]
    kept += [host for host in (LOOPBACK, "localhost", "::1", *hosts) if host not in kept]
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(kept)
