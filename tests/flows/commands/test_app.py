"""The command line: what it says, and how it ends; what runs is tested in `test_campaign`."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from aimspax_core.errors import SettingsError
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.load import load
from aimspax_core.settings.reading.which_files import settings_files
from flows.commands.app import app, server_status
from flows.server import Server

EXAMPLE = Path(__file__).parents[3] / "examples" / "aspirin"


def aimspax(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return command("from flows.commands.app import main; main()", *arguments)


def command(
    python: str, *arguments: str | Path, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", python, *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False, cwd=cwd,
    )  # fmt: skip


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
    assert [cell.strip() for cell in rows[0][1:4]] == ["1", "18", "2"]
    assert not (directory / "aimspax").exists(), "check leaves nothing behind"


@pytest.mark.parametrize("command", ["check", "run", "initial-dataset", "active-learning"])
def test_mistakes_of_both_files_come_in_one_message(directory: Path, command: str) -> None:
    project, model = directory / "aimsPAX.yaml", directory / "mace.yaml"
    project.write_text(project.read_text().replace("num_trajectories", "num_trajectorys"))
    model.write_text(model.read_text().replace("r_max: 4.5", "r_max: far"))
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


def overrides(*arguments: str | Path) -> dict[str, Any]:
    """What the command line makes of arguments, as a flow gets it."""
    _, bound, _ = app.parse_args([*map(str, arguments)])
    return dict(bound.kwargs["options"].overrides)


@pytest.mark.parametrize("project", ["--aimsPAX-settings", "--aimsPAX_settings"])
@pytest.mark.parametrize(
    "model", ["--model-settings", "--model_settings", "--mace-settings", "--mace_settings"]
)
@pytest.mark.parametrize("what", ["run", "initial-dataset", "active-learning", "check", "status"])
def test_every_spelling_of_the_originals_flags_names_a_file_of_the_working_directory(
    what: str, project: str, model: str
) -> None:
    asked = overrides(what, "somewhere", project, "mine.yaml", model, "net.yaml")
    here = Path.cwd()
    assert asked == {
        "aimsPAX_settings": str(here / "mine.yaml"),
        "model_settings": str(here / "net.yaml"),
    }


def test_a_file_named_in_overrides_is_one_of_the_run_directory(directory: Path) -> None:
    (directory / "aimsPAX.yaml").rename(directory / "mine.yaml")
    (directory / "mace.yaml").rename(directory / "net.yaml")
    asked = {
        "aimsPAX_settings": "mine.yaml",
        "model_settings": "net.yaml",
        "ACTIVE_LEARNING.c_x": -0.5,
    }
    settings = load(directory, *settings_files(directory, asked))
    assert settings.model.GENERAL.name_exp == "aspirin"
    assert settings.al.c_x == -0.5
    with pytest.raises(SettingsError, match="model_settings: found 3; allowed: the name of a file"):
        settings_files(directory, {"model_settings": 3})


def test_only_a_deployment_refuses_a_relative_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.runs.names import run_directory

    monkeypatch.chdir(tmp_path)
    assert run_directory(Path("runs/water")) == tmp_path / "runs" / "water"
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "0123")  # as in a deployed run
    assert run_directory(Path(f"{tmp_path}\n")) == tmp_path
    assert run_directory(Path("~/runs")) == Path.home() / "runs"
    with pytest.raises(SettingsError, match=r"found 'runs/water'; .* allowed: an absolute path"):
        run_directory(Path("runs/water"))


@pytest.mark.parametrize("name", ["aims-PAX", "aims-PAX-initial-ds", "aims-PAX-al"])
def test_the_originals_commands_read_the_working_directory(directory: Path, name: str) -> None:
    (directory / "aimsPAX.yaml").rename(directory / "mine.yaml")
    (directory / "mine.yaml").write_text("REFERENCE: {engine: abacus}")
    entry = {script.name: script.value for script in entry_points(group="console_scripts")}[name]
    module, function = entry.split(":")
    python = f"from {module} import {function}; {function}()"
    done = command(python, "--aimsPAX-settings", "mine.yaml", cwd=directory)
    assert done.returncode == 2
    assert "mine.yaml:1  REFERENCE" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("which", "section"), [("aimsPAX", "ACTIVE_LEARNING"), ("mace", "TRAINING")]
)
def test_schema_describes_a_settings_file(which: str, section: str) -> None:
    done = aimspax("schema", which)
    assert section in json.loads(done.stdout)["properties"]


@pytest.mark.parametrize("words", [("schema", "aimsPAX"), ("--version",)])
def test_who_reads_no_further_is_no_bug(words: tuple[str, ...]) -> None:
    """As `aimspax schema aimsPAX | head`: what is written at once, or at the end."""
    reads, writes = os.pipe()
    os.close(reads)
    with os.fdopen(writes, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-c", "from flows.commands.app import main; main()", *words],
            stdout=pipe, stderr=subprocess.PIPE, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert done.stderr == ""


def test_server_env_points_a_shell_at_the_server(prefect_server: Server) -> None:
    done = aimspax("server", "env")
    assert f"export PREFECT_API_URL={prefect_server.api_url}" in done.stdout.splitlines()
    assert all(line.startswith("export ") for line in done.stdout.splitlines())


def test_server_start_finds_the_one_that_runs(prefect_server: Server) -> None:
    done = aimspax("server", "start")
    assert f"running: {prefect_server.url}" in done.stdout


def test_server_status_says_where_the_server_is_and_who_runs_it(
    prefect_server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert server_status() == 0
    told = " ".join(capsys.readouterr().out.split())
    assert prefect_server.url in told
    assert f"process {prefect_server.pid}" in told


def test_server_env_without_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("PREFECT_", "AIMSPAX_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    done = aimspax("server", "env")
    assert done.returncode == 2
    assert "no server is running" in done.stderr
    assert done.stdout == ""


def test_status_of_a_directory_where_nothing_ran(directory: Path) -> None:
    done = aimspax("status", directory)
    assert done.returncode == 0
    assert "no campaign has been started here" in done.stdout


def test_active_learning_needs_something_to_begin_from(directory: Path) -> None:
    done = aimspax("active-learning", directory)
    assert done.returncode == 2
    assert "active learning needs an ensemble" in done.stderr
    assert "Traceback" not in done.stderr


def _recorded(directory: Path, adopted: bool) -> RunDir:
    """A campaign that was started, and whose journal is damaged."""
    from aimspax_core.inputs.campaign_inputs import Inputs
    from aimspax_core.inputs.provenance import write_provenance

    inputs = Inputs.read(directory)
    inputs.run.state.mkdir()
    write_provenance(inputs.run, inputs.settings, inputs.geometries, adopted)
    inputs.run.journal.write_text("damaged\n")
    return inputs.run


def _members(run: RunDir) -> list[Path]:
    """Give a campaign a model and a dataset."""
    files = [run.models / "a.model", run.data / "final" / "a.xyz"]
    for file in files:
        file.parent.mkdir(parents=True)
        file.touch()
    return files


def test_fresh_leaves_members_that_a_damaged_campaign_began_from(directory: Path) -> None:
    from aimspax_core.inputs.fresh import move_aside

    run = _recorded(directory, adopted=True)
    files = _members(run)
    assert move_aside(run) is not None
    assert all(file.exists() for file in files)


def test_fresh_moves_members_that_a_damaged_campaign_made(directory: Path) -> None:
    from aimspax_core.inputs.fresh import move_aside

    run = _recorded(directory, adopted=False)
    files = _members(run)
    move_aside(run)
    assert not any(file.exists() for file in files)


def test_fresh_that_was_cut_short_is_gone_on_with(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At no time is a label away, and the campaign is there until all of it is moved."""
    from aimspax_core.inputs.fresh import move_aside

    run = _recorded(directory, adopted=False)
    label = run.labels / "ab" / "abcd.json"
    checkpoint = run.checkpoint("a", "train-1")
    for file in (label, checkpoint, run.snapshot):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    rename, left = Path.rename, [0]

    def killed(self: Path, target: Path) -> Path:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        for allowed in (0, 1, 1):
            left[0] = allowed
            with pytest.raises(KeyboardInterrupt):
                move_aside(run)
            assert label.exists()
            assert run.journal.exists()
    assert move_aside(run) is not None
    assert label.exists()
    assert not run.journal.exists()
    assert not checkpoint.exists()
    assert len([*directory.glob("earlier-*/aimspax/journal.jsonl")]) == 1


