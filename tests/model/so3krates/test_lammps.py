"""SO3LR written for LAMMPS: what LAMMPS computes with it is what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import molecule

from aimspax_core.errors import ModelError
from aimspax_core.settings.families.so3krates import why_not_installed
from aimspax_core.settings.model import ModelSettings

if (why := why_not_installed()) is not None:
    pytest.skip(why, allow_module_level=True)

from aimspax_core.evaluation.evaluation import open_models
from aimspax_core.model.family import family_of
from tests.model.mace.test_lammps import ELEMENTS, OneProcess


def test_ml_iap_has_the_models_energy_and_forces(tmp_path: Path) -> None:
    network = {"num_features": 8, "num_heads": 2, "degrees": [1, 2], "num_layers": 2}
    settings = ModelSettings.model_validate(
        {
            "GENERAL": {"name_exp": "t", "model_choice": "so3lr", "default_dtype": "float64"},
            "ARCHITECTURE": network | {"r_max": 3.0, "r_max_lr": 5.0},
        }
    )
    family = family_of(settings)
    energies = {1: -13.5, 6: -1029.25, 8: -2041.75}
    made = family.build(settings, ELEMENTS, family.constants(energies, 5.5), 7)
    file = tmp_path / "tiny.model"
    family.save(family.copy_with(made, dict(made.named_parameters()), settings), file)
    assert family.lammps is not None
    path = family.lammps(file, tmp_path, "mliap")
    assert path.name == "tiny.model-mliap_lammps.pt"
    pair: Any = torch.load(path, weights_only=False)
    assert pair.element_types == ["H", "C", "O"]
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, rng=np.random.default_rng(1))
    data = OneProcess(atoms, 2 * pair.rcutfac)
    pair.compute_forces(data)
    (opened,) = open_models({"tiny": file})
    (found,) = opened.committee.evaluate([atoms])
    assert float(data.energy) == pytest.approx(found.energy, abs=1e-8)
    np.testing.assert_allclose(data.forces, found.forces, atol=1e-8)
    with pytest.raises(ModelError, match="allowed: mliap"):
        family.lammps(file, tmp_path, "libtorch")
