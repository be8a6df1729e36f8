"""Lockstep against ASE's MACECalculator one trajectory after the other: time a trajectory-step.

Run as a script: `OMP_NUM_THREADS=1 python tests/benchmarks/bench_lockstep.py [--device cuda]`.
Both run on the same committee, device and threads, in turns, so that what else the machine does
hits both. Nothing is asserted.
"""

import argparse
import logging
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from mace import modules
from mace.calculators import MACECalculator

from aimspax_core.model.committee import Committee
from aimspax_core.sampling.dynamics import random_stream, resume, start
from aimspax_core.sampling.lockstep import LockstepCalculator, LockstepStats, run_lockstep
from aimspax_core.settings.project import MD

ASPIRIN = Path(__file__).parents[2] / "examples" / "aspirin" / "geometry.in"
SETTINGS = MD(stat_ensemble="nvt", temperature=300.0, timestep=0.5, friction=0.001)
Irreps = modules.models.o3.Irreps  # e3nn itself can be imported only after MACE

Job = Callable[[Calculator], None]


def member(seed: int, channels: int) -> torch.nn.Module:
    """Return a MACE model with random weights: max_L 1, r_max 5 Å, float32."""
    torch.manual_seed(seed)
    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    return modules.ScaleShiftMACE(
        r_max=5.0, num_bessel=8, num_polynomial_cutoff=5, max_ell=3,
        interaction_cls=block, interaction_cls_first=block, num_interactions=2, num_elements=3,
        hidden_irreps=Irreps(f"{channels}x0e+{channels}x1o"), MLP_irreps=Irreps("16x0e"),
        atomic_energies=np.zeros(3), avg_num_neighbors=14.0, atomic_numbers=[1, 6, 8],
        correlation=3, gate=torch.nn.functional.silu,
        # Weak forces, so that random weights do not tear the molecule apart.
        atomic_inter_scale=0.01, atomic_inter_shift=0.0,
    )  # fmt: skip


def trajectory(atoms: Atoms, index: int, steps: int) -> Job:
    """Return a job that runs Langevin dynamics with the calculator it is given."""

    def job(calculator: Calculator) -> None:
        state = start(atoms, SETTINGS, random_stream(0, index))
        dynamics, _ = resume(state, SETTINGS, calculator)
        dynamics.run(steps)

    return job


def in_lockstep(jobs: list[Job], committee: Committee) -> tuple[float, LockstepStats]:
    """Return wall time (s) and cost of all jobs side by side."""
    begin = time.perf_counter()
    run = run_lockstep([_typed(job) for job in jobs], committee.evaluate)
    return time.perf_counter() - begin, run.stats


def _typed(job: Job) -> Callable[[LockstepCalculator], None]:
    return job


def one_after_the_other(jobs: list[Job], calculator: MACECalculator) -> float:
    """Return wall time (s) of all jobs in turn."""
    begin = time.perf_counter()
    for job in jobs:
        calculator.reset()
        job(calculator)
    return time.perf_counter() - begin


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--geometry", type=Path, default=ASPIRIN)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    logging.disable(logging.WARNING)

    atoms = ase.io.read(options.geometry)
    assert isinstance(atoms, Atoms)
    models = [member(seed, options.channels) for seed in range(options.members)]
    committee = Committee(models, options.device)
    calculator = MACECalculator(models=models, device=options.device, default_dtype="float32")
    for _ in range(2):  # TorchScript settles in its first calls
        in_lockstep([trajectory(atoms, 0, 5)], committee)
        one_after_the_other([trajectory(atoms, 0, 5)], calculator)

    print(f"{options.members} members, {options.channels} channels, {len(atoms)} atoms, float32, ")
    print(f"{options.device}, {torch.get_num_threads()} thread(s); ms a trajectory-step")
    print(f"{'k':>4} {'ASE':>9} {'lockstep':>9} {'ratio':>7} {'outside evaluate':>17}")
    for k in (1, 4, 8, 16):
        jobs = [trajectory(atoms, index, options.steps) for index in range(k)]
        ase_s, lockstep_s, outside = [], [], []
        for _ in range(options.repeats):
            ase_s.append(one_after_the_other(jobs, calculator))
            seconds, stats = in_lockstep(jobs, committee)
            lockstep_s.append(seconds)
            outside.append(1 - stats.seconds / seconds)
        per_step = 1000 / (k * (options.steps + 1))
        slow, fast = (statistics.median(times) * per_step for times in (ase_s, lockstep_s))
        ratio = statistics.median(a / b for a, b in zip(ase_s, lockstep_s, strict=True))
        print(f"{k:>4} {slow:>9.2f} {fast:>9.2f} {ratio:>7.2f} {statistics.median(outside):>17.1%}")


if __name__ == "__main__":
    main()
