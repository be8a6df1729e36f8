"""The site is built as `make docs` builds it: without a warning, and by itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PUBLISHED = "https://example.org/aimspax/"
"""Where the site is said to be served from: below the root, as GitHub Pages does."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "SITE_URL": PUBLISHED},
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


class Loaded(HTMLParser):
    """What a page loads: not its links."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        if tag in ("script", "img", "iframe", "source"):
            self.found.append(said.get("src") or "")
        elif tag == "link" and said.get("rel") in ("stylesheet", "preload", "icon"):
            self.found.append(said.get("href") or "")


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    loaded = {one for page in site.rglob("*.html") for one in Loaded(page).found}
    assert [one for one in loaded if one.startswith(("http:", "https:", "//"))] == []


def test_the_page_of_what_is_not_found_looks_like_the_site_wherever_it_is_shown(site: Path) -> None:
    loaded = [one for one in Loaded(site / "404.html").found if one]
    assert {one.startswith("/aimspax/") for one in loaded} == {True}


def test_pages_beside_docs_and_files_that_pages_link_to_are_there(site: Path) -> None:
    for name in (
        "CHANGELOG/index.html", "CONTRIBUTING/index.html", "examples/aspirin/index.html",
        "deployments/automation-example.yaml", "tests/benchmarks/bench_selection.py",
    ):  # fmt: skip
        assert (site / name).is_file(), name


def test_the_api_has_every_room_with_its_functions(site: Path) -> None:
    rooms = {path.parent.name for path in (ROOT / "aimspax_core").glob("*/__init__.py")}
    assert {path.parent.name for path in site.glob("api/*/index.html")} == {*rooms, "modules"}
    page = (site / "api" / "uncertainty" / "index.html").read_text()
    assert "aimspax_core.uncertainty.threshold.Window.threshold" in page
    assert "Margin relative to the mean" in page


def test_equations_are_equations(site: Path) -> None:
    page = (site / "how-it-works" / "index.html").read_text()
    assert len(re.findall(r'<math [^>]*display="block"', page)) == 5
