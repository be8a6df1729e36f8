"""How good are the models? Their errors on a trajectory that no campaign has seen.

    python examples/aspirin/held_out.py [RUN_DIRECTORY | FILE.model ...]

An independent GFN2-xTB Langevin trajectory of aspirin at 500 K, with its own seed: 2 ps to forget
the start geometry, then 100 frames, one each 25 fs, labelled by GFN2-xTB. The trajectory is kept in
a file, so that it is made only once (about a minute).
"""

import argparse
import logging
import os
import time
import warnings
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # more only hinder each other on so small a molecule

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from aimspax_core.labels import dataset
from aimspax_core.labels.store import StoredLabel, label_key
from aimspax_core.reference.registry import build_reference
from aimspax_core.reference.tblite.section import TbliteReference
from aimspax_core.sampling.dynamics import random_stream, resume, start
from aimspax_core.settings.geometries.files import read_geometries
from aimspax_core.settings.md import MD

HERE = Path(__file__).resolve().parent
RUNS = HERE.parents[1] / "runs"

SEED = 7_500_000
REFERENCE = TbliteReference(engine="tblite", method="GFN2-xTB")
# Ten times the campaign's friction: it thermalises within 0.1 ps and samples the same ensemble.
DYNAMICS = MD(stat_ensemble="NVT", temperature=500, timestep=1.0, friction=0.01, MD_seed=SEED)
EQUILIBRATION, SPACING, FRAMES = 2000, 25, 100


def trajectory() -> list[Atoms]:
    """Run the reference's own dynamics, and label its frames."""
    engine = build_reference(REFERENCE, HERE)
    (geometry,) = read_geometries([HERE / "geometry.in"])
    beginning = start(geometry, DYNAMICS, random_stream(SEED))
    dynamics, _ = resume(beginning, DYNAMICS, engine.calculator())
    dynamics.run(EQUILIBRATION)
    frames = []
    for _ in range(FRAMES):
        dynamics.run(SPACING)
        atoms = Atoms(dynamics.atoms.numbers, dynamics.atoms.positions)
        key = label_key(atoms, engine.identity())
        frames.append(dataset.labelled(StoredLabel(key, atoms, engine.label(atoms))))
    return frames


def predictions(model: Path, frames: list[Atoms]) -> tuple[NDArray[np.float64], ...]:
    """Return a model's energies (frames,) in eV and forces (frames, atoms, 3) in eV/Å."""
    from mace.calculators import MACECalculator  # late, since it warns about much on its way

    calculator = MACECalculator(model_paths=str(model), device="cpu", default_dtype="float32")
    energies, forces = [], []
    for frame in frames:
        atoms = Atoms(frame.numbers, frame.positions, calculator=calculator)
        energies.append(atoms.get_potential_energy())
        forces.append(atoms.get_forces())
    return np.array(energies), np.array(forces)


def row(name: str, energies: NDArray, forces: NDArray, frames: list[Atoms]) -> str:
    """Return a line of the table: force MAE and RMSE, energy MAE with and without its offset."""
    keys = dataset.DEFAULT_KEYS
    force_error = forces - np.array([frame.arrays[keys.forces] for frame in frames])
    energy_error = energies - np.array([frame.info[keys.energy] for frame in frames])
    energy_error /= len(frames[0])
    values = (
        np.abs(force_error).mean(),
        np.sqrt((force_error**2).mean()),
        np.abs(energy_error).mean(),
        np.abs(energy_error - energy_error.mean()).mean(),
    )
    return f"{name:<24}" + "".join(f"{1000 * value:>12.1f}" for value in values)


def models(given: list[Path]) -> list[Path]:
    """Return the model files that were named, or those in a run directory's results."""
    found = []
    for path in given or [RUNS / "aspirin"]:
        found += sorted((path / "results").glob("*.model")) if path.is_dir() else [path]
    return [path for path in found if path.is_file()]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, nargs="*", help="default: those of runs/aspirin")
    parser.add_argument("--frames", type=Path, default=RUNS / "aspirin-held-out.xyz")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")

    paths = models(options.models)
    if not paths:
        parser.error("no models: name model files, or a run directory whose campaign is finished")
    if not options.frames.exists():
        print(f"making {options.frames} ...", flush=True)
        began = time.perf_counter()
        dataset.write(options.frames, trajectory())
        print(f"made in {time.perf_counter() - began:.0f} s")
    frames = dataset.read(options.frames)

    print(f"{len(frames)} frames of a GFN2-xTB trajectory at {DYNAMICS.temperature:g} K")
    print(f"{'':<24}{'forces, meV/Å':>24}{'energy MAE, meV/atom':>24}")
    print(f"{'':<24}{'MAE':>12}{'RMSE':>12}{'all':>12}{'no offset':>12}")
    found = [predictions(path, frames) for path in paths]
    for path, (energies, forces) in zip(paths, found, strict=True):
        print(row(path.stem, energies, forces, frames))
    if len(found) > 1:
        energies, forces = (np.mean(values, axis=0) for values in zip(*found, strict=True))
        print(row("mean of them", energies, forces, frames))


if __name__ == "__main__":
    main()
