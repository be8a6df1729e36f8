"""A run directory of water, small enough that every task takes a moment."""

from __future__ import annotations

from pathlib import Path

import ase.io
import pytest
from ase.build import molecule

from aimspax_core.run_directory import RunDir
from aimspax_core.settings.load import load
from aimspax_core.settings.settings import Settings

PROJECT = """
REFERENCE: {engine: tblite, method: GFN1-xTB}
INITIAL_DATASET_GENERATION:
  initial_sampling: aimd
  n_points_per_sampling_step_idg: 3
  skip_step_initial: 5
  ensemble_size: 2
  intermediate_epochs_idg: 1
  max_initial_epochs: 4
  max_convergence_epochs: 3
ACTIVE_LEARNING:
  num_trajectories: 3
  skip_step_mlff: 4
  epochs_per_worker: 2
  max_train_set_size: 16
  max_convergence_epochs: 3
MD: {stat_ensemble: NVT, temperature: 300, timestep: 0.5, friction: 0.01}
CLUSTER: {type: local, max_workers: 1}
"""
MODEL = """
GENERAL: {name_exp: water, seed: 1, default_dtype: float64}
ARCHITECTURE:
  {r_max: 3.0, num_channels: 4, max_L: 0, max_ell: 1, correlation: 1, num_interactions: 1,
   num_radial_basis: 3, radial_MLP: [4]}
TRAINING: {batch_size: 2, valid_batch_size: 2}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The settings of the run directory."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "aimsPAX.yaml").write_text(PROJECT, encoding="utf-8")
    (folder / "mace.yaml").write_text(MODEL, encoding="utf-8")
    ase.io.write(folder / "geometry.in", molecule("H2O"))
    return load(folder)


@pytest.fixture
def run(settings: Settings) -> RunDir:
    """Its layout."""
    return RunDir.of(settings)
