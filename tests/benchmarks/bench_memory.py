"""Whether memory and disk grow while a campaign runs: of flow, workers, Prefect server, directory.

Run as a script: `python tests/benchmarks/bench_memory.py [--minutes 3]`, for hours if you can wait.

A campaign of water, with GFN1-xTB and MACE models that are as small as can be, explores without an
end, so that there are as many events a minute as the machine gives. Every few seconds the resident
sizes of its processes are read (on Linux each has its share of the pages that it has in common with
others: workers are forked from one parent, which counts as one of them). What is read before the
first training is over, and a third of the rest, in which caches fill, does not count. Printed for
flow, workers (all together) and server: MiB then and at the end, and the slope of a straight line
through all in between, in KiB an event; the same for the files of the run directory, by folder. A
state that holds each point of a campaign grows with them (a few KiB a label); nothing else should.
Nothing is asserted.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import ase.io
import numpy as np
import psutil
from ase.build import molecule

PROJECT = """
MISC: {path_to_geometry: water.xyz}
REFERENCE: {engine: tblite, method: GFN1-xTB}
INITIAL_DATASET_GENERATION:
  {initial_sampling: aimd, n_points_per_sampling_step_idg: 4, skip_step_initial: 5,
   ensemble_size: 2, intermediate_epochs_idg: 2, max_initial_epochs: 4}
ACTIVE_LEARNING:
  {num_trajectories: 2, skip_step_mlff: 4, epochs_per_worker: 1, desired_acc: 0.0,
   max_train_set_size: 1000000, max_MD_steps: 100000000, save_trajectories_max_frames: 100,
   replay_strategy: random_subset, train_subset_size: 8, valid_subset_size: 2, c_x: 0.5}
MD: {stat_ensemble: NVT, temperature: 300, timestep: 0.5, friction: 0.01}
CLUSTER: {type: local, max_workers: 1, ml: {max_workers: 1}}
"""
MODEL = """
GENERAL: {name_exp: water, seed: 1, default_dtype: float32}
ARCHITECTURE:
  {r_max: 3.0, num_channels: 4, max_L: 0, max_ell: 1, correlation: 1, num_interactions: 1,
   num_radial_basis: 3, radial_MLP: [4]}
TRAINING: {batch_size: 4, valid_batch_size: 4}
"""
AIMSPAX = [sys.executable, "-c", "from flows.commands.app import main; main()"]
EVERY_S = 3.0
MIB, KIB = 1024**2, 1024


@dataclass
class Samples:
    """What was read, each time: events so far, and bytes by what has them.

    Attributes:
        warm: So many readings were over when the first training was.
    """

    warm: int = 0
    events: list[int] = field(default_factory=list)
    sizes: dict[str, list[float]] = field(default_factory=dict)

    def add(self, events: int, sizes: dict[str, float]) -> None:
        """Add what was read at one time."""
        self.events.append(events)
        for name, size in sizes.items():
            self.sizes.setdefault(name, [0.0] * (len(self.events) - 1)).append(size)
        for values in self.sizes.values():
            values += [values[-1]] * (len(self.events) - len(values))

    @property
    def first(self) -> int:
        """Index of what is read first that counts."""
        return self.warm + (len(self.events) - self.warm) // 3

    def lines(self) -> list[str]:
        """Return a line for each of them: at the beginning and the end (MiB), KiB an event."""
        first = self.first
        found = []
        for name, values in self.sizes.items():
            events, sizes = self.events[first:], values[first:]
            slope = np.polyfit(events, sizes, 1)[0] if len(set(events)) > 1 else float("nan")
            found.append(
                f"{name:24s}{sizes[0] / MIB:10.1f}{sizes[-1] / MIB:10.1f}{slope / KIB:12.2f}"
            )
        return found


def resident(process: psutil.Process) -> float:
    """Return a process's share of the memory in use (bytes); 0 if it has just ended."""
    try:
        if psutil.LINUX:
            return float(process.memory_full_info().pss)
        return float(process.memory_info().rss)
    except psutil.Error:
        return 0.0


