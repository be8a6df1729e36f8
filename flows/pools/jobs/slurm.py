"""Slurm: its commands and its variables, as a pool of jobs needs them. Nothing else speaks Slurm.

No Dask and no Prefect here: the cleaner of a run, which outlives it, uses this too.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from aimspax_core.settings.sbatch.header import JobHeader
from flows.pools.jobs.scheduler import (
    PATIENCE_S,
    Environment,
    Listed,
    SchedulerRefusedError,
    SchedulerSilentError,
    State,
)

if TYPE_CHECKING:
    from aimspax_core.settings.cluster import BatchJobs, Slot

_WITHHELD = ("PREFECT_", "SQUEUE_", "SCANCEL_")
"""Beginnings of variables that commands do not get: Slurm keeps the environment of a job, and shows
it to administrators; and the user's own settings of squeue and scancel would hide jobs."""

_OF_ALL_JOBS = frozenset({"SLURM_CLUSTERS", "SLURM_CONF", "SLURM_JWT", "SLURM_MPI_TYPE"})

_BUSY = re.compile(
    r"timed out|time out|unable to contact|connection refused|connection reset|try again|"
    r"temporarily|zero bytes|slurmctld|communication|too many|not responding|"
    r"(Max|Grp)(Submit)?Jobs?(Per\w+)?Limit|resource.*unavailable|munge|no route|unreachable",
    re.IGNORECASE,
)
"""What Slurm says when another time may be better; limits of the number of jobs are such."""

_STATES = {
    **dict.fromkeys(
        ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT"), State.WAITING
    ),
    **dict.fromkeys(("RUNNING", "CONFIGURING"), State.RUNNING),
    "COMPLETING": State.ENDING,
    "COMPLETED": State.COMPLETED,
    "FAILED": State.FAILED,
    "TIMEOUT": State.OUT_OF_TIME,
    "OUT_OF_MEMORY": State.OUT_OF_MEMORY,
    "CANCELLED": State.CANCELLED,
    "PREEMPTED": State.PREEMPTED,
    "NODE_FAIL": State.NODE_LOST,
    **dict.fromkeys(("BOOT_FAIL", "DEADLINE", "REVOKED"), State.ENDED),
}
"""States of Slurm (squeue's manual, Job State Codes); the others are of jobs that are paused."""

_STUCK = frozenset(
    {"PartitionConfig", "PartitionTimeLimit", "PartitionNodeLimit", "BadConstraints"}
    | {"InvalidAccount", "InvalidQOS", "AccountNotAllowed", "QOSNotAllowed"}
    | {"QOSMaxWallDurationPerJobLimit", "AssocMaxWallDurationPerJobLimit"}
    | {"JobHeldUser", "JobHeldAdmin", "DependencyNeverSatisfied"}
)
"""Reasons of a job that waits which do not go away by themselves."""

_EXPORT = "SLURM_EXPORT_ENV"
"""Set by `--export=NONE`; a `srun` would then have nothing of the job's environment."""

_OF_THE_JOB = (
    *("SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_NTASKS_PER_CORE", "SLURM_NTASKS_PER_SOCKET"),
    *("SLURM_NPROCS", "SLURM_TASKS_PER_NODE", "SLURM_CPUS_PER_TASK", "SRUN_CPUS_PER_TASK"),
    *("SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU", "SLURM_MEM_PER_GPU", "SLURM_TRES_PER_TASK"),
    "SLURM_THREADS_PER_CORE",
)
"""What a plain `srun` would take from the job, and so take all of it."""

_FORM = "%i|%T|%L|%S|%r|%N|%o"
_LEFT = re.compile(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)")


