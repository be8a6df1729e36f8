"""What is fenced in README and docs is said what it is, and how it is tried."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, Block, blocks, not_run, pages, split

KNOWN = {"console", "bash", "yaml", "python", "text", "ini", "math"}
"""Languages of blocks; what is `text` or `math` is to be looked at, and nothing else."""


def test_every_block_says_what_it_is() -> None:
    assert [(one.place, one.info) for one in blocks() if one.language not in KNOWN] == []


def test_every_remark_before_a_block_is_understood() -> None:
    remarks = [one for one in blocks() if one.remark]
    assert [one.place for one in remarks if one.why_not_run is None and one.run_by is None] == []
    assert all(one.why_not_run for one in not_run())


def test_commands_are_fenced_and_not_indented() -> None:
    indented = re.compile(r"^(?: {4}|\t)(?:aimspax|aims-PAX|python|pip|make|\.venv/)\S* .*$", re.M)
    fences = re.compile(r"^( *)(`{3,}).*?^\1\2 *$", re.M | re.S)
    found = {
        page.relative_to(ROOT).as_posix(): indented.findall(fences.sub("", page.read_text()))
        for page in pages()
    }
    assert {page: lines for page, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "block", [one for one in blocks() if one.run_by], ids=lambda block: block.place
)
def test_the_test_that_runs_a_block_is_there(block: Block) -> None:
    assert block.run_by is not None
    name, _, test = block.run_by.partition("::")
    assert re.search(rf"^def {test}\(", (ROOT / name).read_text(), re.M)


def test_every_page_with_blocks_for_a_copy_of_the_code_is_run_by_a_test() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests").glob("**/test_extending.py"))
    for page in {one.page for one in blocks() if one.for_a_copy}:
        assert f'extended("{Path(page).name}"' in tests


RUN = ("docs/tutorials/using.md", "docs/analysis.md")  # by test_using.py
PYTHON = [one for one in blocks("python") if not one.for_a_copy and one.page not in RUN]


@pytest.mark.torch
@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.place)
def test_python_parses_and_what_it_imports_is_there(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("aimspax check DIR   # says it", [("aimspax", "check", "DIR")]),
        ('eval "$(ls runs)"', [("eval", "$(ls runs)"), ("ls", "runs")]),
        ("A=1 make test && ls | wc -l > out", [("make", "test"), ("ls",), ("wc", "-l")]),
        ("pip install 'aimspax[docs]'", [("pip", "install", "aimspax[docs]")]),
    ],
)  # fmt: skip
def test_a_line_of_a_shell_is_taken_apart(line: str, found: list[tuple[str, ...]]) -> None:
    assert split(line) == found
