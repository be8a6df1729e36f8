"""Four members trained side by side in two processes, against one after another in one process.

Run as a script: `python tests/benchmarks/bench_members.py [--example silicon] [--epochs 2]`.

- side by side: two spawned processes of one thread, as in the `ml` pool, with two members each
- one after another: one process trains all four, with 1 thread and with 2; the better one counts

Same members, frames (aspirin at 500 K, or 64 atoms of silicon with stress, labelled with the
example's reference) and settings (those of the example) everywhere. Only training is timed: all
processes have imported MACE, built their members and trained one epoch before. The three take
turns, so that what else the machine does hits all of them.
Two threads spin only briefly when they wait for each other (`GOMP_SPINCOUNT`, libgomp): on a shared
machine they would otherwise take each other's core. `CPU` is the processor time of the process that
used most: where it is far below the seconds, others used the cores. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import statistics
import tempfile
import time
import warnings
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import NamedTuple

EXAMPLES = Path(__file__).parents[2] / "examples"
SUPERCELL = {"aspirin": (1, 1, 1), "silicon": (2, 2, 1)}
MEMBERS, VALIDATION = 4, 4


class Trainer(NamedTuple):
    """A process that trains, and the way to talk to it."""

    pipe: Connection
    process: SpawnProcess


def make_frames(path: Path, example: str, count: int) -> None:
    """Write labelled frames of a trajectory on the example's reference."""
    from aimspax_core.labels import dataset
    from aimspax_core.labels.store import StoredLabel
    from aimspax_core.reference.registry import build_reference
    from aimspax_core.sampling.dynamics import random_stream, resume, start
    from aimspax_core.settings.geometries.files import read_geometries
    from aimspax_core.settings.load import load
    from aimspax_core.settings.md import MD

    md = MD(stat_ensemble="nvt", temperature=500, timestep=1.0, friction=0.01)
    settings = load(EXAMPLES / example)
    engine = build_reference(settings.reference, settings.directory)
    (geometry,) = read_geometries(settings.geometry_files)
    state = start(geometry * SUPERCELL[example], md, random_stream(0))
    dynamics, _ = resume(state, md, engine.calculator())
    frames = []
    for _ in range(count):
        dynamics.run(10)
        atoms = dynamics.atoms.copy()
        atoms.set_constraint()
        frames.append(dataset.labelled(StoredLabel("", atoms, engine.label(atoms))))
    dataset.write(path, frames)


def train_when_told(
    pipe: Connection, threads: int, seeds: list[int], frames: Path, example: str, epochs: int
) -> None:
    """Be a process that trains its members whenever it is told to, and says when it is done."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    import torch

    from aimspax_core.labels import dataset
    from aimspax_core.model.mace.graphs import graphs
    from aimspax_core.model.member import Member
    from aimspax_core.settings.load import load

    settings = load(EXAMPLES / example).model
    structures = dataset.read(frames)
    elements = sorted(set(structures[0].numbers.tolist()))
    data = graphs(structures, elements, settings)
    train, valid = data[:-VALIDATION], data[-VALIDATION:]
    members = [Member.create(settings, elements, f"m-{s}", s, train) for s in seeds]
    torch.set_num_threads(threads)
    for member in members:
        member.train(train, valid, epochs=1, valid_skip=1, scheduler=False)
    pipe.send("ready")
    while pipe.recv() == "train":
        began = time.process_time()
        for member in members:
            member.train(train, valid, epochs=epochs, valid_skip=1, scheduler=False)
        pipe.send(time.process_time() - began)


def start_trainer(
    threads: int, seeds: list[int], frames: Path, options: argparse.Namespace
) -> Trainer:
    """Start a process that trains."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    arguments = (theirs, threads, seeds, frames, options.example, options.epochs)
    process = context.Process(target=train_when_told, args=arguments, daemon=True)
    process.start()
    return Trainer(ours, process)


def seconds(trainers: list[Trainer]) -> tuple[float, float]:
    """Let processes train at the same time; return wall time until all are done, and CPU (s)."""
    began = time.perf_counter()
    for trainer in trainers:
        trainer.pipe.send("train")
    used = max(trainer.pipe.recv() for trainer in trainers)
    return time.perf_counter() - began, used


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--example", choices=sorted(SUPERCELL), default="aspirin")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # until a process sets its own
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    warnings.filterwarnings("ignore")
    seeds = list(range(MEMBERS))
    with tempfile.TemporaryDirectory() as folder:
        frames = Path(folder) / "frames.xyz"
        make_frames(frames, options.example, options.frames)
        ways = {
            "side by side, 2 processes of 1 thread": [
                start_trainer(1, seeds[:2], frames, options),
                start_trainer(1, seeds[2:], frames, options),
            ],
            "one after another, 1 thread": [start_trainer(1, seeds, frames, options)],
            "one after another, 2 threads": [start_trainer(2, seeds, frames, options)],
        }
        trainers = [trainer for way in ways.values() for trainer in way]
        for trainer in trainers:
            trainer.pipe.recv()
        measured: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for _ in range(options.repeats):
            for way, some in ways.items():
                measured[way].append(seconds(some))
        for trainer in trainers:
            trainer.pipe.send("stop")
            trainer.process.join()

    training = options.frames - VALIDATION
    cores = len(os.sched_getaffinity(0))
    print(f"{options.example}: {MEMBERS} members, {training} + {VALIDATION} frames,")
    print(f"{options.epochs} epochs each,")
    print(f"{options.repeats} repeats in turns, {cores} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{'':<40}{'seconds':>9}{'ratio':>8}{'CPU':>8}")
    walls = {way: [wall for wall, _ in times] for way, times in measured.items()}
    together, *alone = walls.values()
    for way, times in walls.items():
        used = statistics.median(cpu for _, cpu in measured[way])
        print(
            f"{way:<40}{statistics.median(times):>9.2f}{ratio(times, together):>8.2f}{used:>8.2f}"
        )
    best = ratio(min(alone, key=statistics.median), together)
    print(f"side by side is {best:.2f} times as fast as one after another at its best")


def ratio(times: list[float], others: list[float]) -> float:
    """Return the median of the ratios of times taken in the same turn."""
    return statistics.median(a / b for a, b in zip(times, others, strict=True))


if __name__ == "__main__":
    main()
