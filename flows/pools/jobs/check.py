"""What `aimspax check` tells of Slurm: the job scripts, and whether Slurm would take them."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aimspax_core.errors import SettingsError
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.cluster import SlurmJobs
from aimspax_core.settings.settings import Settings
from flows.pools.address import reachable_address
from flows.pools.jobs import slurm
from flows.pools.jobs.script import BlockJob, key_files
from flows.pools.jobs.slurm import SlurmRefusedError, SlurmSilentError


@dataclass(frozen=True)
class Script:
    """The script of a pool's jobs, but for numbers that are known at the start only.

    Attributes:
        pool: Whose it is.
        text: The script.
        taken: What Slurm says to it; empty if it could not be asked.
        problem: Why Slurm would not take it, or could not be asked; empty if it would.
        refused: Whether Slurm would not take it.
    """

    pool: str
    text: str
    taken: str = ""
    problem: str = ""
    refused: bool = False


def slurm_pools(settings: Settings) -> dict[str, SlurmJobs]:
    """Return what the settings say of Slurm jobs, by pool; nothing if there are none."""
    cluster = settings.cluster
    both = {"reference": cluster.reference_jobs, "ml": cluster.ml_jobs}
    return {name: jobs for name, jobs in both.items() if jobs is not None}


def host_for_jobs(settings: Settings) -> str | None:
    """Return the address at which Slurm jobs find this machine; None if there are none.

    Raises:
        SettingsError: It cannot be listened at.
    """
    if not slurm_pools(settings):
        return None
    missing = [name for name in ("sbatch", "squeue", "scancel") if shutil.which(name) is None]
    if missing:
        raise SettingsError(
            f"CLUSTER: Slurm jobs need {', '.join(missing)}, and it is not found here; run this "
            "where jobs can be submitted, or use `type: local`"
        )
    cluster = settings.cluster
    address = reachable_address(cluster.host, cluster.interface)
    try:
        with socket.socket() as probe:
            probe.bind((address, 0))
    except OSError as error:
        raise SettingsError(
            f"CLUSTER.host: {address} is not an address of this machine ({error.strerror}); Slurm "
            "jobs reach the flow at it. Name another host, or an interface."
        ) from error
    return address


def scripts(settings: Settings) -> Iterator[Script]:
    """Yield the script of each pool's jobs, and what Slurm says to it."""
    address = host_for_jobs(settings)
    for name, jobs in slurm_pools(settings).items():
        text = _text(name, jobs, settings, f"tls://{address}:PORT")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "job.sh"
            file.write_text(text, encoding="utf-8")
            if wrong := _wrong(file, jobs):
                yield Script(name, text, problem=wrong, refused=True)
                continue
            try:
                yield Script(name, text, taken=slurm.tried(file))
            except SlurmRefusedError as error:
                yield Script(name, text, problem=str(error), refused=True)
            except SlurmSilentError as error:
                yield Script(name, text, problem=str(error))


def _wrong(file: Path, jobs: SlurmJobs) -> str:
    """Say what bash could not read of a script, or that its Python is not there."""
    read = subprocess.run(
        ["bash", "-n", str(file)], capture_output=True, text=True, errors="replace", check=False
    )
    if read.returncode:
        told = read.stderr.replace(f"{file}: ", "").strip()
        return f"worker_str is no shell script: {told}"
    python = jobs.python
    if python is not None and "/" in python and "$" not in python and not Path(python).exists():
        return f"CLUSTER.python: {python} is not found on this machine"
    return ""


def _text(name: str, jobs: SlurmJobs, settings: Settings, scheduler: str) -> str:
    from flows.pools.jobs.script import job_log

    run = RunDir.of(settings)
    folder = run.state / "slurm" / f"{name}-PID"
    job = BlockJob(
        scheduler,
        f"{name}-0",
        block=jobs,
        folder=folder,
        log=job_log(run, name),
        security=key_files(folder),
        interface=settings.cluster.interface,
    )
    return str(job.job_script())
