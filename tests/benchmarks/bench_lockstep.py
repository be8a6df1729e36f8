"""Lockstep against ASE's MACECalculator one trajectory after the other: time a trajectory-step.

Run as a script: `OMP_NUM_THREADS=1 python tests/benchmarks/bench_lockstep.py [--device cuda]`.
Two systems: aspirin (21 atoms, NVT) and silicon (64 atoms, periodic, NPT: forces and stress).
Both run on the same committee, device and threads, in turns, so that what else the machine does
hits both. ASE's calculator computes with MACE itself; lockstep with what `MISC.kernel` says
(`--kernel mace`: with MACE, too, which leaves the gain of the batches alone). Nothing is asserted.
"""

import argparse
import logging
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from mace import modules
from mace.calculators import MACECalculator

from aimspax_core.model.committee import Committee
from aimspax_core.model.mace.kernel import evaluator
from aimspax_core.sampling.dynamics import needs_stress, random_stream, resume, start
from aimspax_core.sampling.lockstep import LockstepCalculator, LockstepStats, run_lockstep
from aimspax_core.settings.md import MD

ASPIRIN = Path(__file__).parents[2] / "examples" / "aspirin" / "geometry.in"
MOLECULE = MD(stat_ensemble="nvt", temperature=300.0, timestep=0.5, friction=0.001)
SOLID = MD(stat_ensemble="npt", barostat="mtk", temperature=300.0, timestep=0.5)
Irreps = modules.models.o3.Irreps  # e3nn itself can be imported only after MACE

Job = Callable[[Calculator], None]


def systems() -> dict[str, tuple[Atoms, MD]]:
    """Return what is moved, and how."""
    aspirin = ase.io.read(ASPIRIN)
    assert isinstance(aspirin, Atoms)
    silicon = bulk("Si", "diamond", a=5.432, cubic=True) * (2, 2, 2)
    silicon.rattle(0.02, seed=1)
    return {"aspirin": (aspirin, MOLECULE), "silicon": (silicon, SOLID)}


def member(seed: int, channels: int, elements: list[int]) -> torch.nn.Module:
    """Return a MACE model with random weights: max_L 1, r_max 5 Å, float32."""
    torch.manual_seed(seed)
    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    return modules.ScaleShiftMACE(
        r_max=5.0, num_bessel=8, num_polynomial_cutoff=5, max_ell=3,
        interaction_cls=block, interaction_cls_first=block, num_interactions=2,
        num_elements=len(elements),
        hidden_irreps=Irreps(f"{channels}x0e+{channels}x1o"), MLP_irreps=Irreps("16x0e"),
        atomic_energies=np.zeros(len(elements)), avg_num_neighbors=14.0, atomic_numbers=elements,
        correlation=3, gate=torch.nn.functional.silu,
        # Weak forces, so that random weights do not tear the molecule apart.
        atomic_inter_scale=0.01, atomic_inter_shift=0.0,
    )  # fmt: skip


def trajectory(atoms: Atoms, settings: MD, index: int, steps: int) -> Job:
    """Return a job that runs dynamics with the calculator it is given."""

    def job(calculator: Calculator) -> None:
        state = start(atoms, settings, random_stream(0, index))
        dynamics, _ = resume(state, settings, calculator)
        dynamics.run(steps)

    return job


def in_lockstep(jobs: list[Job], committee: Committee, stress: bool) -> tuple[float, LockstepStats]:
    """Return wall time (s) and cost of all jobs side by side."""
    begin = time.perf_counter()
    run = run_lockstep([_typed(job) for job in jobs], partial(committee.evaluate, stress=stress))
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


def table(name: str, atoms: Atoms, settings: MD, options: argparse.Namespace) -> None:
    """Print the times of one system."""
    stress = needs_stress(settings)
    elements = sorted({int(z) for z in atoms.numbers})
    models = [member(seed, options.channels, elements) for seed in range(options.members)]
    committee = Committee(evaluator(models, options.device, kernel=options.kernel))
    calculator = MACECalculator(models=models, device=options.device, default_dtype="float32")
    for _ in range(2):  # TorchScript settles in its first calls
        in_lockstep([trajectory(atoms, settings, 0, 5)], committee, stress)
        one_after_the_other([trajectory(atoms, settings, 0, 5)], calculator)

    kind = settings.stat_ensemble.upper()
    print(f"{name}: {len(atoms)} atoms, {kind}; {options.members} members")
    print(
        f"{options.channels} channels, float32; {options.device}, {torch.get_num_threads()} threads"
    )
    print("ms a trajectory-step")
    print(f"{'k':>4} {'ASE':>9} {'lockstep':>9} {'ratio':>7} {'outside evaluate':>17}")
    for k in (1, 4, 8, 16):
        jobs = [trajectory(atoms, settings, index, options.steps) for index in range(k)]
        ase_s, lockstep_s, outside = [], [], []
        for _ in range(options.repeats):
            ase_s.append(one_after_the_other(jobs, calculator))
            seconds, stats = in_lockstep(jobs, committee, stress)
            lockstep_s.append(seconds)
            outside.append(1 - stats.seconds / seconds)
        per_step = 1000 / (k * (options.steps + 1))
        slow, fast = (statistics.median(times) * per_step for times in (ase_s, lockstep_s))
        ratio = statistics.median(a / b for a, b in zip(ase_s, lockstep_s, strict=True))
        print(f"{k:>4} {slow:>9.2f} {fast:>9.2f} {ratio:>7.2f} {statistics.median(outside):>17.1%}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--system", choices=sorted(systems()), help="only this one")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--kernel", choices=("auto", "lean", "mace"), default="auto")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    for name, (atoms, settings) in systems().items():
        if options.system in (None, name):
            table(name, atoms, settings, options)


if __name__ == "__main__":
    main()
