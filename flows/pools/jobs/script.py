"""The script of a job of a pool: its options and the user's shell lines, then a Dask worker.

Secrets are in no script: it names files that only their owner can read.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distributed.security import Security

from aimspax_core.run_directory import RunDir
from aimspax_core.settings.cluster import BatchJobs
from flows.pools.environment import CALM_JOB, MEMORY
from flows.pools.jobs.job import margin_s
from flows.pools.jobs.no_handlers import no_handlers_set
from flows.pools.preload import NO_PAGES, POOL, SCRATCH

# It would take over Ctrl-C, and could not be imported in a thread, where Prefect imports flows too.
with no_handlers_set():
    from dask_jobqueue.core import Job, JobQueueCluster

TCP = "300s"
"""How long a connection may be silent: a network that hiccups costs no calculation."""

_SCRATCH = f'--local-directory "${SCRATCH}"'

DEATH_S = 60
"""A worker that does not find its scheduler for so long ends, and its job with it."""


class BatchJob(Job):
    """One job: `nodes_per_block` nodes, with one worker on the first for each calculation.

    The engine's launch line (`srun …`) has the whole allocation, or its share of it.

    Args:
        scheduler: Address of the Dask scheduler.
        name: Name of the job's worker.
        jobs: What the settings say of such jobs.
        header: The lines at the head of the script, for the scheduler of jobs.
        folder: Where the pool keeps what workers need.
        security: With the files of the keys.
        interface: Network interface of the nodes that the worker listens on.
    """

    config_name = "local"  # whose settings of dask-jobqueue say nothing of a scheduler

    def __init__(
        self,
        scheduler: str | None = None,
        name: str | None = None,
        *,
        jobs: BatchJobs,
        header: Sequence[str],
        folder: Path,
        security: Security | None = None,
        interface: str | None = None,
        protocol: str | None = None,
        config_name: str | None = None,
    ) -> None:
        super().__init__(
            scheduler,
            name,
            cores=jobs.slots,
            processes=jobs.slots,
            memory="1 GB",  # has no effect: header and command are below
            protocol=protocol,
            security=security,
            interface=interface,
            config_name=config_name,
            shebang="#!/bin/bash",
            job_script_prologue=[
                jobs.prologue.rstrip("\n"),
                f"export {POOL}={shlex.quote(str(folder))}",
                f"export DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP={TCP}",
                *(f"export {name}='{value}'" for name, value in (NO_PAGES | CALM_JOB).items()),
                *(f'export {name}="${{{name}:-{value}}}"' for name, value in MEMORY.items()),
                # Not Dask's own folder in /tmp, which may be another user's.
                f"export {SCRATCH}=$(mktemp -d) || exit 1",
            ],
        )
        self.job_header = "\n".join(header)
        command = [jobs.python or sys.executable, "-P", "-m", "distributed.cli.dask_worker"]
        command += [str(scheduler), *self._options(jobs, str(name), security, interface)]
        self._command_template = " ".join(["exec", shlex.join(command), _SCRATCH, *_lifetime(jobs)])

    def _options(
        self, jobs: BatchJobs, name: str, security: Security | None, interface: str | None
    ) -> list[str]:
        options = {
            "--name": name,
            "--nthreads": "1",
            "--nworkers": str(jobs.slots),
            "--memory-limit": "0",
            "--death-timeout": str(DEATH_S),
            "--dashboard-address": "127.0.0.1:0",
            "--preload": "flows.pools.preload",
        }
        if interface:
            options["--interface"] = interface
        if security is not None:
            files = security.get_tls_config_for_role("worker")
            options |= {
                f"--tls-{key.replace('_', '-')}": file
                for key, file in files.items()
                if key != "ciphers"  # has no option
            }
        # A nanny keeps several workers of one job apart; one alone ends with its job.
        several = ["--nanny", "--preload-nanny", "flows.pools.preload"]
        flat = [part for pair in options.items() for part in pair]
        return [*flat, "--no-dashboard", *(several if jobs.slots > 1 else ["--no-nanny"])]


class BatchCluster(JobQueueCluster):
    """The Dask scheduler of a pool of jobs, and the scripts of its jobs.

    Its jobs are submitted and watched by `Fleet`: `scale` and `adapt` do not replace jobs that
    end, and do not say why a job is refused.
    """

    job_cls: type[Job] = BatchJob

    def script(self, name: str) -> str:
        """Return the script of the job whose worker has a name."""
        options: dict[str, Any] = self.new_spec["options"]
        return str(BatchJob(self.scheduler_address, name, **options).job_script())


def keys(folder: Path) -> Security:
    """Make the keys of a pool: who has them may talk to its scheduler and workers, nobody else.

    Args:
        folder: Gets them, in files that only their owner can read.
    """
    for kind, text in Security.temporary().get_tls_config_for_role("worker").items():
        if kind != "ciphers":
            place = folder / f"{kind}.pem"
            descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
    return key_files(folder)


def key_files(folder: Path) -> Security:
    """Return where the keys of a pool are."""
    pair = {kind: str(folder / f"{kind}.pem") for kind in ("key", "cert")}
    roles = ("scheduler", "worker", "client")
    files = {f"tls_{role}_{kind}": file for role in roles for kind, file in pair.items()}
    return Security(require_encryption=True, tls_ca_file=str(folder / "ca_file.pem"), **files)


def _lifetime(jobs: BatchJobs) -> list[str]:
    """Have workers leave in order before their job is killed, and not all at once.

    Bash counts the seconds since the script began.
    """
    if jobs.walltime_s is None:
        return []
    margin = margin_s(jobs.walltime_s)
    seconds = int(jobs.walltime_s - margin)
    return [f'--lifetime "$(({seconds} - SECONDS)) seconds"', f"--lifetime-stagger {margin / 2:g}s"]


def output_of_jobs(run: RunDir, scheduler: str, pool: str) -> str:
    """Return where the jobs of a pool write their output: a job's file is `<this><id>.out`."""
    return str(run.logs / f"{scheduler}-{pool}-")
