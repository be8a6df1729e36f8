"""What `aimspax check` shows of batch jobs: their scripts, and whether they would be taken."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from aimspax_core.errors import SettingsError
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.cluster import BatchJobs
from aimspax_core.settings.settings import Settings
from flows.pools.jobs.address import reachable_address
from flows.pools.jobs.scheduler import (
    Scheduler,
    SchedulerRefusedError,
    SchedulerSilentError,
    scheduler,
)
from flows.pools.jobs.script import BatchJob, key_files, output_of_jobs


@dataclass(frozen=True)
class Script:
    """The script of a pool's jobs, but for numbers that are known at the start only.

    Attributes:
        pool: Name of the pool.
        scheduler: What users call the scheduler.
        text: The script.
        taken: What the scheduler says to the script; empty if it could not be asked.
        problem: Why the scheduler would not take it, or could not be asked; empty if it would.
        refused: Whether the scheduler would not take it.
    """

    pool: str
    scheduler: str
    text: str
    taken: str = ""
    problem: str = ""
    refused: bool = False


def batch_jobs(settings: Settings) -> dict[str, BatchJobs]:
    """Return what the settings say of batch jobs, by pool; nothing if there are none."""
    cluster = settings.cluster
    both = {"reference": cluster.reference_jobs, "ml": cluster.ml_jobs}
    return {name: jobs for name, jobs in both.items() if jobs is not None}


def host_for_jobs(settings: Settings) -> str | None:
    """Return the address at which batch jobs find this machine; None if there are none.

    Raises:
        SettingsError: The scheduler is not here, or nothing can listen at the address.
    """
    jobs = next(iter(batch_jobs(settings).values()), None)
    if jobs is None:
        return None
    queue = scheduler(jobs.scheduler)
    missing = [name for name in queue.commands if shutil.which(name) is None]
    if missing:
        raise SettingsError(
            f"CLUSTER: {queue.title} jobs need {', '.join(missing)}, and it is not found here; "
            "run this where jobs can be submitted, or use `type: local`"
        )
    cluster = settings.cluster
    address = reachable_address(cluster.host, cluster.interface, queue)
    try:
        with socket.socket() as probe:
            probe.bind((address, 0))
    except OSError as error:
        raise SettingsError(
            f"CLUSTER.host: {address} is not an address of this machine ({error.strerror}); "
            f"{queue.title} jobs reach the flow at it. Name another host, or an interface."
        ) from error
    return address


def scripts(settings: Settings) -> Iterator[Script]:
    """Yield the script of each pool's jobs, and what their scheduler says to it."""
    address = host_for_jobs(settings)
    for name, jobs in batch_jobs(settings).items():
        queue = scheduler(jobs.scheduler)
        script = Script(name, queue.title, _text(name, queue, jobs, settings, address))
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "job.sh"
            file.write_text(script.text, encoding="utf-8")
            if wrong := _wrong(file, jobs):
                yield replace(script, problem=wrong, refused=True)
                continue
            try:
                yield replace(script, taken=queue.tried(file))
            except SchedulerRefusedError as error:
                yield replace(script, problem=str(error), refused=True)
            except SchedulerSilentError as error:
                yield replace(script, problem=str(error))


def _wrong(file: Path, jobs: BatchJobs) -> str:
    """Return what bash cannot read in a script, or that its Python is not there; else nothing."""
    read = subprocess.run(
        ["bash", "-n", str(file)], capture_output=True, text=True, errors="replace", check=False
    )
    if read.returncode:
        text = read.stderr.replace(f"{file}: ", "").strip()
        return f"worker_str is no shell script: {text}"
    python = jobs.python
    if python is not None and "/" in python and "$" not in python and not Path(python).exists():
        return f"CLUSTER.python: {python} is not found on this machine"
    return ""


def _text(
    name: str, queue: Scheduler, jobs: BatchJobs, settings: Settings, address: str | None
) -> str:
    run = RunDir.of(settings)
    folder = run.state / jobs.scheduler / f"{name}-PID"
    job = BatchJob(
        f"tls://{address}:PORT",
        f"{name}-0",
        jobs=jobs,
        header=queue.header(jobs, output_of_jobs(run, jobs.scheduler, name)),
        folder=folder,
        security=key_files(folder),
        interface=settings.cluster.interface,
    )
    return str(job.job_script())