class Slurm:
    """See `Scheduler`."""

    title = "Slurm"
    commands = ("sbatch", "squeue", "scancel")
    starts_programs = True

    def submit(self, script: Path, timeout_s: float = PATIENCE_S) -> str:
        """See `Scheduler.submit`."""
        answer = _run(["sbatch", "--parsable", str(script)], timeout_s)
        number = re.search(r"^(\d+)", answer, re.MULTILINE)
        if number is None:
            raise SchedulerRefusedError(f"sbatch says {answer.strip()!r}")
        return number[1]

    def jobs(self, folder: Path, timeout_s: float = PATIENCE_S) -> list[Listed]:
        """See `Scheduler.jobs`."""
        user = str(os.getuid())
        text = _run(["squeue", "-h", "-t", "all", "-u", user, "-o", _FORM], timeout_s)
        rows = (line.split("|", 6) for line in text.splitlines())
        listed = [_listed(*row) for row in rows if len(row) == 7]
        return [job for job in listed if job.script.parent == folder]

    def cancel(self, ids: Collection[str], timeout_s: float = PATIENCE_S) -> None:
        """See `Scheduler.cancel`."""
        if ids:
            with contextlib.suppress(SchedulerRefusedError):  # one has ended; the list shows others
                _run(["scancel", *ids], timeout_s)

    def tried(self, script: Path, timeout_s: float = PATIENCE_S) -> str:
        """See `Scheduler.tried`."""
        return _run(["sbatch", "--test-only", str(script)], timeout_s, everything=True).strip()

    def header(self, jobs: BatchJobs, output: str) -> list[str]:
        """See `Scheduler.header`: the user's options, and what they leave open."""
        given = cast(JobHeader, jobs.header)
        lines = [*given.lines()]
        if not given.has("output"):
            lines.append(f'--output="{output.replace("%", "%%")}%j.out"')
        if not given.has("open-mode"):
            lines.append("--open-mode=append")  # what a job printed before it was requeued stays
        return [f"#SBATCH {line}" for line in lines]

    def environment(self, jobs: BatchJobs, shared: bool) -> Environment:
        """See `Scheduler.environment`."""
        if not shared or jobs.per_slot is None:
            return Environment(unset=(_EXPORT,))
        return Environment(steps(jobs, jobs.per_slot), (_EXPORT, *_OF_THE_JOB))

    def controller(self) -> str | None:
        """See `Scheduler.controller`."""
        try:
            text = _run(["scontrol", "show", "config"], 20.0)
        except (SchedulerSilentError, SchedulerRefusedError):
            return None
        found = re.search(r"^SlurmctldHost\S*\s*=\s*([^\s(,]+)(?:\(([^)]+)\))?", text, re.M)
        return None if found is None else found[2] or found[1]


def _listed(
    id_: str, state: str, time: str, start: str, reason: str, nodes: str, script: str
) -> Listed:
    """Return a row of squeue."""
    reason = "" if reason == "None" else reason
    found = _STATES.get(state, State.PAUSED)
    stuck = found is State.WAITING and reason in _STUCK
    return Listed(id_, found, Path(script), state, left(time), start, reason, stuck, nodes)


def steps(jobs: BatchJobs, slot: Slot) -> dict[str, str]:
    """Return what gives each plain `srun` of a job its own share, so that several run at once.

    Source: srun's manual, Input Environment Variables; tried with Slurm 22.05.

    Args:
        jobs: What the settings say of the jobs.
        slot: What one calculation may have.
    """
    threads = int(cast(JobHeader, jobs.header).get("cpus-per-task") or 1)
    on_a_node = jobs.header.cores_per_node
    nodes = math.ceil(slot.cores / on_a_node) if slot.cores and on_a_node else 1
    variables = {
        "SLURM_EXACT": "1",  # not all cores of the nodes
        "SLURM_CPUS_PER_TASK": str(threads),
        "SRUN_CPUS_PER_TASK": str(threads),
        "SLURM_MEM_PER_NODE": str(int((slot.memory_mb or 0) / nodes)),  # 0: it is shared
    }
    if slot.cores is not None:
        variables["SLURM_NTASKS"] = str(max(1, slot.cores // threads))
    if nodes == 1:
        variables |= {"SLURM_NNODES": "1", "SLURM_JOB_NUM_NODES": "1"}
    return variables


def left(text: str) -> float | None:
    """Read a time of squeue such as `1-02:03:04` (s); None for what is no time."""
    if text.strip() == "INVALID":
        return 0.0  # the time is over; Slurm will end the job at its next look
    found = _LEFT.fullmatch(text.strip())
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment for commands of Slurm, which may hand it on to jobs.

    A run that is in a job itself does not hand on what Slurm says of that job (`SLURM_MEM_PER_NODE`
    and others): a `srun` in one of the run's jobs would take it for its own.
    """
    own = "SLURM_JOB_ID" in environment
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(_WITHHELD)
        and not (own and name.startswith("SLURM_") and name not in _OF_ALL_JOBS)
    }


def _run(command: list[str], timeout_s: float, everything: bool = False) -> str:
    """Run a command of Slurm; return what it prints.

    Raises:
        SchedulerSilentError: It does not answer, or says that another time may be better.
        SchedulerRefusedError: It refuses.
    """
    try:
        ended = subprocess.run(
            command,
            env=without_secrets(os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SchedulerSilentError(
            f"{command[0]} does not answer within {timeout_s:.0f} s"
        ) from error
    except OSError as error:
        raise SchedulerSilentError(f"{command[0]} cannot be run: {error.strerror}") from error
    if ended.returncode == 0:
        return ended.stdout + (ended.stderr if everything else "")
    answer = " ".join(ended.stderr.split()) or f"{command[0]} ended with {ended.returncode}"
    if command[0] == "squeue" or _BUSY.search(answer):
        raise SchedulerSilentError(answer)
    raise SchedulerRefusedError(answer)
