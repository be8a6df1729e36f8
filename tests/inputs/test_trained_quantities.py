"""Dipoles and Hirshfeld ratios that models are to be trained on, and labels cannot have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase.io
import pytest
from ase.build import bulk, molecule

from aimspax_core.errors import SettingsError
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.settings.families.so3krates import why_not_installed

if (why := why_not_installed()) is not None:
    pytest.skip(why, allow_module_level=True)

PROJECT = """
REFERENCE: {engine: tblite}
INITIAL_DATASET_GENERATION:
  {initial_sampling: aimd, ensemble_size: 2, n_points_per_sampling_step_idg: 3,
   max_initial_epochs: 4}
ACTIVE_LEARNING: {num_trajectories: 2, max_train_set_size: 9}
MD: {stat_ensemble: NVT}
"""
MODEL = """
GENERAL: {name_exp: test, model_choice: so3lr}
ARCHITECTURE: {r_max_lr: 12.0}
"""
DIPOLE = {"TRAINING.loss": "weighted_energy_forces_dipole"}
BOTH = {"TRAINING.loss": "weighted_energy_forces_dipole_hirshfeld"}
AIMS = {"REFERENCE": {"engine": "aims", "launch_str": "aims", "species_dir": "species"}}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "aimsPAX.yaml").write_text(PROJECT)
    (tmp_path / "mace.yaml").write_text(MODEL)
    ase.io.write(tmp_path / "geometry.in", molecule("H2O"))
    (tmp_path / "species").mkdir()
    for name in ("01_H", "08_O"):
        (tmp_path / "species" / f"{name}_default").write_text(f"  species {name[3:]}\n")
    (tmp_path / "control.in").write_text("xc pbe\noutput dipole\n")
    return tmp_path


@pytest.mark.parametrize(
    ("given", "key", "told"),
    [
        (BOTH, "TRAINING.hirshfeld_weight", "tblite: it gives dipoles, and no Hirshfeld"),
        (BOTH | AIMS, "TRAINING.hirshfeld_weight", "`output hirshfeld`, which control.in has not"),
        (DIPOLE | {"REFERENCE": {"engine": "so3lr"}}, "TRAINING.dipole_weight", "so3lr: it gives"),
        (DIPOLE | {"ARCHITECTURE.electrostatic_energy_bool": False}, "TRAINING.dipole_weight",
         "needs ARCHITECTURE.electrostatic_energy_bool"),
        (BOTH | {"ARCHITECTURE.dispersion_energy_bool": False}, "TRAINING.hirshfeld_weight",
         "needs ARCHITECTURE.dispersion_energy_bool"),
        ({"MISC.compute_dipole": True, "ARCHITECTURE.electrostatic_energy_bool": False},
         "MISC.compute_dipole", "only SO3LR"),
    ],
)  # fmt: skip
def test_it_is_told_before_anything_is_launched(
    directory: Path, given: dict[str, Any], key: str, told: str
) -> None:
    with pytest.raises(SettingsError) as error:
        Inputs.read(directory, given)
    assert any(key in line and told in line for line in str(error.value).splitlines())


@pytest.mark.parametrize("given", [DIPOLE, DIPOLE | AIMS, BOTH | {"TRAINING.hirshfeld_weight": 0}])
def test_what_labels_have_is_trained_on(directory: Path, given: dict[str, Any]) -> None:
    assert Inputs.read(directory, given).settings.model.beside == ("dipole",)


def test_only_molecules_have_dipoles(directory: Path) -> None:
    ase.io.write(directory / "geometry.in", bulk("Si", cubic=True))
    with pytest.raises(SettingsError, match="what is periodic has no dipole"):
        Inputs.read(directory, DIPOLE)


@pytest.mark.parametrize(
    "given", [DIPOLE | {"ARCHITECTURE": {}}, {"MISC.compute_dipole": True, "ARCHITECTURE": {}}]
)
def test_mace_and_so3krates_have_none(directory: Path, given: dict[str, Any]) -> None:
    for name in ("mace", "so3krates"):
        (directory / "mace.yaml").write_text(f"GENERAL: {{name_exp: t, model_choice: {name}}}")
        with pytest.raises(SettingsError, match=r"TRAINING\.loss|MISC\.compute_dipole"):
            Inputs.read(directory, given)
