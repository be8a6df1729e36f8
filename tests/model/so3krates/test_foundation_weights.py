"""The SO3LR that comes with its package: its own calculator and ours say the same of it."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule

from aimspax_core.model.committee import Committee
from aimspax_core.model.family import family
from aimspax_core.model.number_format import number_format
from aimspax_core.settings.families.so3krates import why_not_installed

if (why := why_not_installed()) is not None:
    pytest.skip(why, allow_module_level=True)

from so3krates_torch.calculator.so3 import TorchkratesCalculator

FILE = Path(
    str(importlib.resources.files("so3krates_torch") / "pretrained" / "so3lr" / "so3lr.model")
)


def test_its_own_calculator_and_our_committee_agree() -> None:
    own = family("so3lr")
    ours, theirs = own.load(FILE), own.load(FILE)
    for model in (ours, theirs):
        model.r_max_lr, model.dispersion_energy_cutoff_lr_damping = 12.0, 2.0
    committee = Committee(own.evaluator([ours], dtype="float64"))
    assert committee.evaluator.elements == (1, 6, 7, 8, 9, 15, 16, 17)
    structures = [molecule("C6H6"), molecule("H2O")]
    for atoms, found in zip(structures, committee.evaluate(structures), strict=True):
        with number_format("float64"):  # the calculator sets it for good
            atoms.calc = TorchkratesCalculator(
                models=theirs, r_max_lr=12.0, default_dtype="float64"
            )
            atoms.get_forces()
        assert found.energy == pytest.approx(atoms.get_potential_energy(), rel=1e-9)
        np.testing.assert_allclose(found.forces, atoms.get_forces(), atol=1e-8)
