"""CLUSTER: where labels are computed, and where training and MD run; this machine, or batch jobs.

Source: aims-PAX README, section "CLUSTER", and the second generation's keys. `ml` is ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from aimspax_core.settings.reading.mistakes import (
    Mistake,
    MistakeKind,
    conflict,
    missing,
    mistaken,
    wrong_value,
)
from aimspax_core.settings.schedulers import SCHEDULERS, JobOptions, options_reader, scheduler_row
from aimspax_core.settings.values import AnyCase, Count, Natural, NonNegative, Positive, Section

if TYPE_CHECKING:
    Type = str
else:
    Type = Literal[("local", *(row.name for row in SCHEDULERS))]

_NAME = "aimspax"


def _first_blocks(known: dict[str, Any]) -> int:
    return int(min(max(1, known.get("min_blocks", 0)), known.get("max_blocks", 1)))


class Blocks(Section):
    """`blocks`: how many Slurm jobs there are, and of how many nodes each; `parsl_options` once."""

    nodes_per_block: Count = Field(1, description="Nodes of a job.")
    min_blocks: Natural = Field(0, description="Jobs that are kept, with nothing to do too.")
    max_blocks: Count = Field(1, description="Jobs at the same time at most.")
    init_blocks: Natural = Field(
        default_factory=_first_blocks,
        description="Jobs at the start; not given: 1, or `min_blocks`.",
    )
    label: str | None = Field(None, description="Name of the jobs, if no other key has one.")

    @field_validator("max_blocks")
    @classmethod
    def _enough(cls, most: int, info: ValidationInfo) -> int:
        least = info.data.get("min_blocks", 0)
        if most < least:
            raise wrong_value(f"at least min_blocks, {least}")
        return most

    @field_validator("init_blocks")
    @classmethod
    def _between(cls, first: int, info: ValidationInfo) -> int:
        if "max_blocks" not in info.data:
            return first  # that is the mistake
        least, most = info.data.get("min_blocks", 0), info.data.get("max_blocks", math.inf)
        if not least <= first <= most:
            raise wrong_value(f"from min_blocks, {least}, to max_blocks, {most}")
        return first


class MlBlocks(Blocks):
    """`ml.blocks`: the same for the jobs of training and MD."""

    nodes_per_block: Literal[1] = Field(
        1, description="Nodes of a job; its processes run on one. More of them are more jobs."
    )
    min_blocks: Natural = Field(1, description="Jobs that are kept, with nothing to do too.")
    max_blocks: Count = Field(
        1, description="Jobs at the same time at most; not given: as `max_workers` needs."
    )


@dataclass(frozen=True)
class Slot:
    """What one of several calculations in a job may have.

    Attributes:
        cores: Its cores; None if the options of the job do not say how many there are.
        memory_mb: Its memory; None likewise.
    """

    cores: int | None
    memory_mb: float | None


@dataclass(frozen=True)
class BatchJobs:
    """Jobs of one kind, as a pool starts them.

    Attributes:
        scheduler: What starts them, by its name in the table of schedulers.
        name: Their name in the queue.
        header: Their options, complete but for files of output.
        prologue: Shell lines that run in a job before Python starts.
        blocks: How many there are, and of how many nodes.
        slots: Calculations, or processes that train and run MD, at once in a job.
        walltime_s: Time limit (s); None if the options have none.
        python: Python of the jobs; None: that of the flow.
        per_slot: What each of several calculations in a job may have; None if there is one.
    """

    scheduler: str
    name: str
    header: JobOptions
    prologue: str
    blocks: Blocks
    slots: int
    walltime_s: float | None
    python: str | None
    per_slot: Slot | None

    @property
    def most(self) -> int:
        """Calculations, or processes, at once in all jobs together."""
        return self.blocks.max_blocks * self.slots


class MlPool(Section):
    """`ml`: the workers that train and run MD."""

    max_workers: Count | None = Field(
        None,
        description="Processes; not given: one a core, at most one a member; on a GPU one. In "
        "Slurm jobs: one a GPU of the job (`--gres=gpu:2`), or one a job.",
    )
    blocks: MlBlocks = Field(MlBlocks(), description="How many Slurm jobs.")
    slurm_str: str | None = Field(
        None,
        description="The `#SBATCH` lines of Slurm jobs of their own; not given: training and MD "
        "run on the machine of the flow.",
    )
    worker_str: str = Field("", description="Shell lines that run in a job before Python starts.")


class _Wanted(NamedTuple):
    """What a calculation wants of a resource, and what a node of the job has of it."""

    key: str
    wanted: float | None
    there: float | None
    option: str


class Cluster(Section):
    """CLUSTER: where labels are computed, and where training and MD run."""

    type: Annotated[Type, AnyCase()] = Field(
        "local",
        description="Labels are computed on this machine, or in Slurm jobs. Not given: `slurm` "
        "if there is `slurm_str`, `worker_str` or `blocks`.",
    )
    max_workers: Count = Field(
        4, description="Labels computed at the same time; with `slurm`, `blocks` say it."
    )
    project_name: str | None = Field(
        None, description="Name of the Slurm jobs, if `slurm_str` has none."
    )
    blocks: Blocks = Field(
        Blocks(), description="How many Slurm jobs. The original's name is `parsl_options`."
    )
    tasks_per_node: Count | None = Field(
        None, description="`--ntasks-per-node` of the jobs, if `slurm_str` does not have it."
    )
    cores_per_job: Count | None = Field(
        None,
        description="Cores of one calculation: a Slurm job then runs as many at once as fit. "
        "Without this key and the next two, one has the whole job.",
    )
    memory_per_job: Positive | None = Field(None, description="Memory of one calculation (MB).")
    disk_per_job: Positive | None = Field(
        None, description="Temporary disk of one calculation (MB)."
    )
    slurm_str: str | None = Field(
        None,
        description="The `#SBATCH` lines of the jobs that compute labels; `slurm` needs it.",
    )
    worker_str: str = Field("", description="Shell lines that run in a job before Python starts.")
    idle_time: NonNegative = Field(
        300.0, description="Seconds without work after which a job is given back."
    )
    queue_notice: Positive = Field(
        900.0, description="Seconds in which no job has started, after which that is told."
    )
    interface: str | None = Field(
        None,
        description="Network interface (`ib0`) by which the flow and its jobs reach each other; "
        "not given: the one towards Slurm's controller.",
    )
    host: str | None = Field(
        None, description="Name or address of this machine for jobs; not given: `interface`'s."
    )
    python: str | None = Field(
        None, description="Python of the jobs; not given: the one that runs the flow."
    )
    ml: MlPool = Field(MlPool(), description="Workers for training and MD.")

    @field_validator("slurm_str")
    @classmethod
    def _of_jobs(cls, text: str | None, info: ValidationInfo) -> str | None:
        kind = info.data.get("type", "local")
        if kind == "local":
            return text
        if text is None or not text.strip():
            example = scheduler_row(kind).example
            raise missing(f"`type: {kind}` needs the options of its jobs: {example}")
        if "blocks" in info.data:
            nodes = info.data["blocks"].nodes_per_block
            header = _header(kind, text, nodes, info.data.get("tasks_per_node"))
            _slots(_wanted(header, info.data), nodes)
        return text

    @field_validator("ml")
    @classmethod
    def _of_ml_jobs(cls, ml: MlPool, info: ValidationInfo) -> MlPool:
        """Read the options of the jobs of training, which are those of the scheduler in `type`."""
        if ml.slurm_str is None or "type" not in info.data:
            return ml
        kind = info.data["type"]
        try:
            if not ml.slurm_str.strip():
                example = scheduler_row(kind).example
                raise wrong_value(f"the options of jobs: {example}", found="nothing")
            _header(kind, ml.slurm_str, 1)
        except PydanticCustomError as wrong:
            mistake = InitErrorDetails(type=wrong, loc=("slurm_str",), input=ml.slurm_str)
            raise ValidationError.from_exception_data("ml", [mistake]) from None
        return ml

    @property
    def reference_jobs(self) -> BatchJobs | None:
        """The jobs that compute labels; None if this machine does."""
        if self.type == "local" or self.slurm_str is None:
            return None
        nodes = self.blocks.nodes_per_block
        header = _header(self.type, self.slurm_str, nodes, self.tasks_per_node)
        slots = _slots(_wanted(header, dict(self)), nodes)
        name = header.job_name or self.project_name or self.blocks.label or _NAME
        return BatchJobs(
            scheduler=self.type,
            name=name,
            header=header.named(name),
            prologue=self.worker_str,
            blocks=self.blocks,
            slots=slots,
            walltime_s=header.walltime_s,
            python=self.python,
            per_slot=_share(header, nodes, slots, self.cores_per_job, self.memory_per_job),
        )

    @property
    def ml_jobs(self) -> BatchJobs | None:
        """The jobs that train and run MD; None if this machine does."""
        ml = self.ml
        if ml.slurm_str is None:
            return None
        header = _header(self.type, ml.slurm_str, 1)
        gpus = header.gpus_per_node
        slots = max(1, min(gpus, ml.max_workers or gpus))
        blocks: Blocks = ml.blocks
        if ml.max_workers is not None and "max_blocks" not in blocks.model_fields_set:
            needed = max(math.ceil(ml.max_workers / slots), blocks.min_blocks, blocks.init_blocks)
            blocks = blocks.model_copy(update={"max_blocks": needed})
        general = self.project_name or self.blocks.label or _NAME
        name = header.job_name or ml.blocks.label or f"{general}-ml"
        return BatchJobs(
            scheduler=scheduler_row(self.type).name,
            name=name,
            header=header.named(name),
            prologue=ml.worker_str,
            blocks=blocks,
            slots=slots,
            walltime_s=header.walltime_s,
            python=self.python,
            per_slot=_share(header, 1, slots),
        )

    @property
    def labels_at_once(self) -> int:
        """Labels that are computed at the same time at most."""
        jobs = self.reference_jobs
        return self.max_workers if jobs is None else jobs.most

    def with_labels_at_once(self, most: int) -> Self:
        """Return the same section for a run that has no more labels than these."""
        jobs = self.reference_jobs
        if jobs is None:
            return self.model_copy(update={"max_workers": min(self.max_workers, most)})
        number = min(jobs.blocks.max_blocks, math.ceil(most / jobs.slots))
        fewer = {
            "max_blocks": number,
            "init_blocks": min(jobs.blocks.init_blocks, number),
            "min_blocks": min(jobs.blocks.min_blocks, number),
        }
        return self.model_copy(update={"blocks": self.blocks.model_copy(update=fewer)})


def _header(kind: str, text: str, nodes: int, tasks: int | None = None) -> JobOptions:
    """Read the options of a job that has so many nodes, and tasks on each if that is said.

    Args:
        kind: The scheduler, as `type` names it.
        text: The options.
        nodes: Nodes of the job.
        tasks: Tasks on each node, if a key of its own says it.

    Raises:
        PydanticCustomError: Its text has a line for each mistake.
    """
    try:
        return options_reader(kind)(text, nodes, tasks)
    except ValueError as error:
        lines = str(error).splitlines()
        raise mistaken(*(Mistake(MistakeKind.WRONG_LINE, why=line) for line in lines)) from None


def _wanted(header: JobOptions, keys: dict[str, Any]) -> list[_Wanted]:
    """Return what is asked for one calculation."""
    rows = (
        ("cores_per_job", header.cores_per_node, "cores"),
        ("memory_per_job", header.memory_per_node_mb, "memory"),
        ("disk_per_job", header.disk_per_node_mb, "disk"),
    )
    return [
        _Wanted(key, keys[key], there, header.hints[what])
        for key, there, what in rows
        if keys.get(key) is not None
    ]


def _slots(asked: list[_Wanted], nodes: int) -> int:
    """Return how many calculations fit into a job at once; those that fit stay on one node.

    Raises:
        PydanticCustomError: None fits, or it cannot be known.
    """
    if not asked:
        return 1
    unknown = [f"`{one.option}` for {one.key}" for one in asked if one.there is None]
    if unknown:
        raise conflict(f"does not say what a node has; add {' and '.join(unknown)}")
    each = [(one.wanted or 1, one.there or 0) for one in asked]
    on_a_node = min(int(there // wanted) for wanted, there in each)
    slots = nodes * on_a_node or min(int(nodes * there // wanted) for wanted, there in each)
    if slots:
        return slots
    short = next(one for one in asked if (one.wanted or 0) > nodes * (one.there or 0))
    raise conflict(
        f"no calculation fits: {short.key} is {short.wanted:g}, and a job has "
        f"{nodes * (short.there or 0):g}"
    )


def _share(
    header: JobOptions,
    nodes: int,
    slots: int,
    cores: int | None = None,
    memory_mb: float | None = None,
) -> Slot | None:
    """Return what each of several calculations in a job may have: what is asked, or its share."""
    if slots == 1:
        return None
    all_cores, all_memory = header.cores_per_node, header.memory_per_node_mb
    return Slot(
        cores or (max(1, all_cores * nodes // slots) if all_cores else None),
        memory_mb or (all_memory * nodes / slots if all_memory else None),
    )
