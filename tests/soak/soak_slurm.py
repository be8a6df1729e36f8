"""Campaigns on a real Slurm under random interruptions, one seed after the other; `make soak`.

Every few seconds something happens to jobs, nodes, Slurm's controller, workers, calculations, to
what cancels jobs after a run, or to the run itself. Each campaign has to finish with every point
labelled once, and to leave nothing.
"""

from __future__ import annotations

import argparse
import itertools
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from aimspax_core.campaign.state import Phase, PointStatus
from tests.slurm.campaigns import ML_HERE, ML_JOBS, Campaign, Jobs, Site, site
from tests.slurm.machine import Slurm, running

PAUSE_S = (1.0, 8.0)
"""From one interruption to the next."""


@dataclass
class Chaos:
    """What is done to a campaign while it runs."""

    campaign: Campaign
    rng: np.random.Generator
    done: Counter[str] = field(default_factory=Counter)
    restarts: int = 0

    def act(self) -> None:
        """Do something at random; what hits is told and counted."""
        acts: dict[Callable[[], object], float] = {
            self.cancel: 4,
            self.requeue: 4,
            self.lose_node: 2,
            self.push_aside: 3,
            self.time_out: 2,
            self.freeze: 1,
            self.kill_worker: 0.5,
            self.kill_calculation: 0.5,
            self.kill_cleaner: 0.5,
            self.stop_run: 1,
        }
        weights = np.array([*acts.values()])
        chosen = self.rng.choice(len(acts), p=weights / weights.sum())
        one = [*acts][int(chosen)]
        hit = one()
        if hit:
            name = getattr(one, "__name__", "")
            self.done[name] += 1
            print(f"{time.strftime('%H:%M:%S')} {name}: {hit}", flush=True)

    @property
    def slurm(self) -> Slurm:
        return self.campaign.site.slurm

    def pick(self, *states: str) -> int | None:
        """Return one of the jobs in such a state, of labels or of training."""
        jobs = [job.id for job in self.slurm.jobs() if job.state in states and job.name != "sbatch"]
        return int(self.rng.choice(jobs)) if jobs else None

    def cancel(self) -> int | None:
        job = self.pick("RUNNING", "PENDING", "CONFIGURING")
        if job is not None:
            self.slurm.cancel(job)
        return job

    def requeue(self) -> int | None:
        job = self.pick("RUNNING")
        try:
            if job is not None:
                self.slurm.requeue(job)
        except AssertionError:  # its settings say --no-requeue, or it has just ended
            return None
        return job

    def lose_node(self) -> str:
        self.slurm.node_down()
        time.sleep(float(self.rng.uniform(0.5, 4)))
        self.slurm.node_up()
        return "cpu1"

    def push_aside(self) -> int:
        script = f"#!/bin/sh\nsleep {self.rng.integers(1, 5)}\n"
        tasks = f"--ntasks={self.rng.integers(1, 5)}"
        return self.slurm.submit(script, "--partition=debug", tasks, "--output=/dev/null")

    def time_out(self) -> int | None:
        """Have a calculation hang until its job's time is up."""
        for job, processes in self.campaign.calculations().items():
            try:
                self.slurm.time_out(job)
                for process in processes:
                    process.suspend()
            except (AssertionError, psutil.Error):  # it has just ended
                return None
            return job
        return None

    def freeze(self) -> str:
        seconds = float(self.rng.uniform(3, 40))
        with self.slurm.controller_frozen():
            time.sleep(seconds)
        return f"{seconds:.0f} s"

    def kill_worker(self) -> int | None:
        return self._kill("dask_worker")

    def kill_calculation(self) -> int | None:
        return self._kill("stand_in.py")

    def kill_cleaner(self) -> int | None:
        """Kill what cancels a pool's jobs when the run is over: another one has to do its work."""
        return self._kill("flows.pools.jobs.cleaner")

    def _kill(self, word: str) -> int | None:
        """Kill a process as the kernel does when memory is short."""
        for process in self.campaign.processes():
            try:
                if any(word in part for part in process.cmdline()):
                    process.kill()
                    return process.pid
            except psutil.Error:
                continue
        return None

    def stop_run(self) -> str | None:
        """Stop the run in some way, and start it again."""
        process = self.campaign.process
        if (
            process is None
            or process.poll() is not None
            or not self.campaign.place.journal.exists()
        ):
            return None
        how = signal.Signals[str(self.rng.choice(["SIGKILL", "SIGTERM", "SIGINT"]))]
        process.send_signal(how)
        self.campaign.end(90)
        if self.campaign.codes[-1] == 0:  # it was at its end
            assert self.campaign.state.phase is Phase.FINISHED, self.campaign.told()
            return None
        self.restarts += 1
        self.campaign.begin()
        return how.name


