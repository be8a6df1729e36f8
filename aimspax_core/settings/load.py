"""Read a run directory's settings files, and report every mistake in all of them at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from aimspax_core.errors import SettingsError
from aimspax_core.settings.aims_control.control import Control
from aimspax_core.settings.cross_checks import (
    cover_controls,
    cover_geometries,
    cover_members,
    doubts,
    late_stage,
    on_slurm,
)
from aimspax_core.settings.model import ModelMisc, ModelSettings
from aimspax_core.settings.original import keys
from aimspax_core.settings.original.translate import (
    Written,
    control_files,
    engine_meant,
    own_keys,
    reference_of,
    teacher_as_reference,
)
from aimspax_core.settings.project import Misc, ProjectSettings
from aimspax_core.settings.reading.environment import from_environment
from aimspax_core.settings.reading.mistakes import (
    ENVIRONMENT,
    OVERRIDE,
    Explainer,
    Mistake,
    message,
    shown,
)
from aimspax_core.settings.reading.wording import fields_of
from aimspax_core.settings.reading.yaml_lines import Document
from aimspax_core.settings.settings import MODEL_FILES, PROJECT_FILE, Settings
from aimspax_core.settings.values import Section
from aimspax_core.text import did_you_mean

_IDG, _AL = "INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"


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

    Notes:
        Environment variables (`AIMSPAX_SECTION__KEY`) hold before the files, overrides before both.
    """
    directory = Path(directory).resolve()
    if not directory.is_dir():
        raise SettingsError(f"{directory}: no such directory")
    notes: list[str] = []
    mistakes: list[Mistake] = []
    project_text = Document(project_file or directory / PROJECT_FILE)
    model_text = Document(model_file or _model_file(directory, mistakes))
    named = from_environment(_keys())
    mistakes += _override(named, ENVIRONMENT, project_text, model_text)
    mistakes += _override(overrides or {}, OVERRIDE, project_text, model_text)
    project = _validated(project_text, directory, ProjectSettings, keys.PROJECT, notes)
    model = _validated(model_text, directory, ModelSettings, keys.MODEL, notes)
    if isinstance(project, ProjectSettings):
        cover_geometries(project_text, directory, project, notes)
        cover_controls(project_text, directory, project)
        cover_members(project_text, project)
    mistakes += _controls(directory, project_text, notes)
    mistakes += project_text.mistakes + model_text.mistakes
    if mistakes:
        raise SettingsError(message(mistakes))
    assert isinstance(project, ProjectSettings)
    assert isinstance(model, ModelSettings)
    project = _with_stress(project, model)
    notes += [f"{project_text.name}: {note}" for note in doubts(project)]
    if project.CLUSTER is not None:
        notes += [f"{project_text.name}: {note}" for note in on_slurm(project.CLUSTER, model)]
    notes += [f"{model_text.name}: {note}" for note in late_stage(project, model)]
    absent = tuple(phase for phase in (_IDG, _AL) if project_text.data.get(phase) is None)
    return Settings(directory, project, model, tuple(notes), absent)


def _controls(directory: Path, project: Document, notes: list[str]) -> list[Mistake]:
    """Read the control files of FHI-aims, also if there are mistakes elsewhere; return theirs.

    One that is not there is told by whoever names it.
    """
    mistakes: list[Mistake] = []
    for name in control_files(project, keys.PROJECT):
        file = directory / Path(name).expanduser()
        if file.is_file():
            control, wrong = Control.read(file)
            mistakes += wrong
            notes += [f"{file.name}: {note}" for note in control.notes]
    return mistakes


def _with_stress(project: ProjectSettings, model: ModelSettings) -> ProjectSettings:
    """Ask engines for stress if the models train on it, or MD that they drive moves a cell."""
    md, idg = project.MD, project.INITIAL_DATASET_GENERATION
    moves = any(one.ensemble.moves_cell for one in (md.values() if isinstance(md, dict) else [md]))
    driver = idg.initial_sampling if moves else None
    wanted: dict[str, Any] = {}
    if model.stress or driver == "aimd":
        wanted["REFERENCE"] = project.REFERENCE.with_stress()
    if idg.sampling_engine is not None and driver == "engine":
        sampler = idg.sampling_engine.with_stress()
        wanted[_IDG] = idg.model_copy(update={"sampling_engine": sampler})
    return project.model_copy(update=wanted)


def _model_file(directory: Path, mistakes: list[Mistake]) -> Path:
    """The model settings under whichever of the two generations' names is there."""
    found = [name for name in MODEL_FILES if (directory / name).exists()]
    if len(found) > 1:
        mistakes.append(Mistake(found[1], None, "", f"found beside {found[0]}; allowed: one"))
    return directory / (found or MODEL_FILES)[0]


