"""Compare a finished campaign's model of silicon with the potential that labelled its data.

Run as `python equation_of_state.py RUN_DIRECTORY`. Lattice constant and bulk modulus follow from an
equation of state of the perfect crystal (ASE's, Birch-Murnaghan); forces and stress are compared on
frames of the exploring trajectories, of which the model has seen a few.
"""

import csv
import logging
import sys
import warnings
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.tersoff import Tersoff
from ase.eos import EquationOfState

LATTICE_CONSTANTS = np.linspace(5.35, 5.52, 9)


def converged_model(run: Path) -> Path:
    """Return the model that the campaign converged."""
    with (run / "results" / "errors.csv").open(encoding="utf-8") as file:
        members = [row["member"] for row in csv.DictReader(file) if row["state"] == "converged"]
    return run / "results" / f"{members[0]}.model"


def equation_of_state(calculator: Calculator) -> tuple[float, float]:
    """Return lattice constant (Å) and bulk modulus (GPa)."""
    volumes, energies = [], []
    for constant in LATTICE_CONSTANTS:
        atoms = bulk("Si", "diamond", a=constant) * (2, 2, 2)
        atoms.calc = calculator
        volumes.append(atoms.get_volume() / len(atoms))
        energies.append(atoms.get_potential_energy() / len(atoms))
    volume, _, modulus = EquationOfState(volumes, energies, eos="birchmurnaghan").fit()
    return float((8 * volume) ** (1 / 3)), float(modulus / units.GPa)


def misses(frames: list[Atoms], model: Calculator, reference: Calculator) -> tuple[float, float]:
    """Return the mean absolute errors of forces (meV/Å) and stress (GPa)."""
    forces, stress = [], []
    for frame in frames:
        found = []
        for calculator in (model, reference):
            atoms = Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=True)
            atoms.calc = calculator
            found.append((atoms.get_forces(), atoms.get_stress()))
        (forces_of_model, stress_of_model), (forces_of_reference, stress_of_reference) = found
        forces.append(np.abs(forces_of_model - forces_of_reference).mean())
        stress.append(np.abs(stress_of_model - stress_of_reference).mean())
    return 1000 * float(np.mean(forces)), float(np.mean(stress)) / units.GPa


def main() -> None:
    """Print the table."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    from mace.calculators import MACECalculator

    run = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    reference = Tersoff.from_lammps(run / "Si.tersoff")
    model = MACECalculator(str(converged_model(run)), device="cpu", default_dtype="float64")
    print(f"{'':12}{'a (Å)':>9}{'B (GPa)':>9}")
    for name, calculator in (("reference", reference), ("model", model)):
        constant, modulus = equation_of_state(calculator)
        print(f"{name:12}{constant:9.3f}{modulus:9.1f}")
    frames = []
    for file in sorted((run / "trajectories").glob("trajectory_*.extxyz")):
        frames += ase.io.read(file, index=":")
    forces, stress = misses(frames, model, reference)
    print(f"{len(frames)} frames: force MAE {forces:.1f} meV/Å, stress MAE {stress:.2f} GPa")


if __name__ == "__main__":
    main()
