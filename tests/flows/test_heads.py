"""A campaign of one SO3LR with several heads in the place of an ensemble, killed and taken up."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.emt import EMT

from aimspax_core.campaign.journal import load
from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.families.so3krates import why_not_installed
from flows.server import Server

if (why := why_not_installed()) is not None:
    pytest.skip(why, allow_module_level=True)

PROJECT = """
REFERENCE: {engine: ase, calculator: ase.calculators.emt.EMT}
INITIAL_DATASET_GENERATION:
  {initial_sampling: aimd, n_points_per_sampling_step_idg: 5, skip_step_initial: 4,
   ensemble_size: 1, intermediate_epochs_idg: 2, max_initial_epochs: 4, valid_ratio: 0.2}
ACTIVE_LEARNING:
  {num_trajectories: 2, ensemble_size: 1, skip_step_mlff: 4, c_x: -0.3, epochs_per_worker: 1,
   max_MD_steps: 24, max_convergence_epochs: 2, save_trajectories_interval: 4, analysis: True,
   analysis_skip: 8}
MD: {stat_ensemble: NVT, temperature: 300, timestep: 0.5, friction: 0.01}
MISC: {path_to_geometry: water.xyz, test_dataset: held.xyz}
GATE: {max_force: 1000, min_distance: 0}
CLUSTER: {type: local, max_workers: 1, ml: {max_workers: 1}}
"""
MODEL = """
GENERAL: {name_exp: heads, model_choice: so3lr}
ARCHITECTURE:
  {num_features: 8, num_heads: 2, num_layers: 1, degrees: [1, 2], num_radial_basis_fn: 4,
   energy_regression_dim: 8, r_max: 3.5, r_max_lr: 5, use_multihead_model: True,
   num_multihead_heads: 3}
TRAINING: {batch_size: 2, valid_batch_size: 2}
"""
AIMSPAX = [sys.executable, "-c", "from flows.commands.app import main; main()"]

pytestmark = pytest.mark.slow


@dataclass
class Story:
    """What happened when the campaign was run, killed and run again."""

    directory: Path
    output: str = ""
    code: int | None = None

    @property
    def run(self) -> RunDir:
        return Inputs.read(self.directory).run

    @property
    def state(self) -> CampaignState:
        state = load(self.run)[1]
        assert state is not None
        return state

    @property
    def model(self) -> Path:
        (only,) = self.run.results.glob("*.model")
        return only


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, prefect_server: Server) -> Story:
    told = Story(tmp_path_factory.mktemp("heads") / "water")
    told.directory.mkdir()
    (told.directory / "aimsPAX.yaml").write_text(PROJECT)
    (told.directory / "mace.yaml").write_text(MODEL)
    ase.io.write(told.directory / "water.xyz", molecule("H2O"))
    ase.io.write(told.directory / "held.xyz", held_out(), format="extxyz")
    process = command("run", str(told.directory))
    wait_for(lambda: phase_of(told) is Phase.ACTIVE, process)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    process = command("run", str(told.directory))
    told.output, _ = process.communicate(timeout=300)
    told.code = process.returncode
    return told


def held_out() -> list:
    frames = []
    for seed in range(5):
        atoms = molecule("H2O")
        atoms.rattle(0.05, seed=seed)
        atoms.calc = EMT()
        atoms.info["REF_energy"] = atoms.get_potential_energy()
        atoms.arrays["REF_forces"] = atoms.get_forces()
        atoms.calc = None
        frames.append(atoms)
    return frames


def phase_of(told: Story) -> Phase | None:
    state = load(told.run)[1] if told.run.journal.exists() else None
    return None if state is None else state.phase


def command(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*AIMSPAX, *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ,
    )  # fmt: skip


def wait_for(done, process: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        if process.poll() is not None:
            pytest.fail(f"it ended too early:\n{process.stdout.read() if process.stdout else ''}")
        if done():
            return
        time.sleep(0.2)
    process.kill()
    pytest.fail("it did not come so far")


def test_it_is_taken_up_and_ends(story):
    assert story.code == 0, story.output
    assert story.state.phase is Phase.FINISHED
    assert len(story.state.members) == 1


def test_nothing_is_wrong_with_what_it_left(story):
    process = command("verify", str(story.directory))
    found, _ = process.communicate(timeout=120)
    assert process.returncode == 0, found


def test_what_is_said_of_a_structure_is_what_each_head_says(story):
    kept = sorted((story.run.state / "predictions").glob("*/*.npz"))
    assert kept
    for path in kept:
        with np.load(path) as found:
            assert found["member_forces"].shape == (3, 3, 3)
            assert (found["member_forces"].std(axis=0) > 0).any()


def test_frames_have_the_forces_of_each_head(story):
    (tag,) = story.state.members
    files = sorted((story.directory / "trajectories").glob("trajectory_*.extxyz"))
    assert len(files) == 2
    for path in files:
        frame = ase.io.read(path, index=-1)
        each = [frame.arrays[f"forces_{tag}-head-{head}"] for head in range(3)]
        np.testing.assert_allclose(np.mean(each, axis=0), frame.get_forces(), atol=1e-4)


def test_results_are_one_model_whose_heads_are_the_ensemble(story):
    from aimspax_core.evaluation.calculator import CommitteeCalculator

    water = held_out()[0]
    water.calc = CommitteeCalculator(story.run.results)
    assert water.calc.get_property("forces_sd", water).shape == (3,)
    assert water.calc.get_property("uncertainty", water) > 0
    readme = (story.run.results / "README.txt").read_text(encoding="utf-8")
    assert "MultiHeadSO3LRCalculator" in readme
    assert "the mean of 3 heads" in readme


def test_evaluation_holds_their_spread_against_their_error(story):
    from aimspax_core.evaluation.evaluation import evaluate, open_models
    from aimspax_core.evaluation.frames import read_frames

    (tag,) = story.state.members
    models = open_models({tag: story.model})
    found = evaluate(read_frames(story.directory / "held.xyz"), models)
    assert found.mean is None
    assert len(found.trust["max_atomic_sd"].uncertainty) == 5
    with (story.run.results / "errors.csv").open(encoding="utf-8") as file:
        (told,) = csv.DictReader(file)
    forces = found.scores[tag].total.forces
    assert forces is not None
    assert 1000 * forces.mae == pytest.approx(float(told["test_mae_f_meV_per_A"]), rel=1e-3)
