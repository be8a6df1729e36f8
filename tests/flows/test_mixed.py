"""A real campaign of a molecule, a solid and another molecule, with everything that can be kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from aimspax_core.campaign.journal import entries, load
from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.run_directory import RunDir
from flows.server import Server

PROJECT = """
REFERENCE: {engine: ase, calculator: ase.calculators.emt.EMT}
INITIAL_DATASET_GENERATION:
  initial_sampling: aimd
  distinct_model_sets: False
  n_points_per_sampling_step_idg: 4
  skip_step_initial: 5
  ensemble_size: 2
  intermediate_epochs_idg: 2
  max_initial_epochs: 4
  valid_ratio: 0.25
  analysis: True
  save_trajectories: True
  save_trajectories_interval: 5
ACTIVE_LEARNING:
  num_trajectories: 3
  ensemble_size: 2
  skip_step_mlff: 4
  c_x: -0.3
  epochs_per_worker: 2
  max_MD_steps: 36
  max_convergence_epochs: 4
  replay_strategy: random_subset
  train_subset_size: 8
  analysis: True
  analysis_skip: 6
  save_trajectories_interval: 2
MD:
  0: {stat_ensemble: NVT, temperature: 300, timestep: 0.5, friction: 0.01}
  1: {stat_ensemble: NPT, barostat: MTK, temperature: 300, timestep: 2, pressure: 1e9, tdamp: 50}
  2: {stat_ensemble: NVE, temperature: 200, timestep: 0.5}
MISC:
  path_to_geometry: {0: methane.xyz, 1: copper.xyz, 2: co.xyz}
  energy_key: energy
  output_dir: out
GATE: {max_force: 80}
CLUSTER: {type: local, max_workers: 1, ml: {max_workers: 1}}
"""
MODEL = """
GENERAL: {name_exp: mixed, seed: 1, compute_stress: True}
ARCHITECTURE:
  {r_max: 3.5, num_channels: 4, max_L: 0, max_ell: 1, correlation: 1, num_interactions: 1,
   radial_MLP: [8]}
