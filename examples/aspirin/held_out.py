"""Make a held-out set: frames of GFN2-xTB trajectories of aspirin that no campaign has seen.

    python examples/aspirin/held_out.py FILE [--seed N] [--geometry FILE]

Four Langevin trajectories at 500 K, each with a seed of its own: 1 ps to forget the start geometry,
then 25 frames, one each 50 fs, labelled by GFN2-xTB. `held_out.xyz` was made so, with the seed that
is the default; another seed makes an independent set. It takes about two minutes of a core. Another
geometry makes one of that molecule.
"""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # more only hinder each other on so small a molecule

from ase import Atoms

from aimspax_core.labels import dataset
from aimspax_core.labels.store import StoredLabel, label_key
from aimspax_core.reference.registry import build_reference
from aimspax_core.reference.tblite.section import TbliteReference
from aimspax_core.sampling.dynamics import random_stream, resume, start
from aimspax_core.settings.geometries.files import read_geometries
from aimspax_core.settings.md import MD

HERE = Path(__file__).resolve().parent

SEED = 7_500_000
REFERENCE = TbliteReference(engine="tblite", method="GFN2-xTB")
TRAJECTORIES, EQUILIBRATION, SPACING, FRAMES = 4, 1000, 50, 25


def trajectory(file: Path, seed: int) -> Iterator[Atoms]:
    """Run the reference's own dynamics of a geometry; yield its frames with their labels."""
    md = MD(stat_ensemble="NVT", temperature=500, timestep=1.0, friction=0.01, MD_seed=seed)
    engine = build_reference(REFERENCE, HERE)
    (geometry,) = read_geometries([file])
    dynamics, _ = resume(start(geometry, md, random_stream(seed)), md, engine.calculator())
    dynamics.run(EQUILIBRATION)
    for _ in range(FRAMES):
        dynamics.run(SPACING)
        atoms = Atoms(dynamics.atoms.numbers, dynamics.atoms.positions)
        key = label_key(atoms, engine.identity())
        yield dataset.labelled(StoredLabel(key, atoms, engine.label(atoms)))


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--geometry", type=Path, default=HERE / "geometry.in")
    options = parser.parse_args()
    frames: list[Atoms] = []
    for number in range(TRAJECTORIES):
        frames += trajectory(options.geometry, options.seed + number)
        print(f"{len(frames)} of {TRAJECTORIES * FRAMES} frames", flush=True)
    dataset.write(options.file, frames)


if __name__ == "__main__":
    main()
