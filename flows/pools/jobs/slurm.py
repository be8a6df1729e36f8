"""Slurm's commands, as a pool of jobs needs them: what there is, and cancelling it.

No Dask and no Prefect here: the guard of a run, which outlives it, uses this too.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

PATIENCE_S = 60.0
"""How long one command may take; a controller that is busy answers late."""

_WITHHELD = ("PREFECT_", "SQUEUE_", "SCANCEL_")
"""Beginnings of variables that commands do not get: a job's environment is kept by Slurm, and shown
to administrators; and what the user's shell says of squeue and scancel would hide jobs from us."""

_OF_ALL_JOBS = frozenset({"SLURM_CLUSTERS", "SLURM_CONF", "SLURM_JWT", "SLURM_MPI_TYPE"})

_BUSY = re.compile(
    r"timed out|time out|unable to contact|connection refused|connection reset|try again|"
    r"temporarily|zero bytes|slurmctld|communication|too many|not responding|"
    r"(Max|Grp)(Submit)?Jobs?(Per\w+)?Limit|resource.*unavailable|munge|no route|unreachable",
    re.IGNORECASE,
)
"""What Slurm says when another time may be better; limits of the number of jobs are such."""

WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT"})
RUNNING = frozenset({"RUNNING", "CONFIGURING"})
ENDED = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"}
    | {"PREEMPTED", "REVOKED", "TIMEOUT"}
)
"""States of Slurm (squeue's manual, Job State Codes); `ENDED`, because the job ran."""

_FORM = "%i|%T|%L|%S|%r|%N|%o"
_LEFT = re.compile(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)")


class SlurmSilentError(Exception):
    """Slurm does not answer, or cannot at the moment."""


class SlurmRefusedError(Exception):
    """Slurm refuses what it was asked for."""


@dataclass(frozen=True)
class Listed:
    """A job as Slurm shows it.

    Attributes:
        id: Its number.
        state: Its state, such as `PENDING`.
        left_s: How long it may still run (s); None without a limit, or while it does not run.
        start: When it began, as Slurm writes it; another time after it was requeued.
        reason: Why it waits, or why it ended.
        nodes: Where it runs.
        script: The script that it was submitted with.
    """

    id: str
    state: str
    left_s: float | None
    start: str
    reason: str
    nodes: str
    script: Path


def jobs(folder: Path, timeout_s: float = PATIENCE_S) -> list[Listed]:
    """Return the jobs whose scripts lie in a folder, those that ended a moment ago included.

    Raises:
        SlurmSilentError: Slurm does not answer.
    """
    user = str(os.getuid())
    text = _run(["squeue", "-h", "-t", "all", "-u", user, "-o", _FORM], timeout_s)
    lines = (line.split("|", 6) for line in text.splitlines())
    listed = [
        Listed(id_, state, left(time), start, reason, nodes, Path(script))
        for id_, state, time, start, reason, nodes, script in (
            row for row in lines if len(row) == 7
        )
    ]
    return [job for job in listed if job.script.parent == folder]


def cancel(ids: Collection[str], timeout_s: float = PATIENCE_S) -> None:
    """Cancel jobs; those that have ended meanwhile are no error.

    Raises:
        SlurmSilentError: Slurm does not answer.
    """
    if ids:
        with contextlib.suppress(SlurmRefusedError):  # one has ended; the next look tells of others
            _run(["scancel", *ids], timeout_s)


def submit(script: Path, timeout_s: float = PATIENCE_S) -> str:
    """Submit a script; return the job's number.

    Raises:
        SlurmRefusedError: Slurm does not take it; the text is its own.
        SlurmSilentError: Slurm does not answer.
    """
    told = _run(["sbatch", "--parsable", str(script)], timeout_s)
    number = re.search(r"^(\d+)", told, re.MULTILINE)
    if number is None:
        raise SlurmRefusedError(f"sbatch says {told.strip()!r}")
    return number[1]


def tried(script: Path, timeout_s: float = PATIENCE_S) -> str:
    """Ask Slurm whether it would take a script; return what it says.

    Raises:
        SlurmRefusedError: It would not; the text is its own.
        SlurmSilentError: Slurm does not answer.
    """
    return _run(["sbatch", "--test-only", str(script)], timeout_s, everything=True).strip()


def left(text: str) -> float | None:
    """Read a time of squeue such as `1-02:03:04` (s); None for one that is no time."""
    if text.strip() == "INVALID":
        return 0.0  # it is over; Slurm will end the job at its next look
    found = _LEFT.fullmatch(text.strip())
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment for commands of Slurm, which may hand it on to jobs.

    A run that is in a job itself keeps to itself what Slurm says of that job (`SLURM_MEM_PER_NODE`
    and others): a `srun` in one of its jobs would take it for its own.
    """
    own = "SLURM_JOB_ID" in environment
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(_WITHHELD)
        and not (own and name.startswith("SLURM_") and name not in _OF_ALL_JOBS)
    }


def _run(command: list[str], timeout_s: float, everything: bool = False) -> str:
    """Run a command of Slurm, and tell silence from refusal."""
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
        raise SlurmSilentError(f"{command[0]} does not answer within {timeout_s:.0f} s") from error
    except OSError as error:
        raise SlurmSilentError(f"{command[0]} cannot be run: {error.strerror}") from error
    if ended.returncode == 0:
        return ended.stdout + (ended.stderr if everything else "")
    told = " ".join(ended.stderr.split()) or f"{command[0]} ended with {ended.returncode}"
    if command[0] == "squeue" or _BUSY.search(told):
        raise SlurmSilentError(told)
    raise SlurmRefusedError(told)