def _keys() -> dict[str, list[str]]:
    """The keys of each section of both files."""
    found: dict[str, list[str]] = {}
    for schema, others in ((ProjectSettings, keys.PROJECT), (ModelSettings, keys.MODEL)):
        content = schema.model_json_schema()
        for section in schema.model_fields:
            found.setdefault(section, []).extend(
                [*fields_of(content, section), *others.names(section)]
            )
    return found


def _override(
    overrides: Mapping[str, Any], origin: str, project: Document, model: Document
) -> list[Mistake]:
    """Give each override to the file that its section belongs to; both have a section MISC."""
    known = {*ProjectSettings.model_fields, *ModelSettings.model_fields}
    mistakes = []
    for name, value in overrides.items():
        section, *inner = name.split(".")
        if section not in known:
            hint = did_you_mean(section, known)
            text = f"unknown section{hint}; allowed: {', '.join(sorted(known))}"
            mistakes.append(Mistake(origin, None, name, text))
        elif not inner and not isinstance(value, Mapping):
            text = f"found {shown(value)}; allowed: a section with its keys"
            mistakes.append(Mistake(origin, None, name, text))
        else:
            pairs = [(tuple(inner), value)] if inner else [((str(k),), v) for k, v in value.items()]
            for (key, *rest), content in pairs:
                ours = section in ModelSettings.model_fields
                if section == "MISC":
                    ours = _models_misc(key)
                file = model if ours else project
                file.override((section, _as_written(file, section, key), *rest), content, origin)
    return mistakes


def _as_written(file: Document, section: str, key: str) -> str:
    """Return the name under which a file has a key of two names."""
    content = file.data.get(section)
    for (place, second), first in keys.PROJECT.renamed.items():
        if place == section and key in (first, second) and isinstance(content, dict):
            return next((name for name in (first, second) if name in content), key)
    return key


def _models_misc(key: str) -> bool:
    """Tell whether a key of a section MISC is meant for the model's, which is in `mace.yaml`."""
    model = [*ModelMisc.model_fields, *keys.MODEL.names("MISC")]
    project = [*Misc.model_fields, *keys.PROJECT.names("MISC")]
    return key in model or (key not in project and not did_you_mean(key, project))


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
    ours = schema is ProjectSettings
    engine = engine_meant(file, others) if ours else None
    data = own_keys(file, others, notes, engine)
    teacher = ours and teacher_as_reference(file, data, notes)
    written: Written = {}
    if ours and not teacher:
        written = reference_of(file, data, engine, others)
    told = {tuple(mistake.key.split(".")) for mistake in file.mistakes if mistake.key}
    if teacher:
        told.add(("REFERENCE",))  # its mistakes are those of the teacher's own section
    for name, field in schema.model_fields.items():
        if isinstance(field.default, Section):
            data.setdefault(name, {})
    if ours:
        _fill_phase(data)
    try:
        return schema.model_validate(data, context={"directory": directory})
    except ValidationError as error:
        explain = Explainer(
            schema.model_json_schema(),
            {name: others.names(name) for name in schema.model_fields},
            _elsewhere(schema),
            others.earlier,
        )
        for problem in error.errors(include_url=False):
            if problem["type"] == "default_factory_not_called":
                continue  # a default that follows from other keys, of which one is wrong
            path, text = explain(problem)
            path = written.get(path[:2], path)
            if not any(path[: len(place)] == place for place in told):
                for line in text.splitlines():  # each of its own, in one text of several lines
                    file.mistake(path, line)
    return None


def _fill_phase(data: dict[str, Any]) -> None:
    """Of the two phases one may be missing: it is not run, but has members as the other has."""
    if _IDG in data and _AL not in data:
        data[_AL] = {"num_trajectories": 1, "max_MD_steps": 1}
    elif _AL in data and _IDG not in data:
        data[_IDG] = {"n_points_per_sampling_step_idg": 1, "max_initial_epochs": 1}
        if isinstance(data[_AL], dict) and "ensemble_size" in data[_AL]:
            data[_IDG]["ensemble_size"] = data[_AL]["ensemble_size"]


def _elsewhere(schema: type[BaseModel]) -> dict[str, str]:
    """The sections of the other file, with its name."""
    other, name = (
        (ModelSettings, MODEL_FILES[0])
        if schema is ProjectSettings
        else (ProjectSettings, PROJECT_FILE)
    )
    return {section: name for section in other.model_fields if section not in schema.model_fields}
