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
from aimspax_core.settings.project import (
    ActiveLearning,
    Budget,
    InitialDatasetGeneration,
    ProjectSettings,
)
from aimspax_core.settings.reading.mistakes import Mistake, MistakeKind
from aimspax_core.settings.reading.yaml_lines import YamlFile
from aimspax_core.settings.values import Section
from aimspax_core.stopping.table import rules_of
from aimspax_core.text import or_list
from aimspax_core.uncertainty.calibration import LEAST

_OF_LABELS = (
    *("blocks", "slurm_str", "worker_str"),
    *("tasks_per_node", "cores_per_job", "memory_per_job", "disk_per_job"),
)
_OF_SLURM = ("project_name", "idle_time", "queue_notice", "interface", "host", "python")
_IDG, _AL = "INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"


def check_md_sections(file: YamlFile, directory: Path, project: ProjectSettings) -> None:
    """With MD by index, each geometry needs its section; a section without a geometry is noted."""
    if not isinstance(project.MD, dict):
        return
    try:
        files = project.MISC.geometry_files(directory)
    except StructureError:
        return  # whoever reads them reports what is wrong
    for index, geometry in enumerate(files):
        if index not in project.MD:
            allowed = f"a section for each index from 0 to {len(files) - 1}, or one MD"
            why = f"there is none for {geometry.name}"
            file.mistake(("MD", str(index)), Mistake(MistakeKind.MISSING, why=why, allowed=allowed))
    for index in project.MD:
        if index >= len(files):
            file.note(("MD", str(index)), f"has no effect: there is no geometry {index}")


def check_samples(file: YamlFile, directory: Path, project: ProjectSettings) -> None:
    """Note values of `rattle` and `restart_from_labels` without a geometry."""
    try:
        number = len(project.MISC.geometry_files(directory))
    except StructureError:
        return  # whoever reads them reports what is wrong
    phases = {name: getattr(project, name) for name in (_IDG, _AL)}
    for name, phase in phases.items():
        for key in ("rattle", "restart_from_labels"):
            given = getattr(phase, key, None)
            for index in given if isinstance(given, dict) else ():
                if index >= number:
                    why = f"has no effect: there is no geometry {index}"
                    file.note((name, key, str(index)), why)


def check_by_geometry(file: YamlFile, directory: Path, project: ProjectSettings) -> None:
    """With values by index, each geometry needs its own; one too many does no harm."""
    idg, reference = project.INITIAL_DATASET_GENERATION, project.REFERENCE
    controls: dict[tuple[str, ...], Mapping[int, Any]] = {}
    for key, values in reference.by_geometry().items():
        controls[said_at(file, reference.engine, key, PROJECT)[0]] = values
    sampler = None
    if idg is not None and idg.initial_sampling == "engine":
        sampler = idg.sampling_engine
    for key, values in sampler.by_geometry().items() if sampler is not None else ():
        controls[_IDG, "sampling_engine", key] = values
    if not controls:
        return
    try:
        files = project.MISC.geometry_files(directory)
    except StructureError:
        return  # whoever reads them reports what is wrong
    for place, control in controls.items():
        for index, geometry in enumerate(files):
            if index not in control:
                why = f"there is none for geometry {index} ({geometry.name})"
                allowed = "one for each geometry"
                file.mistake(place, Mistake(MistakeKind.MISSING, why=why, allowed=allowed))


def check_member_seeds(file: YamlFile, project: ProjectSettings) -> None:
    """Seeds by tag are those of all members; models that are there already say how many."""
    idg, al = project.INITIAL_DATASET_GENERATION, project.ACTIVE_LEARNING
    seeds = None if al is None else al.seeds_tags_dict
    if seeds is None or idg is None or len(seeds) == idg.ensemble_size:
        return
    found = f"{len(seeds)} members"
    allowed = f"as many as {_IDG}.ensemble_size, {idg.ensemble_size}"
    file.mistake((_AL, "seeds_tags_dict"), Mistake(MistakeKind.CONFLICT, found, allowed=allowed))


