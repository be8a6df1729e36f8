"""A campaign by FHI-aims's stand-in, which fails in every way in the middle of it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import ase.io
import numpy as np
import psutil
import pytest
from ase import Atoms
from ase.build import molecule

from aimspax_core.campaign.journal import entries, load
from aimspax_core.campaign.state import CampaignState, Phase, PointStatus
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.labels.store import LabelStore
from aimspax_core.reference.tblite.engine import TbliteEngine
from aimspax_core.reference.tblite.section import TbliteReference
from aimspax_core.run_directory import RunDir
from flows.server import Server

AIMS = Path(__file__).parents[1] / "aims"
AIMSPAX = [sys.executable, "-c", "from flows.commands.app import main; main()"]
MODES = ("no-scf", "truncate", "oom", "reorder", "no-scf-nice", "die", "explode", "hang")
MODES += ("disk-full", "nan", "segfault", "empty", "node-fail")

PROJECT = """
INITIAL_DATASET_GENERATION:
  species_dir: {species}
  initial_sampling: engine
  sampling_engine: {{engine: tblite, method: GFN1-xTB}}
  n_points_per_sampling_step_idg: 3
  skip_step_initial: 5
  ensemble_size: 2
  intermediate_epochs_idg: 2
  max_initial_epochs: 4
  valid_ratio: 0.25
ACTIVE_LEARNING:
  species_dir: {species}
  num_trajectories: 3
  skip_step_mlff: 4
  c_x: -0.5
  epochs_per_worker: 1
  max_MD_steps: 60
  max_train_set_size: 24
  max_convergence_epochs: 2
  save_trajectories: False
MD: {{stat_ensemble: NVT, temperature: 300, timestep: 0.5, friction: 0.01}}
CLUSTER:
  type: local
  max_workers: 2
  ml: {{max_workers: 1}}
  launch_str: {launch} >> aims.out
  calc_dir: ./dft
REFERENCE: {{engine: aims, timeout: 20}}
MISC: {{path_to_geometry: water.xyz}}
"""
CONTROL = """# as a user of aims-PAX has it
xc                  pbe
spin                none
relativistic        atomic_zora scalar
charge              0.
sc_accuracy_forces  1E-4
KS_method           parallel
"""
MODEL = """
GENERAL: {name_exp: aims, seed: 1}
ARCHITECTURE:
  {r_max: 3.5, num_channels: 4, max_L: 0, max_ell: 1, correlation: 1, num_interactions: 1,
   radial_MLP: [8]}
