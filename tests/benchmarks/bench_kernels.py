"""The lean network against MACE itself: CPU time of a step of training, and of a committee.

Run as a script: `python tests/benchmarks/bench_kernels.py`, or for a part of the table with
`--systems aspirin --channels 16 --max-L 0 --batches 1 4 --members 1 3`.

- step: collating a batch of so many structures, forward, forces, gradient of the loss, clipping,
  Adam and EMA. MACE: `train_one_epoch` on MACE's own loader; lean: the program's training.
- committee: `Committee.evaluate` of so many structures, the search for neighbours included.

Two systems: aspirin (21 atoms, cutoff 4.5 Å) and silicon (64 atoms, periodic, 5 Å); lmax 3,
correlation 3, two interactions, float32, one thread.

Before anything is timed the forms are held against each other: printed are the largest difference
of an energy (meV an atom), of a force component (eV/Å), and of a gradient, of the largest of its
tensor. Then they take turns. A time is CPU time of the process (ms): the smallest, and the median;
a factor is the ratio of the smallest, and the median of the ratios in the same turn. Cells with
more edges than `--most-edges` are left out. Nothing is asserted.

With `--compiled` each step takes part compiled as well (`MISC.compile: on`; a minute of compiling
for each line that the user's cache folder does not have): its least time, and factors to MACE.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from bench_serial import GEOMETRY, model
from mace.tools.torch_geometric.dataloader import DataLoader
from mace.tools.train import train_one_epoch
from plain_campaign import CPU, Silent
from torch_ema import ExponentialMovingAverage

from aimspax_core.model.committee import Committee, Evaluator
from aimspax_core.model.mace.build import Constants, build
from aimspax_core.model.mace.evaluator import MaceEvaluator
from aimspax_core.model.mace.graphs import batches, graphs
from aimspax_core.model.mace.lean import Lean, LeanEvaluator, forms, why_not
from aimspax_core.model.mace.steps import MaceSteps
from aimspax_core.settings.model import ModelSettings

Action = Callable[[], Any]


class System(NamedTuple):
    """What is computed: a structure, and the cutoff (Å)."""

    atoms: Atoms
    r_max: float


def systems() -> dict[str, System]:
    """Return the systems by name."""
    aspirin: Any = ase.io.read(GEOMETRY)
    silicon = bulk("Si", "diamond", a=5.43, cubic=True) * (2, 2, 2)
    return {"aspirin": System(aspirin, 4.5), "silicon": System(silicon, 5.0)}


def structures(system: System, count: int) -> list[Atoms]:
    """Return rattled copies; labels are made up, for their values cost nothing."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        atoms = system.atoms.copy()
        atoms.positions += rng.normal(0.0, 0.05, atoms.positions.shape)
        atoms.info["REF_energy"] = float(rng.normal())
        atoms.arrays["REF_forces"] = rng.normal(0.0, 1.0, atoms.positions.shape)
        found.append(atoms)
    return found


class Case:
    """One architecture and one system.

    Args:
        system: What is computed.
        channels: `num_channels`.
        max_l: `max_L`.
    """

    def __init__(self, system: System, channels: int, max_l: int) -> None:
        self.system, self.channels, self.max_l = system, channels, max_l
        self.elements = sorted({int(z) for z in system.atoms.numbers})
        self.constants = Constants(dict.fromkeys(self.elements, 0.0), 14.0, 0.1, 0.0)

    def settings(self, batch: int = 1, compiled: bool = False) -> ModelSettings:
        """Return the settings of the models."""
        given = model(0, self.channels)
        given["ARCHITECTURE"] |= {"r_max": self.system.r_max, "max_L": self.max_l}
        given["TRAINING"]["batch_size"] = batch
        given["MISC"] |= {"kernel": "lean", "compile": "on" if compiled else "off"}
        return ModelSettings.model_validate(given)

    def model(self, seed: int = 0) -> Any:
        """Return a model of MACE with the weights of a seed."""
        return build(self.settings(), self.elements, self.constants, seed)

    def step(self, kernel: str, batch: int) -> Action:
        """Return an epoch of one step on so many structures."""
        settings = self.settings(batch, kernel == "compiled")
        data = graphs(structures(self.system, batch), self.elements, settings)
        steps, network = MaceSteps(settings), self.model()
        optimizer, loss = steps.optimizer(network), steps.loss()
        ema = ExponentialMovingAverage(network.parameters(), decay=0.99)
        if kernel == "compiled" and not steps.settle(network, data, 0.0).compiled:
            forms().wait()
            assert steps.settle(network, data, 0.0).compiled, "not compiled"
        if kernel != "mace":
            return lambda: steps.train_epoch(network, loss, data, (0,), optimizer, ema)
        loader: Any = DataLoader(data, batch, shuffle=True, drop_last=True)
        return lambda: train_one_epoch(
            network, loss, loader, optimizer, 0, steps.outputs, settings.TRAINING.clip_grad,
            ema, Silent(), CPU, distributed=False,
        )  # fmt: skip

    def committee(self, kernel: str, members: int, batch: int) -> Action:
        """Return the evaluation of so many structures by so many members."""
        forms: dict[str, Callable[..., Evaluator]] = {"mace": MaceEvaluator, "lean": LeanEvaluator}
        committee = Committee(forms[kernel]([self.model(seed) for seed in range(members)]))
        found = structures(self.system, batch)
        return lambda: committee.evaluate(found)

    def differences(self) -> tuple[float, float, float]:
        """Return the largest differences between both forms; see the head of this file."""
        settings, found = self.settings(), structures(self.system, 2)
        (batch,) = batches(graphs(found, self.elements, settings), 2)
        loss = MaceSteps(settings).loss()
        outcomes = []
        for form in (lambda one: one, Lean):
            network = self.model()
            output = form(network)(batch.to_dict(), training=True, compute_force=True)
            loss(pred=output, ref=batch).backward()
            gradients = [p.grad for p in network.parameters() if p.grad is not None]
            outcomes.append((output["energy"].detach(), output["forces"].detach(), gradients))
        (energy, forces, slopes), (other_energy, other_forces, other_slopes) = outcomes
        apart = (
            float((a - b).abs().max() / a.abs().max().clamp_min(1e-30))
            for a, b in zip(slopes, other_slopes, strict=True)
        )
        return (
            1000 * float((energy - other_energy).abs().max()) / len(self.system.atoms),
            float((forces - other_forces).abs().max()),
            max(apart),
        )

    def edges(self) -> int:
        """Return the edges of one structure."""
        (one,) = graphs(structures(self.system, 1), self.elements, self.settings())
        return int(one.edge_index.shape[1])


