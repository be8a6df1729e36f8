"""One real campaign: command line, Prefect server, Dask workers; interrupted, resumed, finished."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import molecule

from aimspax_core.campaign.journal import Journal, entries, load
from aimspax_core.campaign.state import Phase
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.load import load as load_settings
from flows.server import Server
from tests.flows.hosting import wait_for
from tests.prefect_api import call

PROJECT = """
REFERENCE: {engine: tblite, method: GFN2-xTB}
INITIAL_DATASET_GENERATION:
  initial_sampling: aimd
  n_points_per_sampling_step_idg: 3
  skip_step_initial: 5
  ensemble_size: 2
  intermediate_epochs_idg: 2
  max_initial_epochs: 4
  valid_skip: 2
ACTIVE_LEARNING:
  num_trajectories: 3
  ensemble_size: 2
  skip_step_mlff: 4
  c_x: -0.5
  epochs_per_worker: 2
  max_train_set_size: 16
  max_convergence_epochs: 6
MD: {stat_ensemble: NVT, temperature: 300, timestep: 0.5, friction: 0.01}
GATE: {max_force: 80}
CLUSTER: {type: local, max_workers: 1, ml: {max_workers: 1}}
"""
MODEL = """
GENERAL: {name_exp: water, seed: 1}
ARCHITECTURE:
  r_max: 3.0
  num_channels: 4
  max_L: 0
  max_ell: 1
  correlation: 1
  num_interactions: 1
  radial_MLP: [8]
