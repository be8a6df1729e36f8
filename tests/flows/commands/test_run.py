"""`aimspax run` before anything is launched: what it reads, and when there is nothing to do."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aimspax_core.campaign.events import ParametersSet
from aimspax_core.campaign.journal import Journal
from aimspax_core.campaign.state import SetValue
from aimspax_core.errors import AimspaxError, SettingsError
from aimspax_core.inputs.campaign_inputs import Inputs
from flows.commands.app import finish
from flows.commands.check import check
from flows.commands.exit_codes import console
from flows.commands.run import execute, prepare
from flows.commands.status import status, status_tables
from flows.server import Server
from tests.campaign.test_modes import exploring
from tests.disks import fill, mounted

FINISHED = Path(__file__).parents[2] / "fixtures" / "0.1.0-8e65e71" / "finished"


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """The directory of a campaign that is finished."""
    shutil.copytree(FINISHED, tmp_path / "water")
    return tmp_path / "water"


def test_a_finished_campaign_shows_its_results_and_runs_nothing(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(prepare("all", finished, {})) == 0
    assert "water-511.model" in capsys.readouterr().out


def test_a_folder_of_the_results_is_told_with_all_that_it_holds(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ensemble = finished / "results" / "last_ensemble"
    ensemble.mkdir()
    for name in ("a.model", "b.model"):
        (ensemble / name).write_bytes(b"0" * 100 * 1024)
    assert execute(prepare("all", finished, {})) == 0
    (row,) = (line for line in capsys.readouterr().out.splitlines() if "last_ensemble" in line)
    assert [cell.strip() for cell in row.split("│")[1:3]] == ["last_ensemble/", "200"]


def test_the_status_of_a_finished_campaign_tells_of_nothing_that_goes_on(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(finished, {}) == 0
    said = capsys.readouterr().out
    assert said.startswith("finished: ")
    assert "nobody runs it" not in said
    assert not any(f"│ {word}" in said for word in ("ready for MD", "waiting", "in MD"))


def test_the_status_says_in_words_what_trajectories_do(capsys: pytest.CaptureFixture[str]) -> None:
    for table in status_tables(exploring().state):
        console.print(table)
    assert "│ ready for MD" in capsys.readouterr().out


def test_a_finished_campaign_whose_results_were_moved_away_says_so(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (finished / "results").rename(finished.parent / "elsewhere")
    assert execute(prepare("all", finished, {})) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert f"nothing is left of its results in {finished / 'results'}" in out


@pytest.mark.parametrize("command", [check, status])
def test_status_and_check_need_no_by_product_of_the_campaign(
    finished: Path, command: Callable[[Path, dict[str, Any]], int]
) -> None:
    for gone in ("results", "data", "checkpoints", "losses", "analysis", "trajectories"):
        shutil.rmtree(finished / gone)
    (finished / "aimspax" / "snapshot.json").unlink()
    assert command(finished, {}) == 0


def test_the_flow_does_not_read_the_directory_again(
    finished: Path, prefect_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.pipeline import aims_pax
    from flows.runs.handed_over import hand_over

    plan = prepare("all", finished, {})
    monkeypatch.setattr(Inputs, "read", None)
    with hand_over(plan.inputs):
        assert aims_pax(finished, {}, return_state=True).is_completed()


def test_a_run_that_begins_on_a_full_disk_waits_and_goes_on(
    tmp_path: Path, prefect_server: Server
) -> None:
    from flows.pipeline import aims_pax

    with mounted(tmp_path / "disk", "4m") as disk:
        shutil.copytree(FINISHED, disk / "water")
        filler = fill(disk)
        told: list[str] = []

        class MakesRoom(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                if record.getMessage().startswith("waiting for the disk"):
                    told.append(record.getMessage())
                    filler.unlink()

        handler = MakesRoom()
        logging.getLogger("aimspax").addHandler(handler)
        try:
            outcome = aims_pax(disk / "water", {}, return_state=True)
        finally:
            logging.getLogger("aimspax").removeHandler(handler)
        assert outcome.is_completed()
        assert len(told) == 1


@pytest.mark.parametrize("part", ["all", "initial", "active"])
def test_what_has_changed_is_refused_before_anything_starts(finished: Path, part: Any) -> None:
    with pytest.raises(SettingsError, match="r_max"):
        prepare(part, finished, {"ARCHITECTURE.r_max": 5.5})


def test_fresh_reads_the_directory_again_once_the_campaign_is_aside(finished: Path) -> None:
    plan = prepare("all", finished, {}, fresh=True)
    assert plan.inputs.state is None
    assert plan.finished is None
    assert len([*finished.glob("earlier-*")]) == 1


def _leave(directory: Path) -> None:
    """Leave it as it is."""


def _damage(directory: Path) -> None:
    (directory / "aimspax" / "snapshot.json").unlink()
    (directory / "aimspax" / "journal.jsonl").write_text("damaged\ndamaged too\n")


def _cut_short(directory: Path) -> None:
    """Leave what a `--fresh` that was killed leaves: the journal goes last, after its parts."""
    for gone in ("snapshot.json", "settings.json"):
        (directory / "aimspax" / gone).unlink()
    journal = directory / "aimspax" / "journal.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[10:]))


def _set_by_hand(directory: Path) -> None:
    """Set a value that does not go with what the files say today."""
    with Journal(Inputs.read(directory).run) as journal:
        value = SetValue(
            key="ACTIVE_LEARNING.valid_ratio", value="7", before="?", time=0.0, by="somebody"
        )
        journal.append(ParametersSet(rules=journal.state.rules, values=(value,)))


@pytest.mark.parametrize("spoil", [_damage, _cut_short, _set_by_hand])
def test_fresh_needs_nothing_of_the_campaign_that_it_moves_aside(
    finished: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(finished)
    with pytest.raises(AimspaxError):
        prepare("all", finished, {})
    assert prepare("all", finished, {}, fresh=True).inputs.state is None
    assert len([*finished.glob("earlier-*/aimspax/journal.jsonl")]) == 1
    assert not (finished / "aimspax" / "journal.jsonl").exists()


def test_fresh_moves_nothing_if_the_settings_have_mistakes(finished: Path) -> None:
    with pytest.raises(SettingsError, match="num_trajectorys"):
        prepare("all", finished, {"ACTIVE_LEARNING.num_trajectorys": 3}, fresh=True)
    assert not [*finished.glob("earlier-*")]


@pytest.mark.parametrize("spoil", [_leave, _damage])
def test_fresh_active_learning_keeps_an_initial_dataset_that_nothing_else_has(
    finished: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(finished)
    with pytest.raises(SettingsError, match="--fresh"):
        prepare("active", finished, {}, fresh=True)
    assert not [*finished.glob("earlier-*")]


@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError])
def test_a_file_that_cannot_be_had_ends_a_command_without_a_traceback(
    error: type[OSError], capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(result_action: str) -> int:
        raise error(1, "no such thing", "folder/file")

    with pytest.raises(SystemExit) as ended:
        finish(fails)  # type: ignore[arg-type]
    assert ended.value.code == 1
    assert capsys.readouterr().err.strip() == "folder/file: no such thing"
