"""A whole campaign by plain MACE and ASE, one thing after another, and by the program: the ratios.

Run as a script: `python tests/benchmarks/bench_serial.py [--quick] [--seeds 3] [--folder DIR]`.

Active learning of aspirin: 3 members of 16 channels (max_L 0), 4 trajectories, 105 points of the
initial dataset, then exploring until a member's training set holds 60. The reference is a teacher:
a MACE model that is trained on GFN2-xTB once and kept in the cache folder, with 100 frames of its
own MD, on which both results are judged.

- serial: `plain_campaign.py`, one process and one thread, as the method is written down.
- program: `aimspax run` with the same files on two cores, with a Prefect server of its own.

Both are a command; wall is from its start to its end. CPU is user and system time of all its
processes, the Prefect server and workers included, which is read from what the kernel accounts for
each process that ends (Linux). The serial run is given one core, the program two.

- structures: that were propagated by the ensemble; epochs: of all members together, before the
  convergence of the best one.
- held-out: mean absolute error of the force components (meV/Å) on the teacher's MD, of the member
  that was converged, and of the mean of all members.

`--quick` (a few minutes) has a smaller teacher, 30 and 16 points; it shows that all works, and its
ratios are of start-up more than of learning. Parts that are finished in `--folder` are not run
again: delete the folder to measure anew. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import yaml

HERE = Path(__file__).parent
GEOMETRY = HERE.parents[1] / "examples" / "aspirin" / "geometry.in"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "aimspax-bench"
BIN = Path(sys.executable).parent
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of Linux


class Size(NamedTuple):
    """How large the campaign and its teacher are."""

    initial_points: int
    training_set: int
    converge_epochs: int
    teacher_channels: int
    teacher_frames: int
    teacher_epochs: int
    held_out: int


FULL = Size(105, 60, 20, 32, 100, 40, 100)
QUICK = Size(30, 16, 5, 16, 40, 12, 20)

MD = {
    "stat_ensemble": "NVT",
    "thermostat": "Langevin",
    "temperature": 500,
    "timestep": 1.0,
    "friction": 0.01,
}


def project(size: Size, seed: int, teacher: Path) -> dict[str, Any]:
    """Return `aimsPAX.yaml`."""
    return {
        "REFERENCE": {
            "engine": "mace",
            "model_path": str(teacher),
            "default_dtype": "float32",
        },
        "INITIAL_DATASET_GENERATION": {
            "initial_sampling": "foundational",
            "foundational_model_settings": {"mace_model": str(teacher)},
            "n_points_per_sampling_step_idg": 5,
            "skip_step_initial": 10,
            "ensemble_size": 3,
            "valid_ratio": 0.1,
            "intermediate_epochs_idg": 5,
            "max_initial_set_size": size.initial_points,
        },
        "ACTIVE_LEARNING": {
            "num_trajectories": 4,
            "ensemble_size": 3,
            "c_x": -0.1,
            "skip_step_mlff": 10,
            "epochs_per_worker": 2,
            "intermediate_epochs_al": 1,
            "valid_ratio": 0.1,
            "max_train_set_size": size.training_set,
            "converge_al": True,
            "converge_best": True,
            "converge_on": "own",  # as the method is written down; all members' sets take longer
            "max_convergence_epochs": size.converge_epochs,
            "convergence_patience": size.converge_epochs,
        },
        "MD": MD | {"MD_seed": seed},
        "CLUSTER": {"type": "local", "max_workers": 2},
    }


def model(seed: int, channels: int = 16) -> dict[str, Any]:
    """Return `mace.yaml`; what MACE and the program might have other defaults of is written out."""
    return {
        "GENERAL": {"name_exp": "aspirin", "default_dtype": "float32", "seed": seed},
        "ARCHITECTURE": {
            "r_max": 4.5,
            "num_channels": channels,
            "max_L": 0,
            "max_ell": 3,
            "correlation": 3,
            "radial_MLP": [64, 64, 64],
            "scaling": "rms_forces_scaling",
        },
        "TRAINING": {
            "batch_size": 5,
            "valid_batch_size": 5,
            "lr": 0.01,
            "amsgrad": True,
            "loss": "weighted",
            "energy_weight": 1.0,
            "forces_weight": 1000.0,
            "weight_decay": 5e-7,
            "clip_grad": 10.0,
            "ema": True,
            "ema_decay": 0.99,
            "scheduler": "ReduceLROnPlateau",
            "lr_factor": 0.8,
            "scheduler_patience": 5,
        },
        "MISC": {"device": "cpu"},
    }


def make_teacher(cache: Path, size: Size) -> tuple[Path, Path]:
    """Return the teacher and frames of its MD; made once, in some minutes."""
    name = f"{size.teacher_channels}-{size.teacher_frames}-{size.teacher_epochs}"
    path, held_out = cache / f"teacher-{name}.model", cache / f"held-out-{name}-{size.held_out}.xyz"
    if path.exists() and held_out.exists():
        return path, held_out
    print(f"making a teacher and its MD in {cache} ...", flush=True)
    cache.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(HERE / "teacher.py"), str(path), str(held_out)]
    log = path.with_suffix(".log")
    command.append(json.dumps(size._asdict()))
    usage = measured(command, 1, {"OMP_NUM_THREADS": "1"}, log)
    print(f"made in {usage['wall_s']:.0f} s: {log}", flush=True)
    return path, held_out


def write_inputs(directory: Path, size: Size, seed: int, teacher: Path) -> None:
    """Make a run directory."""
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copy(GEOMETRY, directory / "geometry.in")
    for name, data in {
        "aimsPAX.yaml": project(size, seed, teacher.resolve()),
        "mace.yaml": model(seed),
    }.items():
        (directory / name).write_text(yaml.safe_dump(data, sort_keys=False))


def measured(
    command: list[str],
    cores: int,
    env: dict[str, str],
    log: Path,
    afterwards: list[str] | None = None,
) -> dict[str, float]:
    """Run a command on so many cores; return its wall time, and CPU of all that it began.

    Every process that loses its parent becomes a child of this one, so that each is waited for,
    and what the kernel accounts for it is known.

    Args:
        command: The program and its arguments.
        cores: That it may use.
        env: Of the environment, what is different.
        log: File of what it prints.
        afterwards: A command that ends what is left, whatever became of the first.
    """
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    before, load = os.sched_getaffinity(0), os.getloadavg()[0]
    os.sched_setaffinity(0, sorted(before)[:cores])  # children inherit it
    began = time.perf_counter()
    with log.open("wb") as output:
        try:
            code, cpu = finished(command, env, output)
            wall = time.perf_counter() - began
        finally:
            if afterwards:
                _, cpu_afterwards = finished(afterwards, env, output)
            os.sched_setaffinity(0, before)
    if code:
        raise SystemExit(f"{' '.join(command)} ended with {code}: see {log}")
    cpu += cpu_afterwards if afterwards else 0.0
    with contextlib.suppress(ChildProcessError):
        while True:
            cpu += seconds(os.wait3(0)[2])
    return {"wall_s": wall, "cpu_s": cpu, "load_before": load, "load_after": os.getloadavg()[0]}


def finished(command: list[str], env: dict[str, str], output: BinaryIO) -> tuple[int, float]:
    """Run a command to its end; return its exit code, and CPU of it and whoever ends meanwhile."""
    child = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ | env)
    cpu, pid = 0.0, 0
    try:
        while pid != child.pid:
            pid, status, used = os.wait3(0)
            cpu += seconds(used)
    except BaseException:  # this benchmark is stopped: so is what it runs
        child.terminate()
        child.wait()
        raise
    child.returncode = os.waitstatus_to_exitcode(status)
    return child.returncode, cpu


def seconds(used: resource.struct_rusage) -> float:
    """Return user and system time."""
    return used.ru_utime + used.ru_stime


def serial(directory: Path, log: Path) -> dict[str, Any]:
    """Run the campaign by plain MACE and ASE."""
    command = [sys.executable, str(HERE / "plain_campaign.py"), str(directory)]
    usage = measured(command, 1, {"OMP_NUM_THREADS": "1"}, log)
    figures = json.loads((directory / "plain" / "figures.json").read_text())
    figures["models"] = [str(p) for p in sorted((directory / "plain").glob("*.model"))]
    figures["converged"] = str(directory / "plain" / figures["converged"])
    return usage | figures


def program(directory: Path, log: Path) -> dict[str, Any]:
    """Run the campaign by the program, with a server of its own."""
    aimspax = str(BIN / "aimspax")
    here = directory.parent  # nothing is compiled, or in a database, before
    env = {"PREFECT_HOME": str(here / "prefect"), "XDG_CACHE_HOME": str(here / "cache")}
    outer = [name for name in os.environ if name.startswith("PREFECT_API")]
    without = ["env", *(part for name in outer for part in ("-u", name))]
    usage = measured(
        [*without, aimspax, "run", str(directory)],
        2,
        env,
        log,
        afterwards=[*without, aimspax, "server", "stop"],
    )
    return usage | from_journal(directory)


def from_journal(directory: Path) -> dict[str, Any]:
    """Return what a finished campaign's journal says."""
    from aimspax_core.campaign.events import (
        ConvergenceAdvanced,
        SegmentFinished,
        TrainingFinished,
    )
    from aimspax_core.campaign.journal import entries
    from aimspax_core.campaign.rules import apply
    from aimspax_core.run_directory import RunDir
    from aimspax_core.settings.load import load

    figures = {"structures": 0, "member_epochs": 0, "converge_epochs": 0}
    state = None
    for entry in entries(RunDir.of(load(directory)).journal):
        state = apply(state, entry.event)
        match entry.event:
            case SegmentFinished():
                figures["structures"] += entry.event.structures
            case TrainingFinished():
                figures["member_epochs"] += entry.event.epochs
            case ConvergenceAdvanced():
                figures["converge_epochs"] += entry.event.epochs
                converged = entry.event.tag
    assert state is not None
    results = directory / "results"
    return figures | {
        "labels": state.labels,
        "training_set": state.training_set_size,
        "models": [str(path) for path in sorted(results.glob("*.model"))],
        "converged": str(results / f"{converged}.model"),
    }


