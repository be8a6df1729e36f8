"""Read a run directory's settings files, and report every mistake in all of them at once."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from aimspax_core.errors import SettingsError
from aimspax_core.settings import keys
from aimspax_core.settings.document import Document
from aimspax_core.settings.generations import own_keys, teacher_as_reference
from aimspax_core.settings.mistakes import OVERRIDE, Explainer, Mistake, message, nearest, shown
from aimspax_core.settings.model import ModelSettings
from aimspax_core.settings.project import (
    MD,
    ActiveLearning,
    Cluster,
    Gate,
    InitialDatasetGeneration,
    MaceReference,
    Misc,
    ProjectSettings,
    TbliteReference,
)
from aimspax_core.settings.values import Section

PROJECT_FILE = "aimsPAX.yaml"
MODEL_FILES = ("mace.yaml", "model.yaml")


@dataclass(frozen=True)
class Settings:
    """What a run was asked to do: both files, validated, and where they were found."""

    directory: Path
    project: ProjectSettings
    model: ModelSettings
    notes: tuple[str, ...] = ()

    @property
    def idg(self) -> InitialDatasetGeneration:
        """The section INITIAL_DATASET_GENERATION."""
        return self.project.INITIAL_DATASET_GENERATION

    @property
    def al(self) -> ActiveLearning:
        """The section ACTIVE_LEARNING."""
        return self.project.ACTIVE_LEARNING

    @property
    def md(self) -> MD:
        """The section MD."""
        return self.project.MD

    @property
    def misc(self) -> Misc:
        """The section MISC of `aimsPAX.yaml`."""
        return self.project.MISC

    @property
    def gate(self) -> Gate:
        """The section GATE."""
        return self.project.GATE

    @property
    def reference(self) -> TbliteReference | MaceReference:
        """The section REFERENCE."""
        return self.project.REFERENCE

    @cached_property
    def cluster(self) -> Cluster:
        """The section CLUSTER; without one, a local pool sized from this machine."""
        return self.project.CLUSTER or Cluster(type="local", max_workers=machine_cores())

    @cached_property
    def ml_workers(self) -> int:
        """Processes that train and run MD: one a member at most, one a core on a CPU."""
        asked = self.cluster.ml.max_workers
        if asked is not None:
            return asked
        if self.model.MISC.device != "cpu":
            return 1
        return max(1, min(machine_cores(), self.idg.ensemble_size))

    @property
    def geometry_path(self) -> Path:
        """Where the start geometries are."""
        return self.directory / self.misc.path_to_geometry


def machine_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS


def load(
    directory: Path,
    overrides: Mapping[str, Any] | None = None,
    project_file: Path | None = None,
    model_file: Path | None = None,
) -> Settings:
    """Read and check `aimsPAX.yaml` and `mace.yaml` (or `model.yaml`) of a run directory.

    Args:
        directory: The run directory.
        overrides: Values that replace those of the files: `{"ACTIVE_LEARNING": {"c_x": -0.1}}` or
            `{"ACTIVE_LEARNING.c_x": -0.1}`; sections of both files by their own names.
        project_file: Another file in place of `aimsPAX.yaml`.
        model_file: Another file in place of `mace.yaml`.

    Raises:
        SettingsError: Its text lists every mistake of both files: file, line, key, what was found,
            what is allowed, and the nearest valid name.
    """
    directory = Path(directory).resolve()
    if not directory.is_dir():
        raise SettingsError(f"{directory}: no such directory")
    notes: list[str] = []
    mistakes: list[Mistake] = []
    project_text = Document(project_file or directory / PROJECT_FILE)
    model_text = Document(model_file or _model_file(directory, mistakes))
    mistakes += _override(overrides or {}, project_text, model_text)
    project = _validated(project_text, directory, ProjectSettings, keys.PROJECT, notes)
    model = _validated(model_text, directory, ModelSettings, keys.MODEL, notes)
    mistakes += project_text.mistakes + model_text.mistakes
    if mistakes:
        raise SettingsError(message(mistakes))
    assert isinstance(project, ProjectSettings)
    assert isinstance(model, ModelSettings)
    notes += [f"{project_text.name}: {note}" for note in _doubts(project)]
    return Settings(directory, project, model, tuple(notes))


def _model_file(directory: Path, mistakes: list[Mistake]) -> Path:
    """The model settings under whichever of the two generations' names is there."""
    found = [name for name in MODEL_FILES if (directory / name).exists()]
    if len(found) > 1:
        mistakes.append(Mistake(found[1], None, "", f"found beside {found[0]}; allowed: one"))
    return directory / (found or MODEL_FILES)[0]


