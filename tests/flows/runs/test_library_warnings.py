"""Warnings of libraries are in a file of the run, and not on the terminal."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.runs.library_warnings import FILE, NAME, keep_apart, kept_apart

WARN = "import warnings; warnings.warn('the lot is old', FutureWarning)"
AS_A_WORKER = "from flows.runs.library_warnings import keep_apart; keep_apart(); "


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Path]:
    with kept_apart(tmp_path / "logs"):
        yield tmp_path / "logs" / NAME


def test_a_warning_is_a_line_of_the_file(apart: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning("the lot\nis old", FutureWarning, "library.py", 7)
    (line,) = apart.read_text().splitlines()
    assert line.endswith("library.py:7 FutureWarning: the lot is old")
    assert capfd.readouterr().err == ""


def test_processes_of_the_run_write_to_the_same_file(apart: Path) -> None:
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", AS_A_WORKER + WARN], env=dict(os.environ),
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stderr == ""
    assert apart.read_text().count("FutureWarning: the lot is old") == 2


def test_after_the_run_warnings_are_where_they_were(tmp_path: Path) -> None:
    before = warnings.showwarning
    with kept_apart(tmp_path / "logs"):
        assert warnings.showwarning is not before
    assert warnings.showwarning is before
    assert FILE not in os.environ


def test_outside_of_a_run_warnings_stay_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FILE, raising=False)
    before = warnings.showwarning
    keep_apart()
    assert warnings.showwarning is before


def test_a_file_that_cannot_be_written_costs_nothing_but_the_warning(
    apart: Path,
) -> None:
    (apart.parent.parent / "logs").write_text("a file in the place of the folder")
    warnings.showwarning("the lot is old", FutureWarning, "library.py", 7)
    assert not apart.exists()
