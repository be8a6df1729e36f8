"""The script of a Slurm job of a pool: the user's header and shell lines, then a Dask worker.

Secrets are in no script: it names files that only their owner can read.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

from dask_jobqueue.slurm import SLURMCluster, SLURMJob
from distributed.security import Security

from aimspax_core.run_directory import RunDir
from aimspax_core.settings.cluster import SlurmJobs
from flows.pools.jobs.job import margin_s
from flows.pools.preload import NO_PAGES, POOL, SCRATCH

TCP = "300s"
"""How long a connection may be silent: a network that hiccups costs no calculation."""

_SCRATCH = f'--local-directory "${SCRATCH}"'

DEATH_S = 60
"""A worker that does not find its scheduler for so long ends, and its job with it."""


class BlockJob(SLURMJob):
    """One job: `nodes_per_block` nodes, with one worker in its batch step for each calculation.

    The engine's launch line (`srun …`) has the whole allocation, or its share of it.

    Args:
        scheduler: Address of the Dask scheduler.
        name: Name of the job's worker.
        block: What the settings say of such jobs.
        folder: Where the pool keeps what workers need.
        log: Where the job's output goes; may have Slurm's patterns (`%j`).
        security: With the files of the keys.
        interface: Network interface of the nodes that the worker listens on.
    """

    def __init__(
        self,
        scheduler: str | None = None,
        name: str | None = None,
        *,
        block: SlurmJobs,
        folder: Path,
        log: str,
        security: Security | None = None,
        interface: str | None = None,
        protocol: str | None = None,
        config_name: str | None = None,
    ) -> None:
        super().__init__(
            scheduler,
            name,
            cores=block.slots,
            processes=block.slots,
            memory="1 GB",  # has no effect: header and command are below
            protocol=protocol,
            security=security,
            interface=interface,
            config_name=config_name,
            shebang="#!/bin/bash",
            job_script_prologue=[
                block.prologue.rstrip("\n"),
                f"export {POOL}={shlex.quote(str(folder))}",
                f"export DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP={TCP}",
                *(f"export {name}='{value}'" for name, value in NO_PAGES.items()),
                # Not Dask's own folder in /tmp, which may be another user's.
                f"export {SCRATCH}=$(mktemp -d) || exit 1",
            ],
        )
        self.job_header = "\n".join(f"#SBATCH {line}" for line in header(block, log))
        command = [block.python or sys.executable, "-P", "-m", "distributed.cli.dask_worker"]
        command += [str(scheduler), *self._options(block, str(name), security, interface)]
        self._command_template = " ".join(
            ["exec", shlex.join(command), _SCRATCH, *_lifetime(block)]
        )

    def _options(
        self, block: SlurmJobs, name: str, security: Security | None, interface: str | None
    ) -> list[str]:
        options = {
            "--name": name,
            "--nthreads": "1",
            "--nworkers": str(block.slots),
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
        return [*flat, "--no-dashboard", *(several if block.slots > 1 else ["--no-nanny"])]


class BlockCluster(SLURMCluster):
    """The scheduler of a pool of Slurm jobs, and the scripts of its jobs.

    Its jobs are submitted and watched by `Fleet`: `scale` and `adapt` do not replace jobs that
    end, and do not say why Slurm refuses one.
    """

    job_cls: type[SLURMJob] = BlockJob

    def script(self, name: str) -> str:
        """Return the script of the job whose worker has a name."""
        options: dict[str, Any] = self.new_spec["options"]
        return str(BlockJob(self.scheduler_address, name, **options).job_script())


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


def header(block: SlurmJobs, log: str) -> list[str]:
    """Return the options of a job for Slurm: the user's, and what they leave open."""
    given = block.header
    lines = [*given.lines()]
    if not given.has("output"):
        lines.append(f'--output="{log}"')
    if not given.has("open-mode"):
        lines.append("--open-mode=append")  # what a job said before it was requeued stays
    return lines


def _lifetime(block: SlurmJobs) -> list[str]:
    """Have workers leave in order before their job is killed, and not all at once.

    Bash counts the seconds since the script began.
    """
    if block.walltime_s is None:
        return []
    margin = margin_s(block.walltime_s)
    seconds = int(block.walltime_s - margin)
    return [f'--lifetime "$(({seconds} - SECONDS)) seconds"', f"--lifetime-stagger {margin / 2:g}s"]


def job_log(run: RunDir, pool: str) -> str:
    """Return where the jobs of a pool write their output, for `#SBATCH --output`."""
    return str(run.logs / f"slurm-{pool}-").replace("%", "%%") + "%j.out"