def _override(overrides: Mapping[str, Any], project: Document, model: Document) -> list[Mistake]:
    """Give each override to the file that its section belongs to; both have a section MISC."""
    known = {*ProjectSettings.model_fields, *ModelSettings.model_fields}
    model_misc = {*type(ModelSettings.model_fields["MISC"].default).model_fields}
    model_misc.update(keys.MODEL.names("MISC"))
    mistakes = []
    for name, value in overrides.items():
        section, *inner = name.split(".")
        if section not in known:
            text = f"unknown section{nearest(section, known)}; allowed: {', '.join(sorted(known))}"
            mistakes.append(Mistake(OVERRIDE, None, name, text))
        elif not inner and not isinstance(value, Mapping):
            text = f"found {shown(value)}; allowed: a section with its keys"
            mistakes.append(Mistake(OVERRIDE, None, name, text))
        else:
            pairs = [(tuple(inner), value)] if inner else [((k,), v) for k, v in value.items()]
            for path, content in pairs:
                ours = section in ModelSettings.model_fields
                if section == "MISC":
                    ours = path[0] in model_misc
                (model if ours else project).override((section, *path), content)
    return mistakes


def _validated(
    file: Document,
    directory: Path,
    schema: type[BaseModel],
    others: keys.OtherKeys,
    notes: list[str],
) -> BaseModel | None:
    """Check a file against its model; None if there are mistakes, which the file then has."""
    if not file.readable:
        return None
    data = own_keys(file, others, notes)
    teacher = schema is ProjectSettings and teacher_as_reference(file, data, notes)
    told = {tuple(mistake.key.split(".")) for mistake in file.mistakes if mistake.key}
    if teacher:
        told.add(("REFERENCE",))  # its mistakes are those of the teacher's own section
    for name, field in schema.model_fields.items():
        if isinstance(field.default, Section):
            data.setdefault(name, {})
    try:
        return schema.model_validate(data, context={"directory": directory})
    except ValidationError as error:
        explain = Explainer(
            schema.model_json_schema(),
            {name: others.names(name) for name in schema.model_fields},
            _elsewhere(schema),
        )
        for problem in error.errors(include_url=False):
            path, text = explain(problem)
            if not any(path[: len(place)] == place for place in told):
                file.mistake(path, text)
    return None


def _elsewhere(schema: type[BaseModel]) -> dict[str, str]:
    """The sections of the other file, with its name."""
    other, name = (
        (ModelSettings, MODEL_FILES[0])
        if schema is ProjectSettings
        else (ProjectSettings, PROJECT_FILE)
    )
    return {section: name for section in other.model_fields if section not in schema.model_fields}


def _doubts(project: ProjectSettings) -> Iterator[str]:
    """Yield what may not be meant, but can be run."""
    idg, al = project.INITIAL_DATASET_GENERATION, project.ACTIVE_LEARNING
    if al.desired_acc == 0 and min(al.max_MD_steps, al.max_train_set_size) == math.inf:
        yield (
            "ACTIVE_LEARNING: nothing ends this phase; it runs until you stop it "
            "(desired_acc, max_MD_steps or max_train_set_size would)"
        )
    if "ensemble_size" in al.model_fields_set and al.ensemble_size != idg.ensemble_size:
        yield (
            f"ACTIVE_LEARNING.ensemble_size is {al.ensemble_size}; "
            f"INITIAL_DATASET_GENERATION's {idg.ensemble_size} holds"
        )
    if idg.sampling_engine is not None and idg.initial_sampling != "engine":
        yield (
            "INITIAL_DATASET_GENERATION.sampling_engine has no effect without "
            "`initial_sampling: engine`"
        )
    if {"foundational_model_settings", "initial_foundational_size"} <= idg.model_fields_set:
        yield (
            "INITIAL_DATASET_GENERATION.initial_foundational_size has no effect beside "
            "foundational_model_settings"
        )
