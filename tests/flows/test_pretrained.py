"""Active learning alone, from somebody's models and datasets, as a user of aims-PAX types it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from aimspax_core.campaign.journal import load
from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.reading.which_files import MODEL, PROJECT
from flows.server import Server

SETTINGS = """
ACTIVE_LEARNING:
  use_teacher_reference: True
  teacher_reference_settings: {model_type: mace-mp, mace_model: teacher.model}
  use_foundational: True
  foundational_model_settings: {mace_model: teacher.model}
  initial_train_dataset: given/train.xyz
  initial_valid_dataset: {mine-4: given/valid-4.xyz, mine-42: given/valid-42.xyz}
  num_trajectories: 2
  skip_step_mlff: 4
  c_x: -0.3
  epochs_per_worker: 1
  max_MD_steps: 24
  max_convergence_epochs: 3
  converge_best: False
  save_trajectories: False
MD: {stat_ensemble: NVT, thermostat: Langevin, temperature: 300, timestep: 0.5, friction: 0.01}
GATE: {max_force: 1000, min_distance: 0}
MISC: {path_to_geometry: geometry.xyz}
CLUSTER: {type: local, max_workers: 1, ml: {max_workers: 1}}
"""
NETWORK = """
GENERAL: {name_exp: mine, model_dir: ./pretrained}
ARCHITECTURE:
  {r_max: 3.0, num_channels: 4, max_L: 0, max_ell: 1, correlation: 1, num_interactions: 1,
   radial_MLP: [8]}
TRAINING: {batch_size: 2, valid_batch_size: 2}
"""
TAGS = ("mine-4", "mine-42")
FLAGS = ("--mace_settings", "my_mace.yaml", "--aimsPAX-settings", "my_aimspax.yaml")

pytestmark = pytest.mark.slow


@dataclass
class Story:
    """What happened in the directory."""

    directory: Path
    before: dict[str, str] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)

    def al(self, *more: str) -> None:
        """Type the original's command in the directory."""
        done = subprocess.run(
            [sys.executable, "-c", "from flows.commands.original import al; al()", *FLAGS, *more],
            cwd=self.directory, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        self.outputs.append(done.stdout + done.stderr)
        self.codes.append(done.returncode)

    @property
    def run(self) -> RunDir:
        overrides = {PROJECT: "my_aimspax.yaml", MODEL: "my_mace.yaml"}
        return Inputs.read(self.directory, overrides, "active").run

    @property
    def state(self) -> CampaignState:
        state = load(self.run)[1]
        assert state is not None
        return state


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.model")}


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, prefect_server: Server) -> Story:
    told = Story(tmp_path_factory.mktemp("pretrained"))
    (told.directory / "my_aimspax.yaml").write_text(SETTINGS)
    (told.directory / "my_mace.yaml").write_text(NETWORK)
    ase.io.write(told.directory / "geometry.xyz", molecule("H2O"))
    make_files(told.directory)
    told.before = digests(told.directory / "pretrained")
    told.al()
    told.al()
    told.al("--fresh")
    return told


def make_files(directory: Path) -> None:
    """Write a teacher, two models and their datasets, labelled by the teacher."""
    from mace.calculators import MACECalculator
    from ruamel.yaml import YAML

    from aimspax_core.model.mace.build import Constants, build
    from aimspax_core.model.mace.model_files import save_model
    from aimspax_core.settings.model import ModelSettings

    settings = ModelSettings.model_validate(YAML(typ="safe").load(NETWORK))
    constants = Constants({1: -3.0, 8: -9.0}, 2.0, 0.5, 0.0)
    for name, seed in (("teacher", 1), ("pretrained/mine-4", 2), ("pretrained/mine-42", 3)):
        save_model(build(settings, [1, 8], constants, seed), directory / f"{name}.model")
    calculator = MACECalculator(
        model_paths=str(directory / "teacher.model"), device="cpu", default_dtype="float64"
    )
    (directory / "given").mkdir()
    for seed, name in enumerate(("train", "valid-4", "valid-42")):
        frames = [labelled(calculator, 10 * seed + n) for n in range(4)]
        ase.io.write(directory / "given" / f"{name}.xyz", frames, format="extxyz")


def labelled(calculator, seed: int) -> Atoms:
    atoms = molecule("H2O")
    atoms.rattle(0.05, seed=seed)
    atoms.calc = calculator
    atoms.info["REF_energy"] = atoms.get_potential_energy()
    atoms.arrays["REF_forces"] = atoms.get_forces()
    atoms.calc = None
    return atoms


def test_it_comes_to_its_end_without_an_initial_dataset(story: Story) -> None:
    assert story.codes == [0, 0, 0], "\n".join(story.outputs)
    assert story.state.phase is Phase.FINISHED and story.state.adopted
    assert not any(p.sampling_step for p in story.state.points.values())


def test_the_second_time_it_says_that_it_is_finished(story: Story) -> None:
    assert "This campaign is finished" in story.outputs[1]


def test_members_are_the_models_that_were_there(story: Story) -> None:
    assert tuple(story.state.members) == TAGS
    assert story.state.rules.tags == TAGS


def test_the_models_that_were_there_stay_as_they_are(story: Story) -> None:
    assert digests(story.directory / "pretrained") == story.before
    assert digests(story.run.results) != story.before


def test_given_points_come_first_in_the_final_sets(story: Story) -> None:
    given = ase.io.read(story.directory / "given" / "train.xyz", index=":")
    final = ase.io.read(story.run.results / "train_set_mine-42.xyz", index=":")
    assert len(final) > len(given)
    for mine, theirs in zip(final, given, strict=False):
        np.testing.assert_allclose(mine.positions, theirs.positions, atol=1e-7)
        assert mine.info["REF_energy"] == pytest.approx(theirs.info["REF_energy"], abs=1e-6)


def test_new_points_have_the_teachers_labels(story: Story) -> None:
    from mace.calculators import MACECalculator

    teacher = MACECalculator(
        model_paths=str(story.directory / "teacher.model"), device="cpu", default_dtype="float64"
    )
    for atoms in ase.io.read(story.run.results / "train_set_mine-4.xyz", index="4:"):
        reference = atoms.arrays["REF_forces"]
        atoms.calc = teacher
        np.testing.assert_allclose(atoms.get_forces(), reference, atol=1e-5)


def test_no_trajectory_is_kept_if_that_is_not_wanted(story: Story) -> None:
    assert not story.run.trajectories.exists()


def test_fresh_begins_again_from_the_same_models(story: Story) -> None:
    (aside,) = story.directory.glob("earlier-*")
    assert (aside / "aimspax" / "journal.jsonl").exists() and (aside / "results").exists()
    assert "taken over" in story.outputs[2]


def test_a_wrong_architecture_is_told_and_can_be_mended(
    tmp_path: Path, prefect_server: Server
) -> None:
    told = Story(tmp_path)
    (tmp_path / "my_aimspax.yaml").write_text(SETTINGS)
    (tmp_path / "my_mace.yaml").write_text(NETWORK.replace("num_channels: 4", "num_channels: 8"))
    ase.io.write(tmp_path / "geometry.xyz", molecule("H2O"))
    make_files(tmp_path)
    told.al("--set", "ACTIVE_LEARNING.max_MD_steps=4")
    assert told.codes == [1]
    assert "ARCHITECTURE.num_channels is 4 in the file, 8 in the settings" in told.outputs[0]
    (tmp_path / "my_mace.yaml").write_text(NETWORK)
    told.al("--set", "ACTIVE_LEARNING.max_MD_steps=4")
    assert told.codes == [1, 0], told.outputs[1]
