"""The command line: what it says, and how it ends; what runs is tested in `test_campaign`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "aspirin"


def aimspax(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from flows.cli import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    shutil.copytree(EXAMPLE, tmp_path / "aspirin")
    return tmp_path / "aspirin"


def test_check_says_what_would_run_and_how_points_are_split(directory: Path) -> None:
    done = aimspax("check", directory)
    assert done.returncode == 0, done.stderr
    assert "No mistakes found" in done.stdout
    assert "tblite GFN2-xTB" in done.stdout
    rows = [line.split("│") for line in done.stdout.splitlines() if line.startswith("│")]
    assert [cell.strip() for cell in rows[0][1:4]] == ["1", "9", "1"]
    assert not (directory / "aimspax").exists(), "check leaves nothing behind"


@pytest.mark.parametrize("command", ["check", "run", "initial-dataset", "active-learning"])
def test_mistakes_of_both_files_come_in_one_message(directory: Path, command: str) -> None:
    project, model = directory / "aimsPAX.yaml", directory / "mace.yaml"
    project.write_text(project.read_text().replace("num_trajectories", "num_trajectorys"))
    model.write_text(model.read_text().replace("r_max: 4.0", "r_max: far"))
    done = aimspax(command, directory)
    assert done.returncode == 2
    assert "did you mean num_trajectories?" in done.stderr
    assert "ARCHITECTURE.r_max: found 'far'" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("check", "nowhere"), "nowhere: no such directory"),
        (("check", ".", "--set", "c_x"), "allowed: SECTION.key=value"),
        (("runn",), 'Did you mean "run"?'),
    ],
)
def test_a_mistaken_command_ends_with_exit_code_2(arguments: tuple[str, ...], said: str) -> None:
    done = aimspax(*arguments)
    assert done.returncode == 2
    assert said in done.stderr + done.stdout


def test_set_replaces_a_value_of_the_files(directory: Path) -> None:
    done = aimspax("check", directory, "--set", "ACTIVE_LEARNING.num_trajectories=3")
    assert "3 trajectories" in done.stdout


def test_status_of_a_directory_where_nothing_ran(directory: Path) -> None:
    done = aimspax("status", directory)
    assert done.returncode == 0
    assert "no campaign has been started here" in done.stdout


@pytest.mark.usefixtures("prefect_server")
def test_active_learning_needs_an_initial_dataset(directory: Path) -> None:
    done = aimspax("active-learning", directory)
    assert done.returncode == 2
    assert "the initial dataset is not done yet" in done.stderr
    assert "Traceback" not in done.stderr


def test_fresh_moves_the_earlier_campaign_aside_and_keeps_its_labels(directory: Path) -> None:
    from aimspax_core.inputs import Inputs
    from flows.cli import move_aside

    run = Inputs.read(directory).run
    label = run.labels / "ab" / "ab12.json"
    for file in (label, run.journal, run.results / "a.model", run.data / "final" / "a.xyz"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(file.name)
    move_aside(run)
    (aside,) = directory.glob("earlier-*")
    assert label.read_text() == "ab12.json"
    assert (aside / "aimspax" / "labels" / "ab" / "ab12.json").samefile(label)
    assert (aside / "results" / "a.model").exists()
    assert (aside / "data" / "final" / "a.xyz").exists()
    assert not run.journal.exists()
    assert not run.results.exists()
    assert (directory / "aimsPAX.yaml").exists()


def test_fresh_never_moves_the_users_own_files(directory: Path) -> None:
    from aimspax_core.inputs import Inputs
    from flows.cli import move_aside

    run = Inputs.read(directory, {"MISC.dataset_dir": ".", "GENERAL.model_dir": "results"}).run
    run.state.mkdir()
    run.results.mkdir()
    move_aside(run)
    assert (directory / "geometry.in").exists()
    (aside,) = directory.glob("earlier-*")
    assert sorted(p.name for p in aside.iterdir()) == ["aimspax", "results"]