def of_home(home: str, others: set[int]) -> list[psutil.Process]:
    """Return the processes with this PREFECT_HOME, but for others: workers and the server."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid not in others and process.environ().get("PREFECT_HOME") == home:
                found.append(process)
        except psutil.Error:
            continue
    return found


def serves(process: psutil.Process) -> bool:
    """Return whether a process belongs to the Prefect server, not to Dask."""
    try:
        family = (process, *process.parents())
        return any({"prefect", "server", "start"} <= set(one.cmdline()) for one in family)
    except psutil.Error:
        return False


def folder_size(folder: Path) -> float:
    """Return the bytes in the files of a folder; files come and go meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return float(total)


def watch(flow: subprocess.Popen[bytes], run: Path, home: str, seconds: float) -> Samples:
    """Read the sizes until the time is over or the campaign has ended."""
    samples, end = Samples(), time.monotonic() + seconds
    main = psutil.Process(flow.pid)
    journal = run / "aimspax" / "journal.jsonl"
    within = ("labels", "trajectories", "datasets", "structures", "prefect-results")
    folders = [f"aimspax/{name}" for name in within]
    folders += ["checkpoints", "trajectories", "losses", "logs"]
    seen = counter(journal)
    while time.monotonic() < end and flow.poll() is None:
        time.sleep(EVERY_S)
        others = of_home(home, {os.getpid(), flow.pid})
        server = [process for process in others if serves(process)]
        if flow.poll() is not None:
            break
        sizes = {
            "flow": resident(main),
            "workers": sum(resident(p) for p in others if p not in server),
            "server": sum(map(resident, server)),
        }
        sizes |= {f"{name}/": folder_size(run / name) for name in folders}
        sizes["aimspax/ alone"] = float(
            sum(p.stat().st_size for p in (run / "aimspax").glob("*") if p.is_file())
        )
        samples.add(seen(), sizes)
        if not samples.warm and any((run / "losses").glob("*")):
            samples.warm = len(samples.events)
    return samples


def counter(journal: Path) -> Callable[[], int]:
    """Return what counts the events by the number in the journal's last whole line."""
    last = 0

    def count() -> int:
        nonlocal last
        if journal.exists():
            lines = journal.read_bytes().splitlines()[-2:]
            for line in lines:
                at = line.find(b'"seq":')
                digits = line[at + 6 : at + 20].split(b",")[0].strip()
                last = int(digits) if at >= 0 and digits.isdigit() else last
        return last

    return count


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def main() -> None:
    """Run the campaign, and print what grew."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=3.0)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory(prefix="aimspax-memory-") as scratch:
        run, home = Path(scratch) / "run", str(Path(scratch) / "prefect")
        run.mkdir()
        (run / "aimsPAX.yaml").write_text(PROJECT, encoding="utf-8")
        (run / "mace.yaml").write_text(MODEL, encoding="utf-8")
        ase.io.write(run / "water.xyz", molecule("H2O"))
        environment = {**os.environ, "PREFECT_HOME": home, "OMP_NUM_THREADS": "1"}
        environment |= {"PREFECT_SERVER_API_PORT": str(free_port())}
        environment.pop("PREFECT_API_URL", None)
        log = Path(scratch) / "out"
        try:
            with log.open("wb") as out:
                flow = subprocess.Popen(
                    [*AIMSPAX, "run", str(run)], env=environment, stdout=out, stderr=out
                )
                samples = watch(flow, run, home, 60 * minutes)
                if flow.poll() is None:
                    flow.send_signal(signal.SIGTERM)
                else:
                    print(f"the campaign ended early, with exit code {flow.returncode}:")
                    print(log.read_text(encoding="utf-8")[-1000:])
                flow.wait(60)
        finally:
            subprocess.run([*AIMSPAX, "server", "stop"], env=environment, check=False)
        if not samples.events or samples.events[-1] == 0:
            print(log.read_text(encoding="utf-8")[-3000:])
            return
        first = samples.events[samples.first]
        print(f"{samples.events[-1]} events in {minutes:g} min; from event {first} on:")
        print(f"{'':24s}{'MiB then':>10s}{'MiB now':>10s}{'KiB/event':>12s}")
        print("\n".join(samples.lines()))


if __name__ == "__main__":
    main()
