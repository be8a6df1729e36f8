"""Links of README, docs and examples lead somewhere; what messages are said to be are messages."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, pages

PAGES = [*pages(), ROOT / "CHANGELOG.md"]
_FENCES = re.compile(r"^( *)(`{3,}).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@cache
def text_of(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return _FENCES.sub("", page.read_text(encoding="utf-8"))


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the anchors that GitHub, and MkDocs, make of a page's headings."""
    found = set()
    for heading in re.findall(r"^#+ +(.+)$", text_of(page), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*\\]", r"\1", heading).strip().lower()
        found.add(re.sub(r" ", "-", re.sub(r"[^\w\- ]", "", plain)))
    return frozenset(found)


def links(page: Path) -> list[str]:
    return [link for link in _LINK.findall(text_of(page)) if "://" not in link]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    lost = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = page if not path else (page.parent / path).resolve()
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


def test_pages_of_the_site_do_not_send_readers_back_to_the_readme() -> None:
    back = {
        page.name: link
        for page in (ROOT / "docs").rglob("*.md")
        for link in links(page)
        if (page.parent / link.partition("#")[0]).resolve() == ROOT / "README.md"
    }
    assert back == {}


@pytest.mark.parametrize(
    ("name", "heading"),
    [("troubleshooting.md", "## By message"), ("slurm.md", "## When something goes wrong")],
)
def test_every_message_that_is_explained_is_one_of_ours(name: str, heading: str) -> None:
    section = text_of(ROOT / "docs" / name).partition(heading)[2]
    told = re.findall(r"^\| `([^`]+)`", section, re.MULTILINE)
    assert len(told) >= 7
    said = _said()
    missing = [text for text in told if not all(part in said for part in _parts(text))]
    assert missing == []


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split("…") if part.strip(" ?")]


@cache
def _said() -> str:
    """Return all texts in the code; of those with values in them, what stands between these."""
    texts = []
    for folder in ("aimspax_core", "flows", "tasks"):
        for file in (ROOT / folder).rglob("*.py"):
            nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            constants = (node.value for node in nodes if isinstance(node, ast.Constant))
            texts += [value for value in constants if isinstance(value, str)]
    return "\n".join(texts)