TRAINING: {batch_size: 2, valid_batch_size: 2}
"""
AIMSPAX = [sys.executable, "-c", "from flows.commands.app import main; main()"]


@dataclass
class Story:
    """What happened when the campaign was run, interrupted and run again."""

    directory: Path
    outputs: list[str] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    second_process: subprocess.CompletedProcess[str] | None = None
    labels_at_stop: dict[str, float] = field(default_factory=dict)
    events_at_stop: list[str] = field(default_factory=list)
    flying_at_stop: dict[str, Any] = field(default_factory=dict)

    @property
    def run(self) -> RunDir:
        return RunDir.of(load_settings(self.directory))

    def labels(self) -> dict[str, float]:
        return {p.stem: p.stat().st_mtime for p in self.run.labels.glob("*/*.json")}

    def lines(self) -> list[str]:
        return self.run.journal.read_text().splitlines()


def aimspax(*arguments: str | Path, timeout_s: float = 240) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*AIMSPAX, *map(str, arguments)],
        capture_output=True, text=True, timeout=timeout_s, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, prefect_server: Server) -> Story:
    """Run a campaign, interrupt it in active learning, and run it to its end."""
    told = Story(tmp_path_factory.mktemp("campaign") / "water")
    told.directory.mkdir()
    (told.directory / "aimsPAX.yaml").write_text(PROJECT)
    (told.directory / "mace.yaml").write_text(MODEL)
    ase.io.write(told.directory / "geometry.in", molecule("H2O"), format="xyz")
    (told.directory / "geometry.in").rename(told.directory / "geometry.xyz")
    project = (told.directory / "aimsPAX.yaml").read_text()
    (told.directory / "aimsPAX.yaml").write_text(
        project + "MISC: {path_to_geometry: geometry.xyz}\n"
    )

    process = subprocess.Popen(
        [*AIMSPAX, "run", str(told.directory)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    wait_for((told.directory / "aimspax" / "journal.jsonl").exists, "its first event")
    told.second_process = aimspax("run", told.directory)
    _wait_for_labels(told, process, exploring=3)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    told.outputs.append(output)
    told.codes.append(process.returncode)
    told.labels_at_stop = told.labels()
    told.events_at_stop = told.lines()
    state = load(told.run)[1]
    assert state is not None
    told.flying_at_stop = dict(state.in_flight)
    for _ in range(2):
        done = aimspax("run", told.directory)
        told.outputs.append(done.stdout + done.stderr)
        told.codes.append(done.returncode)
    return told


def _wait_for_labels(told: Story, process: subprocess.Popen[str], exploring: int) -> None:
    """Wait until active learning has got some labels."""
    for _ in range(1200):
        if process.poll() is not None:
            pytest.fail(f"it ended too early:\n{process.stdout.read() if process.stdout else ''}")
        state = load(told.run)[1] if told.run.journal.exists() else None
        if state is not None and len(state.training) >= exploring:
            return
        time.sleep(0.2)
    process.kill()
    pytest.fail(f"no labels in active learning:\n{process.communicate()[0]}")


def api(server: Server, path: str, **body: Any) -> Any:
    return call("POST", f"{server.api_url}/{path}", body)


@pytest.mark.slow
def test_ctrl_c_ends_a_run_cleanly(story: Story) -> None:
    assert story.codes[0] == 130, story.outputs[0]
    assert "start again to go on" in story.outputs[0]
    assert "Traceback" not in story.outputs[0]


@pytest.mark.slow
def test_a_second_process_is_refused_with_who_holds_the_run(story: Story) -> None:
    assert story.second_process is not None
    assert story.second_process.returncode == 2
    assert "being run by process" in story.second_process.stderr
    assert "Traceback" not in story.second_process.stderr


@pytest.mark.slow
def test_the_same_command_again_finishes_the_campaign(story: Story) -> None:
    assert story.codes[1] == 0, story.outputs[1]
    state = load(story.run)[1]
    assert state is not None
    assert state.phase is Phase.FINISHED
    assert state.stop_reason.startswith("max_train_set_size")


@pytest.mark.slow
def test_no_label_is_computed_twice(story: Story) -> None:
    now = story.labels()
    assert {key: now[key] for key in story.labels_at_stop} == story.labels_at_stop
    arrived = Counter(
        e.event.key for e in entries(story.run.journal) if e.event.kind == "label-arrived"
    )
    assert set(arrived) == set(now)
    assert max(arrived.values()) == 1


@pytest.mark.slow
def test_no_journalled_event_is_lost(story: Story) -> None:
    assert story.lines()[: len(story.events_at_stop)] == story.events_at_stop
    numbers = [entry.seq for entry in entries(story.run.journal)]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.slow
def test_no_epoch_is_trained_twice_after_the_restart(story: Story) -> None:
    trained = [e.event for e in entries(story.run.journal) if e.event.kind == "training-finished"]
    state = load(story.run)[1]
    assert state is not None
    for tag, member in state.members.items():
        mine = [event for event in trained if event.tag == tag]
        assert sum(event.epochs for event in mine) == member.epochs
        assert len({event.checkpoint for event in mine}) == len(mine)


@pytest.mark.slow
def test_a_finished_campaign_says_so_and_does_nothing(story: Story) -> None:
    assert story.codes[2] == 0
    assert "finished" in story.outputs[2]
    assert "results" in story.outputs[2]
    last = list(entries(story.run.journal))[-1]
    assert last.event.kind == "published"


@pytest.mark.slow
def test_results_load_where_the_ecosystem_reads_them(story: Story) -> None:
    from mace.calculators import MACECalculator

    results = story.run.results
    models = sorted(results.glob("*.model"))
    assert len(models) == 2
    frames = ase.io.read(results / f"train_set_{models[0].stem}.xyz", index=":")
    assert len(frames) >= 16
    atoms = frames[0]
    atoms.calc = MACECalculator(model_paths=str(models[0]), device="cpu", default_dtype="float32")
    assert np.isfinite(atoms.get_potential_energy())
    assert atoms.get_forces().shape == atoms.arrays["REF_forces"].shape


@pytest.mark.slow
def test_the_converged_model_is_the_best_epoch(story: Story) -> None:
    state = load(story.run)[1]
    assert state is not None
    (member,) = [m for m in state.members.values() if m.converging is not None]
    found = [
        errors
        for entry in entries(story.run.journal)
        if entry.event.kind == "convergence-advanced"
        for errors in entry.event.errors
    ]
    best = min(found, key=lambda errors: errors.valid_loss)
    assert member.best is not None  # its energies are solved for once more, at the end
    assert (member.best.epoch, member.best.mae_f) == (best.epoch, best.mae_f)
    frames = ase.io.read(story.run.results / f"valid_set_{member.tag}.xyz", index=":")
    from mace.calculators import MACECalculator

    calculator = MACECalculator(
        model_paths=str(story.run.results / f"{member.tag}.model"),
        device="cpu", default_dtype="float32",
    )  # fmt: skip
    misses = []
    for atoms in frames:
        reference = atoms.arrays["REF_forces"]
        atoms.calc = calculator
        misses.append(np.abs(atoms.get_forces() - reference).ravel())
    assert np.concatenate(misses).mean() == pytest.approx(best.mae_f, rel=1e-3)


@pytest.mark.slow
def test_the_original_layout_is_there(story: Story) -> None:
    tags = [p.stem for p in sorted(story.run.models.glob("*.model"))]
    wanted = [
        "data/initial/training/combined_initial_train_set.xyz",
        "data/initial/validation/combined_initial_valid_set.xyz",
        "logs/initial_dataset.log",
        "logs/active_learning.log",
        "results/README.txt",
        "results/learning_curve.png",
    ]
    for tag in tags:
        wanted += [
            f"data/initial/training/initial_train_set_{tag}.xyz",
            f"data/initial/validation/initial_valid_set_{tag}.xyz",
            f"data/final/training/train_set_{tag}.xyz",
            f"data/final/validation/valid_set_{tag}.xyz",
            f"losses/{tag}_train.txt",
        ]
    missing = [name for name in wanted if not (story.directory / name).is_file()]
    assert not missing


@pytest.mark.slow
def test_prefect_shows_the_run_and_nothing_runs_for_ever(
    story: Story, prefect_server: Server
) -> None:
    runs = api(prefect_server, "flow_runs/filter", sort="START_TIME_ASC")
    mine = [run for run in runs if run["parameters"].get("directory") == str(story.directory)]
    assert mine[0]["state_type"] == "CANCELLED"
    assert mine[-1]["state_type"] == "COMPLETED"
    ids = [run["id"] for run in mine]
    tasks: list[dict[str, Any]] = []
    while True:
        page = api(
            prefect_server, "task_runs/filter", offset=len(tasks), sort="ID_DESC",
            flow_runs={"id": {"any_": ids}},
        )  # fmt: skip
        tasks += page
        if len(page) < 200:
            break
    kinds = {task["name"].split("-")[0] for task in tasks}
    assert {"label", "propagate", "train", "converge", "sample", "publish"} <= kinds
    assert not {t["state_type"] for t in tasks} & {"RUNNING", "PENDING"}


@pytest.mark.slow
def test_prefect_shows_progress_errors_and_links(story: Story, prefect_server: Server) -> None:
    found = api(prefect_server, "artifacts/latest/filter")
    by_key = {artifact["key"]: artifact for artifact in found}
    kinds = (
        "progress",
        "validation-errors",
        "dask-ml",
        "dask-reference",
        "learning-curve",
        "campaign",
        "trajectories",
        "costs",
    )
    assert {f"water-{kind}" for kind in kinds} <= set(by_key)
    table = json.loads(by_key["water-validation-errors"]["data"])
    assert {row["member"] for row in table} == set(load(story.run)[1].members)  # type: ignore[union-attr]
    assert by_key["water-progress"]["data"] == 100


@pytest.mark.slow
def test_a_relabelled_structure_is_shown_as_cached(
    story: Story, prefect_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect answers from its own cache, under the label store's key, in a new process."""
    script = """
import sys
from pathlib import Path
from prefect import flow
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.load import load
from tasks.label import LabelRequest, label
settings = load(Path(sys.argv[1]))
run = RunDir.of(settings)
key = next(run.labels.glob("*/*.json")).stem
request = LabelRequest(
    key, run.structure(key), run.labels, settings.reference, settings.gate, settings.directory,
    run.refused,
)
@flow
def again():
    task = label.with_options(result_storage=run.prefect_results)
    return task(request, return_state=True)
print("STATE", again().name)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(story.directory)],
        capture_output=True, text=True, timeout=120, check=False, env=dict(os.environ),
    )  # fmt: skip
    assert "STATE Cached" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_the_journal_can_be_held_again(story: Story) -> None:
    with Journal(story.run) as journal:
        assert journal.state.finished
