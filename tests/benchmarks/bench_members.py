"""Four members trained side by side in two processes, against one after another in one process.

Run as a script: `python tests/benchmarks/bench_members.py [--epochs 2] [--repeats 3]`.

- side by side: two spawned processes of one thread, as in the `ml` pool, with two members each
- one after another: one process trains all four, with 1 thread and with 2; the better one counts

Same members, frames (aspirin at 500 K, labelled with GFN2-xTB) and settings (those of the example)
everywhere. Only training is timed: all processes have imported MACE, built their members and
trained one epoch before. The three take turns, so that what else the machine does hits all of them.
Nothing is asserted.
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
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "aspirin"
MEMBERS, VALIDATION = 4, 4


def make_frames(path: Path, count: int) -> None:
    """Write labelled frames of a GFN2-xTB trajectory."""
    from aimspax_core import dataset
    from aimspax_core.campaign.labels import StoredLabel
    from aimspax_core.reference.engines import build_reference
    from aimspax_core.sampling.dynamics import random_stream, resume, start
    from aimspax_core.settings.project import MD, TbliteReference
    from aimspax_core.structures import read_geometries

    settings = MD(stat_ensemble="nvt", temperature=500, timestep=1.0, friction=0.01)
    engine = build_reference(TbliteReference(engine="tblite"), EXAMPLE)
    (geometry,) = read_geometries(EXAMPLE / "geometry.in")
    state = start(geometry, settings, random_stream(0))
    dynamics, _ = resume(state, settings, engine.calculator())
    frames = []
    for _ in range(count):
        dynamics.run(10)
        atoms = dynamics.atoms.copy()
        atoms.set_constraint()
        frames.append(dataset.labelled(StoredLabel("", atoms, engine.label(atoms))))
    dataset.write(path, frames)


def trainer(pipe: Connection, threads: int, seeds: list[int], frames: Path, epochs: int) -> None:
    """Be a process that trains its members whenever it is told to, and says when it is done."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    import torch

    from aimspax_core import dataset
    from aimspax_core.model.mace import graphs
    from aimspax_core.model.training import Member
    from aimspax_core.settings.load import load

    settings = load(EXAMPLE).model
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
        for member in members:
            member.train(train, valid, epochs=epochs, valid_skip=1, scheduler=False)
        pipe.send("done")


def start_trainer(threads: int, seeds: list[int], frames: Path, epochs: int) -> Connection:
    """Start a process that trains."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    arguments = (theirs, threads, seeds, frames, epochs)
    context.Process(target=trainer, args=arguments, daemon=True).start()
    return ours


def seconds(trainers: list[Connection]) -> float:
    """Let processes train at the same time; return how long it takes until all are done (s)."""
    began = time.perf_counter()
    for pipe in trainers:
        pipe.send("train")
    for pipe in trainers:
        pipe.recv()
    return time.perf_counter() - began


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    warnings.filterwarnings("ignore")
    seeds = list(range(MEMBERS))
    with tempfile.TemporaryDirectory() as folder:
        frames = Path(folder) / "frames.xyz"
        make_frames(frames, options.frames)
        ways = {
            "side by side, 2 processes of 1 thread": [
                start_trainer(1, seeds[:2], frames, options.epochs),
                start_trainer(1, seeds[2:], frames, options.epochs),
            ],
            "one after another, 1 thread": [start_trainer(1, seeds, frames, options.epochs)],
            "one after another, 2 threads": [start_trainer(2, seeds, frames, options.epochs)],
        }
        for pipes in ways.values():
            for pipe in pipes:
                pipe.recv()
        measured: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(options.repeats):
            for way, pipes in ways.items():
                measured[way].append(seconds(pipes))
        for pipes in ways.values():
            for pipe in pipes:
                pipe.send("stop")

    training = options.frames - VALIDATION
    cores = len(os.sched_getaffinity(0))
    print(f"{MEMBERS} members, {training} + {VALIDATION} frames, {options.epochs} epochs each, ")
    print(f"{options.repeats} repeats in turns, {cores} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{'':<40}{'seconds':>9}{'ratio':>8}")
    together, *alone = measured.values()
    for way, times in measured.items():
        ratio = statistics.median(a / b for a, b in zip(times, together, strict=True))
        print(f"{way:<40}{statistics.median(times):>9.2f}{ratio:>8.2f}")
    best = min(alone, key=statistics.median)
    ratio = statistics.median(a / b for a, b in zip(best, together, strict=True))
    print(f"side by side is {ratio:.2f} times as fast as one after another at its best")


if __name__ == "__main__":
    main()
