"""The picture of a campaign's card, from a real one: docs/page-campaign.png, taken by Chromium.

After `make demo`, with its server still running:

    .venv/bin/python docs/screenshots.py runs/aspirin
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import itertools
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from websockets.sync.client import connect

from flows import server
from flows.page.artifacts import key_of

DOCS = Path(__file__).resolve().parent
PICTURE = DOCS / "page-campaign.png"
SIZE, SHOWN_WIDTH, COLOURS = (1400, 1300), 1000, 96
"""Of the page in the browser, and of the picture."""

SETTLED_S, PATIENCE_S = 20.0, 240.0
"""How long a page is given to draw, and to be there at all."""


def main() -> None:
    """Take the picture of a campaign whose server is running."""
    parser = argparse.ArgumentParser(description="Take a picture of a campaign's card.")
    parser.add_argument("directory", type=Path, help="the run directory")
    directory: Path = parser.parse_args().directory
    found = server.status()
    if found is None:
        raise SystemExit("no server is running; `aimspax server start` starts it")
    if found.server.password:
        raise SystemExit("the server asks for a password: AIMSPAX_MISC__SERVER_PASSWORD=never")
    take(f"{found.server.url}/artifacts/artifact/{_card(found.server, directory)}")


def _card(of: server.Server, directory: Path) -> str:
    """Return the id of the card that has what one looks for first."""
    wanted = {"artifacts": {"key": {"any_": [f"{key_of(directory.name)}-campaign"]}}}
    found = httpx.post(f"{of.api_url}/artifacts/latest/filter", json=wanted, trust_env=False)
    return str(found.raise_for_status().json()[0]["latest_id"])


def take(url: str) -> None:
    """Write the picture of what an address shows."""
    with browser() as page:
        page.resize(*SIZE)
        page.ask("Page.navigate", url=url)
        page.wait_for_text()
        time.sleep(SETTLED_S)
        _keep(page.picture())


class Page:
    """A page in a browser without a window, by the protocol of Chromium's developer tools."""

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
        """Give the page the size of the picture."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **size)

    def wait_for_text(self) -> None:
        """Wait until there is something to read."""
        script = "document.body ? document.body.innerText.trim().length : 0"
        end = time.monotonic() + PATIENCE_S
        while self.ask("Runtime.evaluate", expression=script)["result"].get("value", 0) < 200:
            if time.monotonic() > end:
                raise SystemExit("the page stays empty")
            time.sleep(0.5)

    def picture(self) -> bytes:
        """Return what is to be seen, as PNG."""
        return base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"])


@contextlib.contextmanager
def browser() -> Iterator[Page]:
    """Start Chromium with one empty page, and end it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [
            "chromium",
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
        ]
        command += [f"--user-data-dir={folder}", "--remote-debugging-port=0", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
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
            raise SystemExit("Chromium does not start")
        time.sleep(0.2)
    return f"127.0.0.1:{file.read_text().splitlines()[0]}"


def _keep(raw: bytes) -> None:
    """Write a picture so small and of so few colours that it is some tens of kB."""
    with Image.open(io.BytesIO(raw)) as image:
        small = image.convert("RGB")
        small.thumbnail((SHOWN_WIDTH, image.height), Image.Resampling.LANCZOS)
        small.quantize(COLOURS, dither=Image.Dither.NONE).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
