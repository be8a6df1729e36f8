"""docs/command-line.md is what the command line says of itself."""

from __future__ import annotations

from pathlib import Path

from flows.commands.app import app
from flows.commands.reference_page import reference_page

PAGE = Path(__file__).parents[3] / "docs" / "command-line.md"


def test_the_page_is_current() -> None:
    renew = "python -m flows.commands.reference_page > docs/command-line.md"
    assert PAGE.read_text(encoding="utf-8") == reference_page(), f"renew it: {renew}"


def test_every_command_is_on_it() -> None:
    page = reference_page()
    assert [name for name in app if f"## aimspax {name}\n" not in page] == [
        "--help",
        "-h",
        "--version",
    ]