def disturbed(place: Site, directory: Path, seed: int, until: float, patience_s: float) -> Chaos:
    """Run a campaign to its end, disturbed until then or until a time."""
    rng = np.random.default_rng(seed)
    option = str(rng.choice(["", "--no-requeue"]))
    ml = str(rng.choice([ML_HERE, ML_JOBS]))
    jobs = Jobs(str(rng.choice(["debug", "scavenge"])), blocks=4, option=option, ml=ml)
    campaign = Campaign(place, directory, {"AIMS_STAND_IN_SLEEP": str(rng.integers(1, 4))})
    campaign.write(jobs, trajectories=8, most=int(rng.integers(40, 120)))
    chaos = Chaos(campaign, rng)
    print(f"seed {seed}: {jobs.partition} {option} ml={'here' if ml == ML_HERE else 'jobs'}")
    campaign.begin()
    try:
        while time.monotonic() < until and _runs(campaign):
            time.sleep(float(rng.uniform(*PAUSE_S)))
            chaos.act()
        if campaign.process is not None:
            campaign.end(patience_s)
    finally:
        campaign.stop()
    return chaos


def _runs(campaign: Campaign) -> bool:
    return campaign.process is not None and campaign.process.poll() is None


def judge(chaos: Chaos) -> str:
    """Check all that has to hold after the end.

    Raises:
        AssertionError: Something does not.
    """
    campaign = chaos.campaign
    state, stored = campaign.state, campaign.stored()
    assert campaign.codes[-1] == 0, campaign.told()
    assert state.phase is Phase.FINISHED, state.phase
    failed = [(p.key, p.reason) for p in state.points.values() if p.status is PointStatus.FAILED]
    assert not failed, failed
    assert not state.open_points
    assert set(stored) == set(state.points), "labels in the store are those of the points"
    assert campaign.arrived() == dict.fromkeys(stored, 1), "each label is counted once"
    lost = [event for event in campaign.lost() if event.action_id.startswith("label:")]
    most = len(stored) + len(lost) + 4 * chaos.restarts
    assert campaign.starts <= most, f"{campaign.starts} calculations, {most} explained"
    campaign.site.slurm.wait(lambda: not campaign.jobs(), "no job is left")
    left = campaign.left(30)
    assert not left, left
    ends = Counter(run["state"]["type"] for run in campaign.site.task_runs(campaign.directory))
    assert not ends.keys() & {"RUNNING", "PENDING", "SCHEDULED"}, ends
    runs = Counter(run["state"]["type"] for run in campaign.site.flow_runs(campaign.directory))
    assert not runs.keys() & {"RUNNING", "PENDING", "SCHEDULED"}, runs
    fates = Counter(event.fate for event in campaign.lost())
    return (
        f"{len(stored)} labels by {campaign.starts} calculations; lost: {dict(fates)}; "
        f"flow runs: {dict(runs)}; done to it: {dict(chaos.done)}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1, help="the first one")
    parser.add_argument(
        "--patience", type=float, default=900, help="seconds for a campaign that is left alone"
    )
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="soak-", dir="/tmp"))
    until = time.monotonic() + 60 * asked.minutes
    print(f"campaigns in {folder}")
    with running(folder / "slurm") as slurm, site(slurm) as place:
        for seed in itertools.count(asked.seed):
            chaos = disturbed(place, folder / f"seed-{seed}", seed, until, asked.patience)
            print(f"seed {seed}: {judge(chaos)}", flush=True)
            slurm.clear()
            if time.monotonic() >= until:
                return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
