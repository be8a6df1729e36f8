"""Pages as a browser shows them: Chromium without a window."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

_PROGRAMS = ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome")

_LOADS = 4

_RENDERED_MS = 20_000
"""So much time passes for the page, as fast as it can, before it is read."""


PATIENCE_S = 240.0
"""How long anything on a page may take on a busy machine."""

_STILL_S = 0.3
"""So long a page has not changed that is taken to lie still."""

_AGAIN_S = 30.0
"""After so long a form is sent again that has come to nothing."""

_PLACE = """(e => {
  if (!e) return null;
  e.scrollIntoView({block: "center"});
  const r = e.getBoundingClientRect(), x = r.x + r.width / 2, y = r.y + r.height / 2;
  const top = document.elementFromPoint(x, y);
  const hit = top && (e.contains(top) || top.closest("button,a,label")?.contains(e));
  return hit ? [x, y] : null;
})"""
"""The middle of a thing, unless something lies over it."""

_WHERE = """(wanted => {
  const words = e => [e.innerText, e.getAttribute("aria-label")].map(t => (t || "").trim());
  const shown = e => e.getClientRects().length && !e.disabled && words(e).includes(wanted);
  const kinds = "button,a,label,span,div,p,[role=menuitem],[role=tab]";
  const found = [...document.querySelectorAll(kinds)].filter(shown);
  found.sort((a, b) => a.querySelectorAll("*").length - b.querySelectorAll("*").length);
  return found[0];
})"""
"""The innermost thing on a page that has these words."""


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


class Page:
    """A page on which one can read, click and write, by Chromium's protocol for developers."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Have the browser do something; return what it answers."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(timeout=PATIENCE_S))
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result

    def resize(self, width: int, height: int) -> None:
        """Give the page a size in pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **size)

    def go(self, url: str) -> None:
        """Open an address."""
        self.ask("Page.navigate", url=url)

    def value(self, script: str) -> Any:
        """Return the value of an expression in the page's language."""
        found = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        return found["result"].get("value")

    def text(self) -> str:
        """Return what is to be read on the page."""
        return str(self.value("document.body ? document.body.innerText : ''"))

    def wait_for(self, word: str) -> None:
        """Wait until something is to be read."""
        self._until(f"(document.body?.innerText || '').includes({json.dumps(word)})", word)

    def click(self, words: str) -> None:
        """Click on what has these words, once it is there."""
        self._click(f"{_WHERE}({json.dumps(words)})", words)

    def send(self, words: str, wanted: str) -> None:
        """Click on what sends a form, until something else is to be read.

        A server on SQLite that is at work refuses, and the page tells whoever sits before it to
        try again.
        """
        came = f"(document.body?.innerText || '').includes({json.dumps(wanted)})"
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            self.click(words)
            again = time.monotonic() + _AGAIN_S
            while time.monotonic() < again:
                if self.value(came):
                    return
                time.sleep(0.2)
        self.wait_for(wanted)

    def write(self, selector: str, text: str) -> None:
        """Write into a box, in place of what is in it, once it is there; until it stays."""
        box = f"document.querySelector({json.dumps(selector)})"
        has = f"({box}?.value ?? {box}?.innerText ?? '').includes({json.dumps(text)})"
        end = time.monotonic() + PATIENCE_S
        while not (self.value(has) and self._stays(has)):
            if time.monotonic() > end:
                raise TimeoutError(f"{text!r} does not stay in {selector}")
            self._click(box, selector)
            if self.value(f"{box}?.contains(document.activeElement)"):
                self.value("document.execCommand('selectAll')")
                self.ask("Input.insertText", text=text)

    def picture(self) -> bytes:
        """Return what is to be seen, as PNG."""
        return base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"])

    def _click(self, thing: str, wanted: str) -> None:
        """Click once it lies still, and nothing lies over it: a page moves while it is drawn."""
        where = f"{_PLACE}({thing})"
        before: list[float] | None = None
        end = time.monotonic() + PATIENCE_S
        while (place := self.value(where)) is None or place != before:
            if time.monotonic() > end:
                raise TimeoutError(f"{wanted!r} cannot be clicked on:\n{self.text()}")
            before = place
            time.sleep(_STILL_S)
        for kind, button in (
            ("mouseMoved", "none"),
            ("mousePressed", "left"),
            ("mouseReleased", "left"),
        ):
            at = {"x": place[0], "y": place[1]}
            self.ask("Input.dispatchMouseEvent", type=kind, button=button, clickCount=1, **at)

    def _stays(self, condition: str) -> bool:
        """Tell whether something is so a moment later."""
        time.sleep(_STILL_S)
        return bool(self.value(condition))

    def _until(self, condition: str, wanted: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while not self.value(condition):
            if time.monotonic() > end:
                raise TimeoutError(f"{wanted!r} is not on the page, but:\n{self.text()}")
            time.sleep(0.2)


@contextlib.contextmanager
def browser() -> Iterator[Page]:
    """Start Chromium with one empty page, and end it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [chromium(), "--headless=new", "--no-sandbox", "--disable-gpu"]
        command += ["--hide-scrollbars", "--remote-debugging-port=0", f"--user-data-dir={folder}"]
        process = subprocess.Popen(
            [*command, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            address = _address(Path(folder) / "DevToolsActivePort")
            pages = httpx.get(f"http://{address}/json", trust_env=False, timeout=PATIENCE_S).json()
            url = next(one["webSocketDebuggerUrl"] for one in pages if one["type"] == "page")
            with connect(url, max_size=None, open_timeout=PATIENCE_S) as socket:
                yield Page(socket)
        finally:
            process.terminate()
            process.wait()


def _address(file: Path) -> str:
    """Return where Chromium listens, once it has written that."""
    end = time.monotonic() + PATIENCE_S
    while not file.is_file() or not file.read_text():
        if time.monotonic() > end:
            raise TimeoutError("Chromium does not start")
        time.sleep(0.2)
    return f"127.0.0.1:{file.read_text().splitlines()[0]}"
