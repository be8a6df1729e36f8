"""A run directory whose settings the tests of keys change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aimspax_core.settings.load import load
from aimspax_core.settings.settings import Settings

IDG, AL = "INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"
PROJECT = """
REFERENCE: {engine: ase, calculator: ase.calculators.emt.EMT}
INITIAL_DATASET_GENERATION:
  {n_points_per_sampling_step_idg: 5, ensemble_size: 2, max_initial_epochs: 1000,
   initial_sampling: aimd}
ACTIVE_LEARNING: {num_trajectories: 3, max_MD_steps: 100000}
MD: {stat_ensemble: nvt, friction: 0.01}
"""
MODEL = """
GENERAL: {name_exp: water, default_dtype: float64}
ARCHITECTURE:
  {r_max: 3.0, num_channels: 4, max_L: 0, max_ell: 1, correlation: 1, num_interactions: 1,
   num_radial_basis: 3, radial_MLP: [4]}
TRAINING: {batch_size: 2, valid_batch_size: 2}
"""


def with_values(folder: Path, *sections: dict[str, dict[str, Any]]) -> Settings:
    """The settings with other values in some sections."""
    return load(
        folder,
        {f"{name}.{k}": v for part in sections for name, c in part.items() for k, v in c.items()},
    )


class Asked(Exception):
    """A foundation model was asked for."""