def held_out_errors(figures: dict[str, Any], frames: Path) -> dict[str, float]:
    """Return the force MAE (meV/Å) of the converged member, and of the mean of all."""
    import ase.io
    import numpy as np
    import torch
    from mace.calculators import MACECalculator

    torch.set_num_threads(1)
    structures: Any = ase.io.read(frames, ":")
    true = np.array([atoms.arrays["REF_forces"] for atoms in structures])
    found = {}
    for path in figures["models"]:
        calculator = MACECalculator(model_paths=path, device="cpu", default_dtype="float32")
        found[path] = np.array([calculator.get_forces(atoms) for atoms in structures])
    mean = np.mean(list(found.values()), axis=0)
    return {
        "held_out": 1000 * float(np.abs(found[figures["converged"]] - true).mean()),
        "held_out_mean": 1000 * float(np.abs(mean - true).mean()),
    }


WAYS: dict[str, Callable[[Path, Path], dict[str, Any]]] = {"serial": serial, "program": program}


def part(way: str, folder: Path, seed: int, size: Size, teacher: Path, frames: Path) -> Any:
    """Run one way with one seed, or read what it gave before."""
    directory = folder / f"{way}-{seed}" / "run"
    figures = folder / f"{way}-{seed}.json"
    if not figures.exists():
        shutil.rmtree(directory.parent, ignore_errors=True)
        write_inputs(directory, size, seed, teacher)
        print(f"{way}, seed {seed}: load {os.getloadavg()[0]:.1f}", flush=True)
        found = WAYS[way](directory, folder / f"{way}-{seed}.log")
        found |= held_out_errors(found, frames)
        figures.write_text(json.dumps(found, indent=1))
    return json.loads(figures.read_text())