TRAINING: {batch_size: 2, valid_batch_size: 2}
"""

pytestmark = pytest.mark.slow


@dataclass
class Story:
    """What a campaign left behind."""

    directory: Path
    output: str = ""
    code: int = -1
    environment: dict[str, str] = field(default_factory=dict)

    def run(self) -> None:
        done = subprocess.run(
            [*AIMSPAX, "run", str(self.directory)],
            capture_output=True, text=True, timeout=420, check=False,
            env={**os.environ, **self.environment},
        )  # fmt: skip
        self.output, self.code = done.stdout + done.stderr, done.returncode

    @property
    def place(self) -> RunDir:
        return Inputs.read(self.directory).run

    @property
    def state(self) -> CampaignState:
        state = load(self.place)[1]
        assert state is not None
        return state


def prepared(directory: Path) -> Story:
    directory.mkdir()
    launch = f"{shlex.quote(sys.executable)} {shlex.quote(str(AIMS / 'stand_in.py'))}"
    project = PROJECT.format(species=AIMS / "species", launch=launch)
    (directory / "aimsPAX.yaml").write_text(project)
    (directory / "mace.yaml").write_text(MODEL)
    (directory / "control.in").write_text(CONTROL)
    ase.io.write(directory / "water.xyz", molecule("H2O"))
    return Story(directory)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, prefect_server: Server) -> Story:
    told = prepared(tmp_path_factory.mktemp("aims") / "stand-in")
    told.environment = {
        "AIMS_STAND_IN": ",".join(MODES),
        "AIMS_STAND_IN_EVERY": "3",
        "AIMS_STAND_IN_COUNTER": str(told.directory / "starts"),
    }
    told.run()
    return told


def test_it_ends_as_if_nothing_had_been(story: Story):
    assert story.code == 0, story.output
    assert story.state.phase is Phase.FINISHED
    assert len(list(story.place.results.glob("*.model"))) == 2


def test_every_way_to_fail_was_met(story: Story):
    starts = int((story.directory / "starts").read_text())
    assert starts >= 3 * len(MODES)


def test_an_scf_that_does_not_converge_is_not_tried_again(story: Story):
    failed = [p for p in story.state.points.values() if "SCF did not converge" in p.reason]
    assert failed
    for point in failed:
        folders = [
            path for path in (story.directory / "dft").iterdir() if str(path) in point.reason
        ]
        assert len(folders) == 1
    events = [entry.event for entry in entries(story.place.journal)]
    for point in failed:
        mine = [e for e in events if e.kind == "launched" and e.action.id == f"label:{point.key}"]
        lost = [e for e in events if e.kind == "task-lost" and e.action_id == f"label:{point.key}"]
        assert len(mine) == 1 + len(lost)


def test_what_may_pass_was_tried_again_and_came(story: Story):
    events = [entry.event for entry in entries(story.place.journal)]
    lost = {e.action_id.removeprefix("label:") for e in events if e.kind == "task-lost"}
    assert lost
    arrived = [key for key in lost if story.state.points[key].status is PointStatus.LABELLED]
    assert arrived


def test_what_the_gate_refused_is_aside_and_counted(story: Story):
    kept = sorted(story.place.refused.iterdir())
    reasons = {str(_read(file).info["reason"]) for file in kept}
    assert any("another order" in reason for reason in reasons)
    assert any("a force of" in reason for reason in reasons)
    told = [path.read_text() for path in (story.directory / "dft").glob("*/failed.txt")]
    assert any("another order" in text for text in told)
    assert story.state.refused == len(kept) > 0


def test_no_label_is_another_than_the_methods(story: Story):
    engine, store = TbliteEngine(TbliteReference(engine="tblite")), LabelStore(story.place.labels)
    assert len(story.state.labelled) > 12
    for key in story.state.labelled:
        stored = store.get(key)
        assert stored is not None
        truth = engine.label(stored.atoms)
        assert stored.label.energy == pytest.approx(truth.energy, abs=1e-4)
        np.testing.assert_allclose(stored.label.forces, truth.forces, atol=2e-4)


def test_folders_of_good_calculations_are_gone(story: Story):
    for folder in (story.directory / "dft").iterdir():
        assert (folder / "failed.txt").exists(), folder


def test_no_process_of_a_calculation_is_left(story: Story):
    where = [process.info["cwd"] or "" for process in psutil.process_iter(["cwd"])]
    assert not [folder for folder in where if folder.startswith(str(story.directory))]


def test_failures_are_told_to_the_user(story: Story):
    told = subprocess.run(
        [*AIMSPAX, "status", str(story.directory)], capture_output=True, text=True, check=True,
        env={**os.environ, "COLUMNS": "200"},
    ).stdout  # fmt: skip
    assert "refused by the gate" in told
    assert "SCF did not converge" in told


def test_wrong_input_stops_it_with_the_programs_words_and_it_can_be_mended(
    tmp_path: Path, prefect_server: Server
):
    told = prepared(tmp_path / "wrong")
    control = told.directory / "control.in"
    control.write_text(CONTROL + "frozen_core_scf .true.\n")  # known, but not to the stand-in
    told.run()
    assert told.code == 1
    assert told.state.phase is Phase.FAILED
    assert "FHI-aims refuses its input" in told.output
    assert "frozen_core_scf" in told.output


def test_a_launch_line_that_runs_nothing_stops_it(tmp_path: Path, prefect_server: Server):
    told = prepared(tmp_path / "nothing")
    project = told.directory / "aimsPAX.yaml"
    text = project.read_text()
    launch = text[text.index("launch_str: ") :].partition("\n")[0]
    project.write_text(text.replace(launch, "launch_str: /nowhere/aims.x >> aims.out"))
    told.run()
    assert told.code == 1
    assert "labels in a row could not be computed" in told.output
    assert "/nowhere/aims.x" in told.output
    project.write_text(text.replace("max_train_set_size: 24", "max_train_set_size: 8"))
    told.run()
    assert told.code == 0, told.output


def _read(file: Path) -> Atoms:
    atoms = ase.io.read(file)
    assert isinstance(atoms, Atoms)
    return atoms


def test_a_label_tells_its_cost(story: Story):
    store = LabelStore(story.place.labels)
    content = json.loads(store.path(story.state.labelled[0]).read_text())
    told = content["provenance"]
    assert told["core_hours"] == pytest.approx(told["wall_s"] * told["cores"] / 3600)
    assert story.state.core_hours > 0


def test_two_campaigns_at_once_pay_for_a_label_once(tmp_path: Path, prefect_server: Server):
    """They begin alike, so that they ask for the same labels at the same time."""
    both = [prepared(tmp_path / name) for name in ("one", "two")]
    environment = {**os.environ, "AIMS_STAND_IN_COUNTER": str(tmp_path / "starts")}
    processes = [
        subprocess.Popen(
            [*AIMSPAX, "initial-dataset", one.directory, "--set", "MISC.label_store=../labels"],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for one in both
    ]  # fmt: skip
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    labels = {path.stem for path in (tmp_path / "labels").glob("*/*.json")}
    assert int((tmp_path / "starts").read_text()) == len(labels)
    overrides = {"MISC.label_store": "../labels"}
    keys = []
    for one in both:
        state = load(Inputs.read(one.directory, overrides).run)[1]
        assert state is not None
        keys.append(set(state.labelled))
    assert keys[0] & keys[1]
    assert keys[0] | keys[1] == labels


def test_a_damaged_label_is_computed_again_before_the_campaign_goes_on(story: Story):
    store = LabelStore(story.place.labels)
    key = story.state.labelled[0]
    truth = store.get(key)
    store.path(key).write_text('{"energy": NaN}')
    project = story.directory / "aimsPAX.yaml"
    project.write_text(project.read_text().replace("set_size: 24", "set_size: 26"))
    story.environment = {}
    story.run()
    assert story.code == 0, story.output
    assert "1 label of the campaign not usable in the label store any more" in story.output
    assert story.state.phase is Phase.FINISHED
    again = store.get(key)
    assert truth is not None
    assert again is not None
    assert again.label.energy == pytest.approx(truth.label.energy, abs=1e-6)
