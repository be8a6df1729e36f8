"""The table of schedulers: what `CLUSTER.type` may name beside `local`, and where each lives.

A row names its parts as text (`package.module:name`), since a scheduler itself belongs to `flows`,
which the settings do not import; they are imported when a run uses them.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


class JobOptions(Protocol):
    """The options of a pool's jobs (cores, memory, time limit, ...) as their scheduler reads them.

    Attributes:
        notes: What was read, but may not be meant; a line each.
        hints: How to ask for `cores`, `memory` and `disk` of a node, for `gpus` and for a time
            limit (`time`), as users would write it.
        job_name: Name of the jobs; None if the options have none.
        has_limit: Whether the options have a time limit, be it that there is none.
        walltime_s: The time limit (s); None if there is none.
        cores_per_node: Cores of a job on each of its nodes; None if the options do not say it.
        memory_per_node_mb: Memory of a job on each of its nodes (MB); None likewise.
        disk_per_node_mb: Temporary disk of a job on each of its nodes (MB); None likewise.
        gpus_per_node: GPUs of a job on each of its nodes; 0 if the options ask for none.
    """

    @property
    def notes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def hints(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def job_name(self) -> str | None: ...  # noqa: D102
    @property
    def has_limit(self) -> bool: ...  # noqa: D102
    @property
    def walltime_s(self) -> float | None: ...  # noqa: D102
    @property
    def cores_per_node(self) -> int | None: ...  # noqa: D102
    @property
    def memory_per_node_mb(self) -> float | None: ...  # noqa: D102
    @property
    def disk_per_node_mb(self) -> float | None: ...  # noqa: D102
    @property
    def gpus_per_node(self) -> int: ...  # noqa: D102

    def named(self, name: str) -> JobOptions:
        """Return the same options for jobs of this name."""
        ...


class ReadOptions(Protocol):
    """Reads the text of `CLUSTER.slurm_str`."""

    def __call__(self, text: str, nodes: int, tasks_per_node: int | None = None) -> JobOptions:
        """Return the options that a text holds.

        Args:
            text: As the user wrote it.
            nodes: Nodes of a job, which `nodes_per_block` says.
            tasks_per_node: Tasks on each node, if the key `tasks_per_node` says it.

        Raises:
            ValueError: The text is wrong; the message has a line for each mistake.
        """
        ...


@dataclass(frozen=True)
class SchedulerRow:
    """A scheduler that pools can have their jobs started by.

    Attributes:
        name: Its name in `CLUSTER.type`, and of the folder with the scripts of its jobs.
        title: What users call it.
        options: Where its `ReadOptions` is.
        scheduler: Where its class is, which has the members of `flows.pools.jobs.scheduler`.
        example: Options of a job as users would write them; messages quote it.
        command: Submits jobs; where it is, others can log in.
    """

    name: str
    title: str
    options: str
    scheduler: str
    example: str
    command: str


SCHEDULERS: tuple[SchedulerRow, ...] = (
    SchedulerRow(
        "slurm",
        title="Slurm",
        options="aimspax_core.settings.sbatch.header:read_options",
        scheduler="flows.pools.jobs.slurm:Slurm",
        example="#SBATCH --partition=cpu --ntasks-per-node=128 --time=24:00:00",
        command="sbatch",
    ),
)
"""All schedulers; the first one has the jobs of training if labels are computed here."""


def scheduler_row(name: str) -> SchedulerRow:
    """Return the row of a scheduler; `local` has none, and so has the first."""
    return next((row for row in SCHEDULERS if row.name == name), SCHEDULERS[0])


def options_reader(name: str) -> ReadOptions:
    """Return what reads the options of a scheduler's jobs."""
    reader: ReadOptions = pkgutil.resolve_name(scheduler_row(name).options)
    return reader
