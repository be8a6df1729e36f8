"""Train the teacher of `bench_serial.py`, and run its MD.

Run as a script, with the two files to write and the size (JSON); `bench_serial.py` does. Frames of
aspirin at 700 K by GFN2-xTB, a MACE model that is trained on them, frames of its own MD at 500 K:
the model need not be good, for it is the truth.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from bench_serial import GEOMETRY, MD, model
from mace.tools import AtomicNumberTable
from plain_campaign import Member, Models, arguments, for_evaluation, graph
from tblite.ase import TBLite

from aimspax_core.model.mace.lean import Lean

SEED = 4_100_000
HOT_K = 700


def frames(
    calculator: Any, temperature: float, first: int, spacing: int, count: int
) -> list[Atoms]:
    """Return labelled structures of an MD of aspirin, after so many steps of 1 fs."""
    rng = np.random.default_rng([SEED, int(temperature)])
    atoms: Any = ase.io.read(GEOMETRY)
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=rng)
    atoms.calc = calculator
    dynamics = Langevin(
        atoms, units.fs, temperature_K=temperature, friction=0.02 / units.fs, rng=rng
    )
    dynamics.run(first)
    found = []
    for _ in range(count):
        dynamics.run(spacing)
        frame = Atoms(atoms.numbers, atoms.positions)
        frame.info["REF_energy"] = atoms.get_potential_energy()
        frame.arrays["REF_forces"] = atoms.get_forces()
        found.append(frame)
    return found


def trained(structures: list[Atoms], channels: int, epochs: int) -> Member:
    """Return a model that is trained on nine tenths of the structures."""
    settings = model(SEED, channels)
    args = arguments(settings)
    table = AtomicNumberTable(sorted({int(z) for z in structures[0].numbers}))
    data = [graph(atoms, table, float(args.r_max)) for atoms in structures]
    np.random.default_rng(SEED).shuffle(data)  # type: ignore[arg-type]
    cut = max(1, len(data) // 10)
    member = Member(args, table, SEED, data[cut:], data[:cut])
    member.network = Lean(member.model)  # it is only to be there
    member.converge(epochs, epochs, 0.0)
    return member


def write(path: Path, structures: list[Atoms]) -> None:
    """Write frames to a file that is complete if it is there."""
    part = path.with_suffix(".part")
    ase.io.write(part, structures, format="extxyz")
    part.replace(path)


def main() -> None:
    """Write both files."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float32)
    path, held_out, size = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    hot = path.with_suffix(".xyz")
    if not hot.exists():
        engine = TBLite(method="GFN2-xTB", verbosity=0)
        write(hot, frames(engine, HOT_K, 200, 15, size["teacher_frames"]))
    if not path.exists():
        structures: Any = ase.io.read(hot, ":")
        member = trained(structures, size["teacher_channels"], size["teacher_epochs"])
        print(f"teacher: {1000 * member.best_mae:.0f} meV/Å from GFN2-xTB in validation")
        torch.save(member.model, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)
    one = torch.load(path, map_location="cpu", weights_only=False)
    table = AtomicNumberTable([int(z) for z in one.atomic_numbers])
    calculator = Models(for_evaluation([one]), table, float(one.r_max))
    write(held_out, frames(calculator, MD["temperature"], 2000, 25, size["held_out"]))


if __name__ == "__main__":
    main()