TRAINING: {batch_size: 2, valid_batch_size: 2, loss: stress, forces_weight: 10}
MISC: {error_table: PerAtomRMSEstressvirials, keep_checkpoints: True}
"""
AIMSPAX = [sys.executable, "-c", "from flows.commands.app import main; main()"]
GEOMETRIES = ("CH4", "Cu4", "CO")

pytestmark = pytest.mark.slow


@dataclass
class Story:
    """What happened when the campaign was run, interrupted and run again."""

    directory: Path
    outputs: list[str] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)

    @property
    def run(self) -> RunDir:
        return Inputs.read(self.directory).run

    @property
    def state(self) -> CampaignState:
        state = load(self.run)[1]
        assert state is not None
        return state


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, prefect_server: Server) -> Story:
    told = Story(tmp_path_factory.mktemp("mixed") / "three")
    told.directory.mkdir()
    (told.directory / "aimsPAX.yaml").write_text(PROJECT)
    (told.directory / "mace.yaml").write_text(MODEL)
    copper = bulk("Cu", "fcc", a=3.61, cubic=True)
    copper.rattle(0.02, seed=1)
    ase.io.write(told.directory / "methane.xyz", molecule("CH4"))
    ase.io.write(told.directory / "copper.xyz", copper)
    ase.io.write(told.directory / "co.xyz", molecule("CO"))
    process = start(told.directory)
    wait_for(lambda: any(p.analysis for p in points(told)), process)
    process.send_signal(signal.SIGINT)
    finish(told, process)
    finish(told, start(told.directory))
    return told


def start(directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*AIMSPAX, "run", str(directory)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ,
    )  # fmt: skip


def finish(told: Story, process: subprocess.Popen[str]) -> None:
    output, _ = process.communicate(timeout=240)
    told.outputs.append(output)
    told.codes.append(process.returncode)


def points(told: Story) -> list:
    found = load(told.run)[1] if told.run.journal.exists() else None
    return list(found.points.values()) if found else []


def wait_for(done, process: subprocess.Popen[str]) -> None:
    for _ in range(600):
        if process.poll() is not None:
            pytest.fail(f"it ended too early:\n{process.stdout.read() if process.stdout else ''}")
        if done():
            return
        time.sleep(0.2)
    process.kill()
    pytest.fail(f"waited in vain:\n{process.communicate()[0]}")


def reference(atoms: Atoms) -> np.ndarray:
    bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, calculator=EMT())
    return bare.get_forces()


def frames(folder: Path, pattern: str) -> list[Atoms]:
    (file, *_) = sorted(folder.glob(pattern))
    return ase.io.read(file, index=":")


def test_it_is_interrupted_and_comes_to_its_end(story: Story) -> None:
    assert story.codes == [130, 0], "\n".join(story.outputs)
    assert story.state.phase is Phase.FINISHED
    assert not (story.directory / "aimspax").exists()  # all in output_dir


def test_every_geometry_is_sampled_and_explored(story: Story) -> None:
    labelled = [p for p in story.state.points.values() if not p.analysis]
    assert {p.geometry for p in labelled if p.sampling_step} == {0, 1, 2}
    assert {t.geometry for t in story.state.trajectories} == {0, 1, 2}
    assert all(t.step > 0 for t in story.state.trajectories)


def test_members_share_their_initial_points(story: Story) -> None:
    sets = [set(m.training + m.validation) for m in story.state.members.values()]
    assert sets[0] == sets[1]


def test_only_the_solid_has_stress_in_the_datasets(story: Story) -> None:
    found = frames(story.run.results, "train_set_*.xyz")
    assert {a.get_chemical_formula() for a in found} == set(GEOMETRIES)
    for atoms in found:
        solid = atoms.get_chemical_formula() == "Cu4"
        assert ("REF_stress" in atoms.info) == solid
        assert bool(atoms.pbc.all()) == solid


def test_energies_have_the_name_that_the_settings_give(story: Story) -> None:
    for atoms in frames(story.run.results, "train_set_*.xyz"):
        assert np.isfinite(atoms.get_potential_energy())  # ASE reads `energy` as a result
        assert "REF_energy" not in atoms.info


def test_labels_are_the_references_own(story: Story) -> None:
    for atoms in frames(story.run.results, "valid_set_*.xyz"):
        np.testing.assert_allclose(atoms.arrays["REF_forces"], reference(atoms), atol=1e-6)


def test_stress_is_measured_and_shown(story: Story) -> None:
    table = (story.run.results / "errors.csv").read_text()
    assert "stress" in table.splitlines()[0] and "rmse" in table.splitlines()[0].lower()
    found = [
        errors.rmse_stress
        for entry in entries(story.run.journal)
        if entry.event.kind in ("training-finished", "convergence-advanced")
        for errors in entry.event.errors
    ]
    assert any(rmse is not None and rmse > 0 for rmse in found)


def test_labels_for_analysis_are_in_no_dataset(story: Story) -> None:
    state = story.state
    looked_at = {p.key for p in state.points.values() if p.analysis}
    assert looked_at
    assert not looked_at & {key for tag in state.members for s in state.dataset(tag) for key in s}


def test_analysis_compares_predictions_with_the_reference(story: Story) -> None:
    seen = 0
    with np.load(story.run.analysis / "analysis_checks.npz", allow_pickle=False) as checks:
        for index in range(3):
            if f"{index}/prediction" not in checks:
                continue
            error = checks[f"{index}/true_forces"] - checks[f"{index}/prediction"]
            per_atom = np.sqrt((error**2).mean(axis=2))
            np.testing.assert_allclose(checks[f"{index}/atom_wise_error"], per_atom, atol=1e-10)
            assert (checks[f"{index}/current_md_step"] % 6 == 0).all()
            seen += len(error)
    assert seen


def test_every_check_of_every_trajectory_is_in_the_analysis(story: Story) -> None:
    checked = [
        (check.trajectory, check.step)
        for entry in entries(story.run.journal)
        if entry.event.kind == "segment-finished"
        for check in entry.event.all_checks()
    ]
    with (
        np.load(story.run.analysis / "t_intervals.npz", allow_pickle=False) as steps,
        np.load(story.run.analysis / "thresholds.npz", allow_pickle=False) as thresholds,
    ):
        told = [(int(i), int(step)) for i in steps for step in steps[i]]
        assert sorted(told) == sorted(checked)
        assert all(len(steps[i]) == len(thresholds[i]) for i in steps)


@pytest.mark.parametrize("name", ["initial_losses", "al_losses"])
def test_losses_of_both_phases_are_in_the_analysis(story: Story, name: str) -> None:
    with np.load(story.run.analysis / f"{name}.npz", allow_pickle=False) as losses:
        assert losses["ensemble_losses"].shape == (len(losses["epoch"]), 2)
        assert np.isfinite(losses["avg_losses"]).all() and len(losses["epoch"])


def test_trajectories_are_kept_without_a_gap_across_the_restart(story: Story) -> None:
    for trajectory in story.state.trajectories:
        if trajectory.rollbacks:
            continue
        found = ase.io.read(
            story.run.trajectories / f"trajectory_{trajectory.index}.extxyz", index=":"
        )
        steps = [int(atoms.info["step"]) for atoms in found]
        assert steps == list(range(steps[0], trajectory.step + 1, 2))
        assert found[0].get_chemical_formula() == GEOMETRIES[trajectory.geometry]


def test_only_the_cell_of_the_npt_trajectory_moves(story: Story) -> None:
    solid = ase.io.read(story.run.trajectories / "trajectory_1.extxyz", index=":")
    assert len({round(atoms.get_volume(), 6) for atoms in solid}) > 1
    molecule_ = ase.io.read(story.run.trajectories / "trajectory_0.extxyz", index=":")
    assert not any(atoms.pbc.any() for atoms in molecule_)


def test_sampling_trajectories_are_kept(story: Story) -> None:
    for geometry in range(3):
        file = story.run.trajectories / f"initial_{geometry}.extxyz"
        assert len(ase.io.read(file, index=":")) >= 4


def test_all_checkpoints_are_kept(story: Story) -> None:
    names = {
        entry.event.checkpoint
        for entry in entries(story.run.journal)
        if entry.event.kind == "training-finished"
    }
    for tag in story.state.members:
        there = {path.stem for path in story.run.checkpoint(tag, "any").parent.glob("*.pt")}
        assert names <= there


def test_logs_begin_with_the_settings_in_force(story: Story) -> None:
    for name in ("initial_dataset", "active_learning"):
        text = (story.run.logs / f"{name}.log").read_text()
        assert "analysis_skip: 6" in text and "num_channels: 4" in text
