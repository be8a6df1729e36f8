"""The pages of docs/extending, tried as a reader would: a copy of the code with what they add.

A page holds blocks of three sorts, told apart by what stands behind the language:

    ```python file=aimspax_core/reference/toy.py        a new file
    ```python row=aimspax_core/reference/registry.py:KINDS        a row for the end of a table
    ```yaml file=run/aimsPAX.yaml        a file beside the code: a run directory, say
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "extending"
_BLOCK = re.compile(r"^```\w+ (file|row)=(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Copy:
    """A copy of the code that has been extended.

    Attributes:
        folder: Where it lies.
        files: The new files, relative to it, in the page's order.
        rows: How many rows were added to tables.
    """

    folder: Path
    files: tuple[str, ...]
    rows: int

    def python(self, script: str, timeout_s: float = 300.0) -> str:
        """Run a script with the copy's code, in its folder; return what it prints."""
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def passes(self, test: str, selected: str) -> None:
        """Run the tests of a file of ours that have a word in their names, with the copy's code.

        Args:
            test: The file, such as `tests/sampling/test_conformance.py`; it needs no other of ours.
            selected: What `pytest -k` selects, such as the name of what the page adds.
        """
        path = self.folder / test
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / test, path)
        asked = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-k", selected, test]
        self.python(f"import pytest, sys; sys.exit(pytest.main({asked}))")


def extended(page: str, folder: Path) -> Copy:
    """Copy the code, and add what a page of docs/extending adds.

    Args:
        page: Its file name.
        folder: An empty folder for the copy.
    """
    for package in ("aimspax_core", "flows", "tasks"):
        shutil.copytree(
            ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    files, rows = [], 0
    for what, where, text in _BLOCK.findall((PAGES / page).read_text(encoding="utf-8")):
        if what == "file":
            path = folder / where
            assert not path.exists(), f"{page}: {where} is there already"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            files.append(where)
        else:
            _add_row(folder, where, text)
            rows += 1
    return Copy(folder, tuple(files), rows)


def _add_row(folder: Path, where: str, text: str) -> None:
    """Put a row at the end of the table `FILE:NAME`; imports at its head go to the file's."""
    name, _, table = where.partition(":")
    source = (folder / name).read_text(encoding="utf-8")
    imports = [line for line in text.splitlines() if line.startswith(("from ", "import "))]
    row = "\n".join(line for line in text.splitlines() if line not in imports).strip()
    row = row.removesuffix(",")  # ruff, which formats pages too, makes a tuple of a row with one
    begin = re.search(rf"^{table}\b.*= [(\[{{]$", source, re.MULTILINE)
    assert begin, f"{name} has no table {table}"
    end = re.compile(r"^[)\]}]$", re.MULTILINE).search(source, begin.end())
    assert end, f"the table {table} of {name} does not end"
    source = f"{source[: end.start()]}    {row},\n{source[end.start() :]}"
    future = "from __future__ import annotations\n"
    head = "\n".join(imports)
    source = source.replace(future, f"{future}\n{head}\n", 1) if imports else source
    (folder / name).write_text(source, encoding="utf-8")