class Times(NamedTuple):
    """CPU seconds of each form, turn by turn."""

    mace: list[float]
    lean: list[float]
    compiled: list[float] | None = None


def turns(actions: dict[str, Action], seconds: float, fewest: int) -> Times:
    """Let the forms take turns for so long; the first two turns do not count."""
    found: dict[str, list[float]] = {name: [] for name in actions}
    began = 0.0
    for turn in itertools.count(-2):
        if turn == 0:
            began = time.process_time()
        if turn >= fewest and time.process_time() - began > seconds:
            return Times(**found)
        for name, action in actions.items():
            start = time.process_time()
            action()
            if turn >= 0:
                found[name].append(time.process_time() - start)
    raise AssertionError


def line(name: str, times: Times) -> str:
    """Return a line of the table."""
    cells = [f"{1000 * f(t):>8.1f}" for t in times[:2] for f in (min, statistics.median)]
    best, usual = factors(times.mace, times.lean)
    found = f"  {name:<32}" + "".join(cells) + f"{best:>8.2f}{usual:>8.2f}{len(times.mace):>7}"
    if times.compiled is None:
        return found
    best, usual = factors(times.mace, times.compiled)
    return f"{found}  compiled {1000 * min(times.compiled):.1f}: {best:.2f} {usual:.2f}"


def factors(slow: list[float], fast: list[float]) -> tuple[float, float]:
    """Return the ratio of the smallest, and the median of the ratios in the same turn."""
    usual = statistics.median(a / b for a, b in zip(slow, fast, strict=True))
    return min(slow) / min(fast), usual


def table(name: str, case: Case, options: argparse.Namespace) -> None:
    """Print the lines of one case."""
    why = why_not(case.model())
    head = f"{name}, {case.channels} channels, max_L {case.max_l}"
    if why is not None:
        print(f"{head}: no lean form: {why}")
        return
    energy, forces, slopes = case.differences()
    edges = case.edges()
    print(f"{head}, {edges} edges; load {os.getloadavg()[0]:.1f}")
    print(f"  apart: {energy:.1e} meV/atom, {forces:.1e} eV/Å, gradients {slopes:.1e}")
    lines: list[tuple[str, int, Callable[[str], Action]]] = [
        (f"step, batch {n}", n, lambda kernel, n=n: case.step(kernel, n)) for n in options.batches
    ]
    lines += [
        (f"committee of {m}, n = {n}", n, lambda kernel, m=m, n=n: case.committee(kernel, m, n))
        for m in options.members
        for n in options.batches
    ]
    for text, count, make in lines:
        if count * edges > options.most_edges:
            print(f"  {text:<32}left out: {count * edges} edges")
            continue
        compiled = ("compiled",) if options.compiled and text.startswith("step") else ()
        actions = {kernel: make(kernel) for kernel in ("mace", "lean", *compiled)}
        print(line(text, turns(actions, options.seconds, options.fewest)), flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--systems", nargs="+", choices=systems(), default=[*systems()])
    parser.add_argument("--channels", type=int, nargs="+", default=[16, 32, 64, 128])
    parser.add_argument("--max-L", type=int, nargs="+", default=[0, 1], dest="max_l")
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 4, 16])
    parser.add_argument("--members", type=int, nargs="*", default=[1, 3, 4])
    parser.add_argument("--seconds", type=float, default=3.0, help="of CPU for each line")
    parser.add_argument("--fewest", type=int, default=3, help="turns for each line")
    parser.add_argument("--most-edges", type=int, default=10_000, help="in one batch")
    parser.add_argument("--compiled", action="store_true", help="compile the steps, too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    times = "".join(f"{name + ' ' + how:>8}" for name in ("M", "L") for how in ("min", "med"))
    print(f"CPU ms of MACE (M) and lean (L){'':<3}{times}{'factor':>8}{'median':>8}{'turns':>7}")
    for name, max_l, channels in itertools.product(
        options.systems, options.max_l, options.channels
    ):
        table(name, Case(systems()[name], channels, max_l), options)


if __name__ == "__main__":
    main()