def check_members(file: YamlFile, project: ProjectSettings, model: ModelSettings) -> None:
    """A spread needs two members, or one network with several heads, which stands alone."""
    heads = model.heads
    for name in (_IDG, _AL):
        phase = getattr(project, name)
        if phase is None or (name == _AL and "ensemble_size" not in phase.model_fields_set):
            continue
        place, size = (name, "ensemble_size"), phase.ensemble_size
        if heads > 1 and size != 1:
            why = f"with use_multihead_model, the {heads} heads of one network are compared"
            file.mistake(place, Mistake(MistakeKind.CONFLICT, str(size), why, allowed="1"))
        if heads == 1 and size < 2:
            allowed = "a whole number of at least 2"
            file.mistake(place, Mistake(MistakeKind.WRONG_VALUE, str(size), allowed=allowed))


def second_stage_notes(project: ProjectSettings, model: ModelSettings) -> Iterator[str]:
    """Yield a note for each convergence that ends before the second stage would begin."""
    idg, al = project.INITIAL_DATASET_GENERATION, project.ACTIVE_LEARNING
    begin = model.TRAINING.start_swa
    if not model.TRAINING.swa or begin is None:
        return
    converging: list[tuple[str, InitialDatasetGeneration | ActiveLearning]] = []
    if idg is not None and idg.converge_initial:
        converging.append((_IDG, idg))
    if al is not None and al.converge_al:
        converging.append((_AL, al))
    for name, phase in converging:
        if begin >= phase.max_convergence_epochs:
            yield (
                f"TRAINING.swa never begins: start_swa is {begin}, and "
                f"{name}.max_convergence_epochs {phase.max_convergence_epochs}"
            )


def project_notes(project: ProjectSettings) -> Iterator[str]:
    """Yield a note for what can be run, but may not be meant."""
    yield from _md_notes(project)
    idg, al = project.INITIAL_DATASET_GENERATION, project.ACTIVE_LEARNING
    if al is not None:
        yield from _endless(al, project.BUDGET)
        yield from _idle_thresholds(al)
    if al is not None and idg is not None:
        yield from _two_sizes(idg, al)
    if idg is not None:
        yield from _idle_walks(idg)
    both = {"foundational_model_settings", "initial_foundational_size"}
    if idg is not None and both <= idg.model_fields_set:
        yield f"{_IDG}.initial_foundational_size has no effect beside foundational_model_settings"
    yield from _idle_foundations(idg, al)
    for name, phase, keys, needed, given in _conditions(idg, al):
        for key in sorted(set(keys) & phase.model_fields_set):
            if not given and getattr(phase, key) is not None:
                yield f"{name}.{key} has no effect without `{needed}`"


def _idle_foundations(
    idg: InitialDatasetGeneration | None, al: ActiveLearning | None
) -> Iterator[str]:
    """Yield a line on each key that belongs to another kind of foundation model."""
    driven: list[tuple[str, InitialDatasetGeneration | ActiveLearning]] = []
    if idg is not None and idg.initial_sampling == "foundational":
        driven.append((_IDG, idg))
    if al is not None and al.use_foundational:
        driven.append((_AL, al))
    for name, phase in driven:
        kind, model = phase.foundational_model, phase.foundational_model_settings
        keys = [] if model is None else model.idle(kind)
        idle = [f"foundational_model_settings.{key}" for key in keys]
        if kind != "mace-mp" and "initial_foundational_size" in phase.model_fields_set:
            idle.append("initial_foundational_size")
        for key in idle:
            yield f"{name}.{key} has no effect with `foundational_model: {kind}`"


def _idle_walks(idg: InitialDatasetGeneration) -> Iterator[str]:
    """Yield a line on each key of the sampling MD that is given where there is none."""
    keys = {"skip_step_initial", "save_trajectories", "save_trajectories_interval"}
    keys |= {"restart_from_labels"}
    for key in sorted(keys & idg.model_fields_set):
        if idg.initial_sampling == "rattle" and getattr(idg, key):
            yield f"{_IDG}.{key} has no effect with `initial_sampling: rattle`: there is no MD"