@pytest.mark.parametrize("journal", ["damaged\n", None])
def test_fresh_leaves_members_of_a_campaign_that_tells_nothing_and_says_so(
    directory: Path, journal: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    from aimspax_core.inputs.fresh import move_aside

    run = _recorded(directory, adopted=False)
    run.settings.unlink()
    run.journal.unlink() if journal is None else run.journal.write_text(journal)
    files = _members(run)
    move_aside(run)
    assert all(file.exists() for file in files)
    assert f"{run.data} and {run.models} are not moved" in caplog.text


def test_fresh_moves_the_earlier_campaign_aside_and_keeps_its_labels(directory: Path) -> None:
    from aimspax_core.inputs.fresh import move_aside

    run = _recorded(directory, adopted=False)
    label = run.labels / "ab" / "ab12.json"
    refused = run.refused / "ab12.json"
    for file in (label, refused, run.journal, run.results / "a.model", run.data / "final/a.xyz"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(file.name)
    move_aside(run)
    (aside,) = directory.glob("earlier-*")
    assert label.read_text() == "ab12.json"
    assert (aside / "aimspax" / "labels" / "ab" / "ab12.json").samefile(label)
    assert (aside / "results" / "a.model").exists()
    assert (aside / "data" / "final" / "a.xyz").exists()
    assert (aside / "refused" / "ab12.json").exists()
    assert not run.journal.exists()
    assert not run.results.exists()
    assert not run.refused.exists()
    assert (directory / "aimsPAX.yaml").exists()


def test_fresh_leaves_a_label_store_elsewhere_alone(directory: Path) -> None:
    """Also where the campaign has labels of its own, from before the store was set."""
    from aimspax_core.inputs.fresh import move_aside

    own = _recorded(directory, adopted=False)
    run = replace(own, store=directory / "labels")
    for store in (own.labels, run.labels):
        (store / "ab").mkdir(parents=True)
        (store / "ab" / f"{store.parent.name}.json").touch()
    aside = move_aside(run)
    assert aside is not None
    assert [p.name for p in run.labels.rglob("*.json")] == [f"{directory.name}.json"]
    assert [p.name for p in aside.rglob("labels/*/*.json")] == ["aimspax.json"]


def test_fresh_moves_nothing_while_a_dataset_is_being_labelled(directory: Path) -> None:
    from aimspax_core.inputs.fresh import move_aside

    run = _recorded(directory, adopted=False)
    (run.state / "labelling").mkdir()
    with (run.state / "labelling" / "ab12.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SettingsError, match="`aimspax label` is labelling a dataset here"):
            move_aside(run)
        assert run.journal.exists()
    assert move_aside(run) is not None, "the lock is left behind, and nobody holds it"


def test_fresh_never_moves_the_users_own_files(directory: Path) -> None:
    from aimspax_core.inputs.campaign_inputs import Inputs
    from aimspax_core.inputs.fresh import move_aside

    run = Inputs.read(directory, {"MISC.dataset_dir": ".", "GENERAL.model_dir": "results"}).run
    run.state.mkdir()
    run.results.mkdir()
    move_aside(run)
    assert (directory / "geometry.in").exists()
    (aside,) = directory.glob("earlier-*")
    assert sorted(p.name for p in aside.iterdir()) == ["aimspax", "results"]


def test_export_says_what_it_has_written(tmp_path: Path) -> None:
    finished = Path(__file__).parents[2] / "fixtures" / "0.1.0-8e65e71" / "finished"
    shutil.copytree(finished, tmp_path / "run")
    model = tmp_path / "run" / "results" / "water-511.model"
    shutil.copyfile(model, model.with_name("water-472.model"))
    done = aimspax("export", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    written = [Path(line) for line in done.stdout.splitlines()]
    assert all(path.is_file() for path in written)
    assert "water-511.model-mliap_lammps.pt" in {path.name for path in written}
    shutil.rmtree(tmp_path / "run" / "results")
    done = aimspax("export", tmp_path / "run")
    assert done.returncode == 2
    assert "no models to export" in done.stderr
