"""Scripts that run MD with models of MACE, written beside them; see `evaluation.export`.

In each, `$models` are the files in quotes that drive MD, `$first` is one of them, `$ensemble` are
those whose spread is the uncertainty, `$start` is a structure, `$device` where to compute, and
`$kelvin` the temperature.
"""

from __future__ import annotations

ASE = '''"""MD with the models of this folder, by ASE and MACE alone.

Energy and forces are the mean of `models`; the spread, which costs as much again, is of `ensemble`.
"""

from pathlib import Path

import ase.io
from ase import units
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from mace.calculators import MACECalculator

here = Path(__file__).resolve().parent
models = [str(here / name) for name in [$models]]
ensemble = [str(here / name) for name in [$ensemble]]
atoms = ase.io.read(here / "$start")
atoms.calc = MACECalculator(model_paths=models, device="$device", default_dtype="float64")
several = MACECalculator(model_paths=ensemble, device="$device", default_dtype="float64")

MaxwellBoltzmannDistribution(atoms, temperature_K=$kelvin)
dynamics = Langevin(
    atoms, timestep=0.5 * units.fs, temperature_K=$kelvin, friction=0.01 / units.fs
)


def show():
    line = f"{atoms.get_potential_energy():.4f} eV"
    if len(ensemble) > 1:
        several.calculate(atoms)
        spread = several.results["forces_comm"].std(axis=0).max()
        line += f", largest spread of a force {spread:.3f} eV/A"
    print(line)


dynamics.attach(show, interval=10)
dynamics.run(100)
'''

TORCHSIM = '''"""MD of many copies at once, by TorchSim (pip install torch-sim-atomistic) and MACE.

TorchSim computes one model; the spread of several needs one run of each on the same frames.
"""

from pathlib import Path

import ase.io
import torch
import torch_sim as ts
from torch_sim.models.mace import MaceModel

here = Path(__file__).resolve().parent
atoms = ase.io.read(here / "$start")
loaded = torch.load(here / "$first", map_location="$device", weights_only=False)
model = MaceModel(model=loaded, device=torch.device("$device"), dtype=torch.float64)
# TorchSim 0.3, the newest for Python 3.11, has functions where later releases have names.
integrators = getattr(ts, "Integrator", ts)
final = ts.integrate(
    system=[atoms] * 8,
    model=model,
    integrator=integrators.nvt_langevin,
    n_steps=100,
    temperature=$kelvin,
    timestep=0.0005,
)
print(final.energy)
'''

SCRIPTS = {"ase_md.py": ASE, "torchsim_md.py": TORCHSIM}
"""By the name of their file."""
