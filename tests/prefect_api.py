"""Calls of tests to a Prefect API, asked again while the machine is too busy to answer."""

from __future__ import annotations

import time
from typing import Any

import httpx

from flows.server.api import may_pass

PATIENCE_S = 60.0


def call(
    method: str,
    url: str,
    body: Any = None,
    auth: str | None = None,
    patience_s: float = PATIENCE_S,
) -> Any:
    """Return what an API answers, by the rule of what may pass.

    Args:
        method: Of HTTP.
        url: What is asked.
        body: As JSON.
        auth: Name and password, with a colon between; without any if there is none.
        patience_s: How long to ask again (s).
    """
    name, colon, password = (auth or "").partition(":")
    end = time.monotonic() + patience_s
    while True:
        try:
            answer = httpx.request(
                method, url, json=body, timeout=30, auth=(name, password) if colon else None
            )
            answer.raise_for_status()
            return answer.json() if answer.content else None
        except httpx.HTTPError as error:
            if not may_pass(error) or time.monotonic() > end:
                raise
        time.sleep(0.5)
