"""The pictures of a campaign's pages in docs/, from a real one, taken by Chromium.

While a campaign runs, or after it, with its server running (`make demo`):

    .venv/bin/python -m docs.screenshots runs/aspirin

Each picture is taken when the campaign is so far; of one that is further those of its beginning and
middle are left as they are.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
from PIL import Image

from aimspax_core.campaign.journal import holder, load
from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.load import load as load_settings
from flows import server
from flows.page.artifacts import key_of
from tests.browser import Page, browser

DOCS = Path(__file__).resolve().parent
WIDTH, SHOWN_WIDTH, COLOURS = 1400, 1000, 200
"""Of the page in the browser, and of the picture."""

SETTLED_S, LOOK_S = 20.0, 3.0
"""How long a page is given to draw, and from one look at the campaign to the next."""


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        file: In docs/.
        due: Whether the campaign is so far.
        key: Of the artifact on the server, with `{name}` for the campaign's.
        word: That is read on the page once it is there.
        height: Of the page in the browser.
    """

    file: str
    due: Callable[[CampaignState], bool]
    key: str
    word: str
    height: int


PICTURES = (
    Picture(
        "page-beginning.png",
        lambda state: state.phase is Phase.INITIAL and state.labels > 3 and not state.rounds,
        "{name}-campaign", "Stopping rules", 720,
    ),
    Picture(
        "page-middle.png",
        lambda state: state.phase is Phase.ACTIVE and state.labels > 40,
        "{name}-campaign", "Members", 1400,
    ),
    Picture(
        "page-campaign.png",
        lambda state: state.phase is Phase.FINISHED,
        "{name}-campaign", "Members", 1400,
    ),
)  # fmt: skip


def main() -> None:
    """Take the pictures of a campaign whose server is running."""
    parser = argparse.ArgumentParser(description="Take pictures of a campaign's pages.")
    parser.add_argument("directory", type=Path, help="the run directory")
    directory: Path = parser.parse_args().directory
    found = server.status()
    if found is None:
        raise SystemExit("no server is running; `aimspax server start` starts it")
    if found.server.password:
        raise SystemExit("the server asks for a password: AIMSPAX_MISC__SERVER_PASSWORD=never")
    run = RunDir.of(load_settings(directory))
    with browser() as page:
        left = [*PICTURES]
        while left:
            state = _shown(run)
            due = [one for one in left if state is not None and one.due(state)]
            for picture in due:
                _take(page, picture, found.server, directory)
            left = [one for one in left if one not in due]
            if state is not None and state.phase in (Phase.FINISHED, Phase.FAILED):
                break
            time.sleep(LOOK_S)
    for picture in left:
        print(f"{picture.file}: left as it is")


def _shown(run: RunDir) -> CampaignState | None:
    """Return a campaign as its cards are to show it; None before, and while its last are drawn."""
    state = load(run)[1]
    ending = state is not None and state.finished and holder(run) is not None
    return None if ending else state


def _take(page: Page, picture: Picture, of: server.Server, directory: Path) -> None:
    """Write one picture."""
    artifact = _latest(of, picture.key.format(name=key_of(directory.name)))
    page.resize(WIDTH, picture.height)
    page.go(f"{of.url}/artifacts/artifact/{artifact}")
    page.wait_for(picture.word)
    time.sleep(SETTLED_S)
    _keep(page.picture(), DOCS / picture.file)
    print(f"{picture.file}: taken")


def _latest(of: server.Server, key: str) -> str:
    """Return the id of the artifact of a key."""
    wanted = {"artifacts": {"key": {"any_": [key]}}}
    url = f"{of.api_url}/artifacts/latest/filter"
    found = httpx.post(url, json=wanted, trust_env=False, timeout=60).raise_for_status().json()
    if not found:
        raise SystemExit(f"the server has no artifact {key!r}")
    return str(found[0]["latest_id"])


def _keep(raw: bytes, file: Path) -> None:
    """Write a picture so small, and of so few colours, that it is some tens of kB."""
    with Image.open(io.BytesIO(raw)) as image:
        small = image.convert("RGB")
        small.thumbnail((SHOWN_WIDTH, image.height), Image.Resampling.LANCZOS)
        few = small.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few.save(file, optimize=True)


if __name__ == "__main__":
    main()
