"""A script that runs MD with So3krates or SO3LR models; see `model.mace.scripts` for its words."""

from __future__ import annotations

ASE = '''"""MD with the models of this folder, by ASE and so3krates-torch alone.

Energy and forces are the mean of `models`; the spread, which costs as much again, is of `ensemble`.
Of a model with several heads both are of its heads.
"""

from pathlib import Path

import ase.io
import torch
from ase import units
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from so3krates_torch.calculator.so3 import MultiHeadSO3LRCalculator, TorchkratesCalculator

here = Path(__file__).resolve().parent
models = [here / name for name in [$models]]
ensemble = [here / name for name in [$ensemble]]


def calculator(paths):
    loaded = [torch.load(path, map_location="$device", weights_only=False) for path in paths]
    kind, far = type(loaded[0]).__name__, getattr(loaded[0], "r_max_lr", None)
    options = {"r_max_lr": far, "device": "$device", "default_dtype": "float64"}
    if kind == "MultiHeadSO3LR":
        return MultiHeadSO3LRCalculator(model=loaded, **options)
    return TorchkratesCalculator(models=loaded, model_type=kind.lower(), **options)


atoms = ase.io.read(here / "$start")
# The calculator takes the charge (e) from info["charge"], and S, not 2S + 1, from this:
atoms.info["total_spin"] = (atoms.info.get("spin", 1) - 1) / 2
atoms.calc = calculator(models)
several = calculator(ensemble)

MaxwellBoltzmannDistribution(atoms, temperature_K=$kelvin)
dynamics = Langevin(
    atoms, timestep=0.5 * units.fs, temperature_K=$kelvin, friction=0.01 / units.fs
)


def show():
    line = f"{atoms.get_potential_energy():.4f} eV"
    if len(ensemble) > 1 or isinstance(several, MultiHeadSO3LRCalculator):
        several.calculate(atoms)
        spread = several.results["forces_comm"].std(axis=0).max()
        line += f", largest spread of a force {spread:.3f} eV/A"
    print(line)


dynamics.attach(show, interval=10)
dynamics.run(100)
'''

SCRIPTS = {"ase_md.py": ASE}
"""By the name of its file."""
