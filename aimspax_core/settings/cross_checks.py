"""What no single key of a settings file shows: keys that need others, or mean nothing to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aimspax_core.errors import StructureError
from aimspax_core.settings.cluster import BatchJobs, Cluster
from aimspax_core.settings.model import ModelSettings
from aimspax_core.settings.original.keys import PROJECT
from aimspax_core.settings.original.translate import said_at
from aimspax_core.settings.project import ActiveLearning, InitialDatasetGeneration, ProjectSettings
from aimspax_core.settings.reading.yaml_lines import Document
from aimspax_core.settings.values import Section
from aimspax_core.stopping.table import rules_of
from aimspax_core.text import or_list

_OF_LABELS = (
    *("blocks", "slurm_str", "worker_str"),
    *("tasks_per_node", "cores_per_job", "memory_per_job", "disk_per_job"),
)
_OF_SLURM = ("project_name", "idle_time", "queue_notice", "interface", "host", "python")
_IDG, _AL = "INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"


def cover_geometries(
    file: Document, directory: Path, project: ProjectSettings, notes: list[str]
) -> None:
    """With MD by index, every geometry needs its section; one that no geometry has is noted."""
    if not isinstance(project.MD, dict):
        return
    try:
        files = project.MISC.geometry_files(directory)
    except StructureError:
        return  # told by whoever reads them
    for index, geometry in enumerate(files):
        if index not in project.MD:
            allowed = f"a section for each index from 0 to {len(files) - 1}"
            file.mistake(
                ("MD", str(index)), f"missing, for {geometry.name}; allowed: {allowed}, or one MD"
            )
    notes += [
        f"{file.name}: MD.{index} has no effect: there is no geometry {index}"
        for index in project.MD
        if index >= len(files)
    ]


def cover_controls(file: Document, directory: Path, project: ProjectSettings) -> None:
    """With values by index, every geometry needs its own; one too many does no harm."""
    idg, reference = project.INITIAL_DATASET_GENERATION, project.REFERENCE
    controls: dict[tuple[str, ...], Mapping[int, Any]] = {}
    for key, values in reference.by_geometry().items():
        controls[said_at(file, reference.engine, key, PROJECT)[0]] = values
    sampler = idg.sampling_engine if idg.initial_sampling == "engine" else None
    for key, values in sampler.by_geometry().items() if sampler is not None else ():
        controls[_IDG, "sampling_engine", key] = values
    if not controls:
        return
    try:
        files = project.MISC.geometry_files(directory)
    except StructureError:
        return  # told by whoever reads them
    for place, control in controls.items():
        for index, geometry in enumerate(files):
            if index not in control:
                text = f"none for geometry {index} ({geometry.name})"
                file.mistake(place, f"{text}; allowed: one for each geometry")


def cover_members(file: Document, project: ProjectSettings) -> None:
    """Seeds by tag are those of all members; if there are models already, they say how many."""
    seeds, size = project.ACTIVE_LEARNING.seeds_tags_dict, project.INITIAL_DATASET_GENERATION
    if seeds is None or file.data.get(_IDG) is None or len(seeds) == size.ensemble_size:
        return
    told = f"found {len(seeds)} members; allowed: as many as {_IDG}.ensemble_size"
    file.mistake((_AL, "seeds_tags_dict"), f"{told}, {size.ensemble_size}")


def late_stage(project: ProjectSettings, model: ModelSettings) -> Iterator[str]:
    """Yield if the second stage of a convergence would begin when that is over."""
    idg, al = project.INITIAL_DATASET_GENERATION, project.ACTIVE_LEARNING
    begin = model.TRAINING.start_swa
    converging = {_IDG: idg.converge_initial, _AL: al.converge_al}
    for name, phase in ((_IDG, idg), (_AL, al)):
        epochs = phase.max_convergence_epochs
        if model.TRAINING.swa and converging[name] and begin is not None and begin >= epochs:
            yield (
                f"TRAINING.swa never begins: start_swa is {begin}, and "
                f"{name}.max_convergence_epochs {epochs}"
            )


def doubts(project: ProjectSettings) -> Iterator[str]:
    """Yield what may not be meant, but can be run."""
    idg, al = project.INITIAL_DATASET_GENERATION, project.ACTIVE_LEARNING
    by_index = project.MD if isinstance(project.MD, dict) else {None: project.MD}
    for index, md in by_index.items():
        if md.idle:
            place = "MD" if index is None else f"MD.{index}"
            verb = "means" if len(md.idle) == 1 else "mean"
            yield f"{place}: {', '.join(md.idle)} {verb} nothing to {md.row.title}"
    rules = rules_of("active")
    if all(rule.limit(al) == rule.key.off for rule in rules):
        yield (
            "ACTIVE_LEARNING: nothing ends this phase; it runs until you stop it "
            f"({or_list(rule.key.name for rule in rules)} would)"
        )
    if "ensemble_size" in al.model_fields_set and al.ensemble_size != idg.ensemble_size:
        yield (
            f"ACTIVE_LEARNING.ensemble_size is {al.ensemble_size}; "
            f"INITIAL_DATASET_GENERATION's {idg.ensemble_size} holds"
        )
    if {"foundational_model_settings", "initial_foundational_size"} <= idg.model_fields_set:
        yield f"{_IDG}.initial_foundational_size has no effect beside foundational_model_settings"
    for name, phase, keys_, needs, meant in _conditions(idg, al):
        for key in sorted(set(keys_) & phase.model_fields_set):
            if not meant and getattr(phase, key) is not None:
                yield f"{name}.{key} has no effect without `{needs}`"


def on_slurm(cluster: Cluster, model: ModelSettings) -> Iterator[str]:
    """Yield what may not be meant of a section CLUSTER that is there."""
    yield from _without_effect(cluster)
    for place, jobs in (("", cluster.reference_jobs), ("ml.", cluster.ml_jobs)):
        if jobs is not None:
            key = f"CLUSTER.{place}slurm_str"
            yield from (f"{key}: {note}" for note in jobs.header.notes)
            if not jobs.header.has_limit:
                limit = jobs.header.hints["time"]
                yield f"{key} has no {limit}; what the limit of a job ends runs again in another"
    if cluster.ml_jobs is not None:
        yield from _of_ml(cluster.ml_jobs, cluster.ml.max_workers, model.MISC.device)


def _of_ml(jobs: BatchJobs, asked: int | None, device: str) -> Iterator[str]:
    if (asked or 0) > jobs.most:
        yield f"CLUSTER.ml.max_workers is {asked}; ml.blocks have {jobs.most} at once"
    if device != "cpu" and not jobs.header.gpus_per_node:
        gpu = jobs.header.hints["gpus"]
        yield f"CLUSTER.ml.slurm_str asks for no GPU ({gpu}), and MISC.device is {device}"


def _without_effect(cluster: Cluster) -> Iterator[str]:
    """Yield a line on keys of Slurm jobs that are not started."""
    given = cluster.model_fields_set
    if cluster.type != "local" and "max_workers" in given:
        kind = f"`type: {cluster.type}`"
        yield f"CLUSTER.max_workers has no effect with {kind}; blocks say how many jobs"
    idle = [key for key in _OF_LABELS if key in given] if cluster.type == "local" else []
    if cluster.type == "local" and cluster.ml.slurm_str is None:
        idle += [key for key in _OF_SLURM if key in given]
    if idle:
        yield f"CLUSTER: {', '.join(idle)} {_have(idle)} no effect with `type: local`"
    if cluster.ml.slurm_str is None:
        idle = [key for key in ("blocks", "worker_str") if key in cluster.ml.model_fields_set]
        if idle:
            yield f"CLUSTER.ml: {', '.join(idle)} {_have(idle)} no effect without `slurm_str`"


def _have(keys_: list[str]) -> str:
    return "has" if len(keys_) == 1 else "have"


def _conditions(
    idg: InitialDatasetGeneration, al: ActiveLearning
) -> Iterator[tuple[str, Section, tuple[str, ...], str, bool]]:
    """Yield section, keys, what they need, and whether that is so."""
    subset = al.replay_strategy == "random_subset"
    sizes = ("train_subset_size", "valid_subset_size")
    yield _AL, al, sizes, "replay_strategy: random_subset", subset
    driver = ("foundational_model", "foundational_model_settings")
    yield _AL, al, driver, "use_foundational: True", al.use_foundational
    sampler = (*driver, "initial_foundational_size")
    walks = idg.initial_sampling
    yield _IDG, idg, sampler, "initial_sampling: foundational", walks == "foundational"
    yield _IDG, idg, ("sampling_engine",), "initial_sampling: engine", walks == "engine"
    for name, phase in ((_IDG, idg), (_AL, al)):
        teacher = ("teacher_reference_settings",)
        yield name, phase, teacher, "use_teacher_reference: True", phase.use_teacher_reference
