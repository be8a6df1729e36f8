"""Pages as a browser shows them: Chromium without a window."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile

import pytest

_PROGRAMS = ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome")

_LOADS = 4

_RENDERED_MS = 20_000
"""So much time passes for the page, as fast as it can, before it is read."""


def chromium() -> str:
    """The program; a test that needs it is skipped where there is none, and fails in CI."""
    found = next((path for name in _PROGRAMS if (path := shutil.which(name))), None)
    if found is None:
        missing = "no Chromium here: apt install chromium-headless-shell"
        if os.environ.get("AIMSPAX_TEST_ALL"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found


def shown(url: str, word: str) -> str:
    """The document that a page has become once its scripts have run.

    It is loaded again if a word is not there: on a busy machine the time may go by without them.
    """
    for _ in range(_LOADS):
        if word in (document := _loaded(url)):
            break
    return document


def _loaded(url: str) -> str:
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run(
            [
                chromium(), "--headless", "--no-sandbox", "--disable-gpu",
                f"--user-data-dir={profile}", f"--virtual-time-budget={_RENDERED_MS}",
                "--window-size=1400,2000", "--dump-dom", url,
            ],
            capture_output=True, text=True, timeout=300, check=True,
        )  # fmt: skip
    return done.stdout