ROWS = {
    "wall_s": ("wall (s)", "{:.0f}"),
    "cpu_s": ("CPU (s)", "{:.0f}"),
    "labels": ("labels", "{:.0f}"),
    "training_set": ("training set", "{:.0f}"),
    "structures": ("structures", "{:.0f}"),
    "member_epochs": ("epochs", "{:.0f}"),
    "held_out": ("held-out, converged (meV/Å)", "{:.1f}"),
    "held_out_mean": ("held-out, mean (meV/Å)", "{:.1f}"),
    "load_before": ("load before", "{:.1f}"),
    "load_after": ("load after", "{:.1f}"),
}


def show(found: dict[int, dict[str, dict[str, Any]]]) -> None:
    """Print a table a seed, and one of the means."""
    tables = {f"seed {seed}": ways for seed, ways in found.items()}
    if len(found) > 1:
        tables[f"mean of {len(found)} seeds"] = {
            way: {key: sum(ways[way][key] for ways in found.values()) / len(found) for key in ROWS}
            for way in WAYS
        }
    for title, ways in tables.items():
        print(f"\n{title:<30}{'serial':>10}{'program':>10}{'ratio':>10}")
        one, other = ways["serial"], ways["program"]
        for key, (name, form) in ROWS.items():
            ratio = f"{one[key] / other[key]:.2f}" if not key.startswith("load") else ""
            values = (form.format(one[key]), form.format(other[key]), ratio)
            print(f"{name:<30}" + "".join(f"{value:>10}" for value in values))


def main() -> None:
    """Run both, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="a small campaign, in a few minutes")
    parser.add_argument("--seeds", type=int, default=1, help="campaigns of each, with other seeds")
    parser.add_argument("--cache", type=Path, default=CACHE, help=f"of the teacher ({CACHE})")
    parser.add_argument("--folder", type=Path, help="of the runs; not given: a temporary one")
    parser.add_argument("--only", choices=sorted(WAYS), help="run this one, and print no ratios")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the server is stopped then, too
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    size = QUICK if options.quick else FULL
    teacher, frames = make_teacher(options.cache, size)
    with contextlib.ExitStack() as stack:
        folder = options.folder
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aimspax-bench-")))
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        found = {
            seed: {
                way: part(way, folder, seed, size, teacher, frames)
                for way in WAYS
                if options.only in (None, way)
            }
            for seed in range(100, 100 + options.seeds)
        }
        if options.only:
            print(json.dumps(found, indent=1))
        else:
            show(found)


if __name__ == "__main__":
    main()
