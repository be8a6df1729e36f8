"""`aimspax verify`: what it prints, and its exit codes."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import pytest

from aimspax_core import locks
from aimspax_core.errors import CampaignError
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.load import load
from flows.commands.app import app
from flows.commands.exit_codes import DONE, FAILED

OLD = Path(__file__).parents[2] / "fixtures" / "0.1.0-8e65e71" / "interrupted"
DATASET = "data/initial/training/combined_initial_train_set.xyz"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A campaign that was killed; models that were taken out of it are there, if only by name."""
    copy = tmp_path / "interrupted"
    shutil.copytree(OLD, copy)
    (copy / "model").mkdir()
    for tag in ("water-472", "water-511"):
        (copy / "model" / f"{tag}.model").touch()
    return copy


def verify(directory: Path, *flags: str) -> int:
    code = app(["verify", str(directory), "--no-models", *flags], result_action="return_value")
    assert isinstance(code, int)
    return code


def test_all_is_well(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(directory) == DONE
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("all is well (87 events, 19 labels")


def test_a_finding_is_a_line_with_its_file(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / DATASET).write_text("")
    assert verify(directory) == FAILED
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{DATASET}: ")
    assert last.startswith("1 finding (")


def test_findings_as_json(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / DATASET).write_text("")
    assert verify(directory, "--json") == FAILED
    told = json.loads(capsys.readouterr().out)
    assert [(one["kind"], one["file"]) for one in told["findings"]] == [("sets", DATASET)]
    assert told["looked_at"]["events"] == 87


def test_what_runs_is_no_finding(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    aside = directory / "aimspax" / "labels" / "00" / ".0.json.0123abcd.json"
    aside.parent.mkdir()
    aside.touch()
    with locks.held(RunDir.of(load(directory)).lock):
        assert verify(directory) == DONE
    told = capsys.readouterr().out
    assert "a process runs this campaign" in told
    assert "left" not in told


def test_a_file_that_cannot_be_read_is_named(directory: Path) -> None:
    """Root may read all: a folder in the file's place nobody can."""
    journal = directory / "aimspax" / "snapshot.json"
    journal.unlink(missing_ok=True)
    journal.mkdir()
    with pytest.raises(CampaignError, match=r"snapshot\.json"):
        verify(directory)


def test_an_error_that_names_no_file_is_told_all_the_same(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("flows.commands.verify.look", fails)
    with pytest.raises(CampaignError) as told:
        verify(directory)
    assert str(told.value) == "Input/output error"