def _md_notes(project: ProjectSettings) -> Iterator[str]:
    by_index = project.MD if isinstance(project.MD, dict) else {None: project.MD}
    for index, md in by_index.items():
        if md.idle:
            place = "MD" if index is None else f"MD.{index}"
            verb = "means" if len(md.idle) == 1 else "mean"
            yield f"{place}: {', '.join(md.idle)} {verb} nothing to {md.row.title}"


def _two_sizes(idg: InitialDatasetGeneration, al: ActiveLearning) -> Iterator[str]:
    if "ensemble_size" in al.model_fields_set and al.ensemble_size != idg.ensemble_size:
        yield (
            f"ACTIVE_LEARNING.ensemble_size is {al.ensemble_size}; "
            f"INITIAL_DATASET_GENERATION's {idg.ensemble_size} holds"
        )


def _endless(al: ActiveLearning, budget: Budget) -> Iterator[str]:
    rules = rules_of("active")
    limits = [(rule, rule.limit(al)) for rule in rules]
    limits += [(rule, rule.limit(budget)) for rule in rules_of("campaign")]
    if all(limit == rule.key.off for rule, limit in limits):
        yield (
            "ACTIVE_LEARNING: nothing ends this phase; it runs until you stop it "
            f"({or_list(rule.key.name for rule in rules)} would)"
        )


def cluster_notes(cluster: Cluster, model: ModelSettings) -> Iterator[str]:
    """Yield a note for what may not be meant in the section CLUSTER."""
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


def _have(names: list[str]) -> str:
    return "has" if len(names) == 1 else "have"


def _idle_thresholds(al: ActiveLearning) -> Iterator[str]:
    """Yield a line on each key of a threshold that nothing is held against."""
    freezing = "freeze_threshold_dataset"
    keys = ("c_x", "force_error", freezing, "threshold")
    given = [k for k in keys if getattr(al, k) != type(al).model_fields[k].default]
    if al.selection == "random":
        for key in given:
            yield (
                f"{_AL}.{key} has no effect with `selection: random`: chance takes structures as "
                "soon as there is a threshold, whatever that is"
            )
        if al.candidates != "first":
            yield f"{_AL}.candidates has no effect with `selection: random`: chance has chosen"
    elif al.threshold == "calibrated" and freezing in given:
        yield (
            f"{_AL}.{freezing} has no effect with `threshold: calibrated`, which follows each new "
            f"label from {LEAST} on"
        )


def _conditions(
    idg: InitialDatasetGeneration | None, al: ActiveLearning | None
) -> Iterator[tuple[str, Section, tuple[str, ...], str, bool]]:
    """Yield section, keys, the setting that they need, and whether that is given."""
    driver = ("foundational_model", "foundational_model_settings")
    teacher = ("teacher_reference_settings",)
    if al is not None:
        subset = al.replay_strategy == "random_subset"
        sizes = ("train_subset_size", "valid_subset_size")
        yield _AL, al, sizes, "replay_strategy: random_subset", subset
        by_error = al.threshold == "calibrated"
        yield _AL, al, ("force_error",), "threshold: calibrated", by_error
        by_chance = al.selection == "random"
        yield _AL, al, ("random_share",), "selection: random", by_chance
        chosen = al.candidates == "largest_error"
        yield _AL, al, ("novelty",), "candidates: largest_error", chosen
        yield _AL, al, driver, "use_foundational: True", al.use_foundational
        yield _AL, al, teacher, "use_teacher_reference: True", al.use_teacher_reference
    if idg is not None:
        walks, sampler = idg.initial_sampling, (*driver, "initial_foundational_size")
        yield _IDG, idg, sampler, "initial_sampling: foundational", walks == "foundational"
        yield _IDG, idg, ("sampling_engine",), "initial_sampling: engine", walks == "engine"
        yield _IDG, idg, ("rattle",), "initial_sampling: rattle", walks == "rattle"
        yield _IDG, idg, teacher, "use_teacher_reference: True", idg.use_teacher_reference
