"""A Prefect API as seen without importing Prefect: its settings, and whether it answers to us."""

from __future__ import annotations

import base64
import ipaddress
import json
import logging
import os
import ssl
import tomllib
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aimspax_core.errors import AimspaxError

logger = logging.getLogger(f"aimspax.{__name__}")

LOOPBACK = "127.0.0.1"
URL = "PREFECT_API_URL"
AUTH = "PREFECT_API_AUTH_STRING"
SERVER_AUTH = "PREFECT_SERVER_API_AUTH_STRING"


class ServerError(AimspaxError):
    """There is no Prefect server that a run could use."""


@dataclass(frozen=True)
class Setting:
    """One of Prefect's settings.

    Attributes:
        value: What it is.
        source: Where it was found, for messages.
    """

    value: str
    source: str


def setting(name: str) -> Setting | None:
    """Read one of Prefect's settings as Prefect would: the environment first, then the profile."""
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


def silence(api_url: str, password: str | None = None) -> str | None:
    """Say why the API, as in `PREFECT_API_URL`, does not answer; None if it does."""
    try:
        ask(f"{api_url}/health", password)
    except urllib.error.HTTPError as error:
        return f"{api_url}/health answers {error.code} {error.reason}"
    except json.JSONDecodeError:
        return f"what answers at {api_url} is not a Prefect API (does the address end in /api?)"
    except (OSError, ValueError) as error:
        return f"{api_url}/health does not answer ({getattr(error, 'reason', error)})"
    return None


def problem(api_url: str, password: str | None = None) -> str | None:
    """Ask the API whether it is there and takes our credentials.

    Args:
        api_url: As in `PREFECT_API_URL`.
        password: None for the credentials that Prefect's client would use.

    Returns:
        What is wrong, or None.
    """
    if silent := silence(api_url, password):
        return silent
    try:
        ask(f"{api_url}/admin/version", password)
    except urllib.error.HTTPError as error:
        if error.code in {401, 403}:
            return f"it wants other credentials than those in {AUTH}"
    except (OSError, ValueError) as error:
        return f"{api_url}/admin/version does not answer ({getattr(error, 'reason', error)})"
    return None


def ask(url: str, password: str | None = None, body: Any = None, timeout_s: float = 5.0) -> Any:
    """Ask an API; with the credentials and certificates that Prefect's client would use.

    Args:
        url: What to get, or where to post.
        password: Used instead of those credentials.
        body: What to post, as JSON; None to get.
        timeout_s: How long to wait for an answer.

    Raises:
        OSError: There is no answer, or it is an error.
        ValueError: It is not JSON, or this is not an address.
    """
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    auth = Setting(password, "") if password else setting(AUTH)
    if auth:
        token = base64.b64encode(auth.value.encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
    elif key := setting("PREFECT_API_KEY"):
        request.add_header("Authorization", f"Bearer {key.value}")
    handlers: list[urllib.request.BaseHandler] = []
    if url.startswith("https:"):
        certificates = setting("PREFECT_API_SSL_CERT_FILE")
        context = ssl.create_default_context(cafile=certificates.value if certificates else None)
        insecure = setting("PREFECT_API_TLS_INSECURE_SKIP_VERIFY")
        if insecure and insecure.value.lower() in {"1", "true", "yes", "on"}:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        handlers.append(urllib.request.HTTPSHandler(context=context))
    if on_loopback(url):
        handlers.append(urllib.request.ProxyHandler({}))
    with urllib.request.build_opener(*handlers).open(request, timeout=timeout_s) as answer:
        return json.loads(answer.read())


def on_loopback(url: str) -> bool:
    """True for an address under which only this machine itself is reached."""
    host = urllib.parse.urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_unspecified


def keep_off_proxies(*hosts: str) -> None:
    """Let Prefect's client reach this machine where the web is reached through a proxy.

    Args:
        hosts: Names or addresses that it has beside those of the loopback.
    """
    if not urllib.request.getproxies_environment():
        return
    listed = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    kept = [host for host in listed.split(",") if host]
    kept += [host for host in (LOOPBACK, "localhost", "::1", *hosts) if host not in kept]
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(kept)
