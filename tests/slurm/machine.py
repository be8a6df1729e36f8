"""A real Slurm of two nodes on this machine, and what one does to it in tests."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("one-machine-slurm.sh")
NOT_POSSIBLE = 77


class NotPossible(Exception):
    """Slurm cannot run on this machine; the message says why."""


@dataclass(frozen=True)
class Job:
    """A row of squeue."""

    id: int
    name: str
    state: str
    reason: str


@dataclass(frozen=True)
class Slurm:
    """A running Slurm: node cpu1 (partitions debug and scavenge), node gpu1 (partition gpu).

    Its commands, and the programs that call them, find it by `SLURM_CONF`.
    """

    directory: Path

    @property
    def conf(self) -> Path:
        return self.directory / "etc" / "slurm.conf"

    def submit(self, script: str, *options: str, cwd: Path | None = None) -> int:
        """Hand `script`, a whole batch script, to sbatch; return the job's id."""
        return int(self._do("sbatch", "--parsable", *options, stdin=script, cwd=cwd))

    def jobs(self, *, ended: bool = False) -> list[Job]:
        """All jobs that wait or run; with `ended` also those that are over."""
        states = ["--states=all"] if ended else []
        rows = self._do("squeue", "--noheader", "--format=%i|%j|%T|%r", *states).splitlines()
        fields = [row.split("|") for row in rows]
        return [Job(int(id), name, state, reason) for id, name, state, reason in fields]

    def state(self, job: int) -> str:
        """The state of one job, as squeue names it."""
        (state,) = {row.state for row in self.jobs(ended=True) if row.id == job}
        return state

    def cancel(self, *jobs: int) -> None:
        self._do("scancel", *map(str, jobs))

    def requeue(self, job: int) -> None:
        """Take a running job off its node; it begins again, under the same id, 6 s later."""
        self._do("scontrol", "requeue", str(job))

    def nodes(self) -> dict[str, str]:
        """The state of each node."""
        rows = self._do("sinfo", "--noheader", "--Node", "--format=%N %T").splitlines()
        return dict(row.split() for row in rows)

    def node_down(self, node: str = "cpu1") -> None:
        """Lose a node: its jobs go back to the queue or, with --no-requeue, fail."""
        self._do("scontrol", "update", f"nodename={node}", "state=down", "reason=test")

    def node_up(self, node: str = "cpu1") -> None:
        self._do("scontrol", "update", f"nodename={node}", "state=resume")

    def time_out(self, job: int) -> None:
        """Have a running job's time be up; Slurm looks every 30 s."""
        self._do("scontrol", "update", f"jobid={job}", "endtime=now+1")

    @contextlib.contextmanager
    def controller_frozen(self) -> Iterator[None]:
        """Have slurmctld answer nobody for a while."""
        controller = int((self.directory / "pid" / "slurmctld").read_text())
        os.kill(controller, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(controller, signal.SIGCONT)

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = 90) -> None:
        """Return when `condition()` holds.

        Raises:
            AssertionError: It did not within `seconds`; the message says `what` and all jobs.
        """
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, (
                f"{what}: not within {seconds} s; {self.jobs(ended=True)}"
            )
            time.sleep(0.2)

    def clear(self) -> None:
        """End all jobs, and have both nodes up."""
        ended: set[int] = set()

        def all_idle() -> bool:
            jobs = {job.id for job in self.jobs()}
            # Also one that comes late: from an sbatch that was ended as the controller was frozen.
            if new := jobs - ended:
                self.cancel(*new)
                ended.update(new)
            nodes = self.nodes()
            for node, state in nodes.items():
                if state.startswith(("down", "drain")):
                    self.node_up(node)
            return not jobs and {*nodes.values()} == {"idle"}

        self.wait(all_idle, "all idle")

    def _do(self, *command: str, stdin: str | None = None, cwd: Path | None = None) -> str:
        done = subprocess.run(
            command,
            input=stdin,
            cwd=cwd,
            env={**os.environ, "SLURM_CONF": str(self.conf)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout.strip()


@contextlib.contextmanager
def running(directory: Path) -> Iterator[Slurm]:
    """Start a Slurm under `directory` (a short path: sockets), and end it with all its jobs.

    If this process is killed, Slurm ends by itself.

    Raises:
        NotPossible: Slurm cannot run here.
        RuntimeError: It could, but did not start.
    """
    try:
        _script("start", directory)
        yield Slurm(directory)
    finally:
        _script("stop", directory)


def _script(what: str, directory: Path) -> None:
    done = subprocess.run(
        [SCRIPT, what],
        env=os.environ | {"SLURM_TEST_DIR": str(directory), "SLURM_TEST_OWNER": str(os.getpid())},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == NOT_POSSIBLE:
        raise NotPossible(done.stderr.strip())
    if done.returncode:
        raise RuntimeError(f"{SCRIPT.name} {what}: {done.stderr.strip()}")
