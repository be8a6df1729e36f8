"""Benchmarks and examples run rarely: what they import from the program is there all the same."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = [*ROOT.glob("tests/benchmarks/*.py"), *ROOT.glob("examples/**/*.py")]
OURS = ("aimspax_core", "tasks", "flows")


def imported(script: Path) -> Iterator[tuple[str, str]]:
    """Yield modules of ours, and the names that a script takes from them."""
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in OURS:
            yield from ((str(node.module), alias.name) for alias in node.names)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_what_a_script_imports_is_there(script: Path) -> None:
    for module, name in imported(script):
        found = importlib.import_module(module)
        assert hasattr(found, name) or importlib.import_module(f"{module}.{name}")
