"""Read a run directory's settings files, and report every mistake in all of them at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from aimspax_core.errors import SettingsError
from aimspax_core.settings.aims_control.control import Control
from aimspax_core.settings.cross_checks import (
    check_by_geometry,
    check_md_sections,
    check_member_seeds,
    check_members,
    check_samples,
    cluster_notes,
    project_notes,
    second_stage_notes,
)
from aimspax_core.settings.doubtful_numbers import model_doubts, project_doubts
from aimspax_core.settings.first_look import first_look
from aimspax_core.settings.misc import Misc
from aimspax_core.settings.model import ModelMisc, ModelSettings
from aimspax_core.settings.original import keys
from aimspax_core.settings.original.mace_training import replaced_by
from aimspax_core.settings.original.translate import (
    Written,
    control_files,
    engine_meant,
    own_keys,
    reference_of,
    teacher_as_reference,
)
from aimspax_core.settings.project import ProjectSettings
from aimspax_core.settings.reading.environment import from_environment
from aimspax_core.settings.reading.mistakes import (
    BY_HAND,
    ENVIRONMENT,
    FILE,
    OVERRIDE,
    Explainer,
    Mistake,
    MistakeKind,
    missing_section,
    settings_error,
    value_text,
)
from aimspax_core.settings.reading.nested import leaves
from aimspax_core.settings.reading.wording import fields_of, schema_of
from aimspax_core.settings.reading.yaml_lines import UNSAID, YamlFile
from aimspax_core.settings.settings import MODEL_FILES, PROJECT_FILE, PROJECT_FILES, Settings
from aimspax_core.settings.values import Section
from aimspax_core.text import nearest_name, or_list

File = TypeVar("File", bound=BaseModel)
_IDG, _AL = "INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"


def load(
    directory: Path,
    overrides: Mapping[str, Any] | None = None,
    project_file: Path | None = None,
    model_file: Path | None = None,
    by_hand: Mapping[str, Any] | None = None,
    missing_device: Callable[[str], str | None] = lambda device: None,
    without: Collection[str] = (),
) -> Settings:
    """Read and check `aimsPAX.yaml` and `mace.yaml` (or `model.yaml`, or `.yml`) of a directory.

    Args:
        directory: The run directory.
        overrides: Values that replace those of the files: `{"ACTIVE_LEARNING": {"c_x": -0.1}}` or
            `{"ACTIVE_LEARNING.c_x": -0.1}`; sections of both files by their own names.
        project_file: Another file in place of `aimsPAX.yaml`.
        model_file: Another file in place of `mace.yaml`.
        by_hand: What `aimspax set` has said, like `overrides`; it goes before all else.
        missing_device: Returns why a device cannot be used on this machine; asked if there are
            mistakes, to tell that beside them.
        without: Keys that count as not given, whatever is wrong with them.

    Raises:
        SettingsError: Its text lists every mistake of both files: file, line, key, what was found,
            what is allowed, and the nearest valid name.

    Notes:
        Environment variables (`AIMSPAX_SECTION__KEY`) hold before the files, overrides before both.
    """
    directory = Path(directory).resolve()
    if not directory.is_dir():
        raise SettingsError(f"{directory}: no such directory")
    twice = [
        *(() if project_file is not None else _twice(directory, PROJECT_FILES)),
        *(() if model_file is not None else _twice(directory, MODEL_FILES)),
    ]
    project_file = project_file or directory / _files(directory, PROJECT_FILES)[0]
    model_file = model_file or directory / _files(directory, MODEL_FILES)[0]
    project_yaml, model_yaml = YamlFile(project_file), YamlFile(model_file)
    mistakes = [
        *twice,
        *_override(from_environment(_keys()), ENVIRONMENT, project_yaml, model_yaml),
        *_override(overrides or {}, OVERRIDE, project_yaml, model_yaml),
        *_override(by_hand or {}, BY_HAND, project_yaml, model_yaml),
    ]
    for key in without:
        for file in (project_yaml, model_yaml):
            file.leave_out(tuple(key.split(".")))
    project = _project(project_yaml, directory)
    model = _model(model_yaml, directory)
    if project is not None and model is not None:
        check_members(project_yaml, project, model)
    controls = list(_controls(directory, project_yaml))
    mistakes += [mistake for _, _, wrong in controls for mistake in wrong]
    mistakes += project_yaml.mistakes + model_yaml.mistakes
    mistakes = [m for m in mistakes if m.kind is not MistakeKind.TWICE or m.key not in without]
    if mistakes:
        wrong = {mistake.key for mistake in mistakes}
        further = first_look(directory, project_yaml, model_yaml, wrong, missing_device)
        raise settings_error(mistakes, further)
    assert project is not None
    assert model is not None
    project = _with_stress(project, model)
    notes = (
        *project_yaml.notes,
        *model_yaml.notes,
        *(f"{name}: {note}" for name, control, _ in controls for note in control.notes),
        *_notes(project, model, project_yaml, model_yaml),
    )
    places = project_yaml.places(), model_yaml.places()
    return Settings(directory, project, model, notes, places=places)


def _notes(
    project: ProjectSettings, model: ModelSettings, project_yaml: YamlFile, model_yaml: YamlFile
) -> Iterator[str]:
    """Yield what one should know of values that are allowed."""
    of_project, of_model = project_yaml.places().of, model_yaml.places().of
    yield from (f"{project_yaml.name}: {note}" for note in project_notes(project))
    yield from (f"{of_project(key)} {doubt}" for key, doubt in project_doubts(project, model))
    yield from (f"{of_model(key)} {doubt}" for key, doubt in model_doubts(model))
    if project.CLUSTER is not None:
        found = cluster_notes(project.CLUSTER, model)
        yield from (f"{project_yaml.name}: {note}" for note in found)
    yield from (f"{model_yaml.name}: {note}" for note in second_stage_notes(project, model))


def stated(
    directory: Path,
    key: str,
    overrides: Mapping[str, Any] | None = None,
    project_file: Path | None = None,
) -> dict[str, Any]:
    """Return what a key of `aimsPAX.yaml` is in the file, the environment and the overrides.

    Args:
        directory: The run directory.
        key: Section and keys inside it, with dots between.
        overrides: As for `load`.
        project_file: As for `load`.

    Returns:
        The values as they were written, by who says them; who says nothing is left out.
    """
    path = tuple(key.split("."))
    file = YamlFile(project_file or directory / _files(directory, PROJECT_FILES)[0])
    spelt = (path[0], _as_written(file, path[0], path[1]), *path[2:])
    found = {FILE: file.value(spelt)}
    for origin, said in ((ENVIRONMENT, from_environment(_keys())), (OVERRIDE, overrides or {})):
        found[origin] = next((v for place, v in _places(said) if place == path), UNSAID)
    return {origin: value for origin, value in found.items() if value is not UNSAID}


def _places(said: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield overrides one by one: their place by our names, and the value."""
    for inner, value in leaves(said):
        section, *rest = (part for name in inner for part in str(name).split("."))
        if rest:
            rest[0] = keys.PROJECT.renamed.get((section, rest[0]), rest[0])
        yield (section, *rest), value


def _controls(
    directory: Path, project: YamlFile
) -> Iterator[tuple[str, Control, Sequence[Mistake]]]:
    """Yield name, content and mistakes of each control file of FHI-aims that is there.

    They are read also if there are mistakes elsewhere. A file that is not there is a mistake of
    the key that names it.
    """
    for name in control_files(project, keys.PROJECT):
        file = directory / Path(name).expanduser()
        if file.is_file():
            yield (file.name, *Control.read(file))


def _with_stress(project: ProjectSettings, model: ModelSettings) -> ProjectSettings:
    """Ask engines for stress if the models train on it, or MD that they drive moves a cell."""
    md, idg = project.MD, project.INITIAL_DATASET_GENERATION
    moves = any(one.ensemble.moves_cell for one in (md.values() if isinstance(md, dict) else [md]))
    driver = idg.initial_sampling if moves and idg is not None else None
    wanted: dict[str, Any] = {}
    if model.stress or driver == "aimd":
        wanted["REFERENCE"] = project.REFERENCE.with_stress()
    if driver == "engine" and idg is not None and idg.sampling_engine is not None:
        sampler = idg.sampling_engine.with_stress()
        wanted[_IDG] = idg.model_copy(update={"sampling_engine": sampler})
    return project.model_copy(update=wanted)


def _files(directory: Path, names: Sequence[str]) -> list[str]:
    """Return the names under which there is a settings file; the first one if there is none."""
    return [name for name in names if (directory / name).exists()] or [names[0]]


def _twice(directory: Path, names: Sequence[str]) -> Iterator[Mistake]:
    """Yield a mistake if the run directory has a settings file under several names."""
    first, *others = _files(directory, names)
    for name in others:
        yield Mistake(MistakeKind.CONFLICT, f"beside {first}", allowed="one", file=name)


def _keys() -> dict[str, list[str]]:
    """The keys of each section of both files."""
    found: dict[str, list[str]] = {}
    for schema, others in ((ProjectSettings, keys.PROJECT), (ModelSettings, keys.MODEL)):
        content = schema_of(schema)
        for section in schema.model_fields:
            found.setdefault(section, []).extend(
                [*fields_of(content, section), *others.names(section)]
            )
    return found


def _override(
    overrides: Mapping[str, Any], origin: str, project: YamlFile, model: YamlFile
) -> Iterator[Mistake]:
    """Give each override to the file of its section (both have a section MISC).

    Yields:
        What is wrong with overrides that belong to no file.
    """
    known = {*ProjectSettings.model_fields, *ModelSettings.model_fields}
    for name, value in overrides.items():
        section, *inner = name.split(".")
        if section not in known:
            yield Mistake(
                MistakeKind.UNKNOWN_SECTION,
                allowed=", ".join(sorted(known)),
                nearest=nearest_name(section, known),
                file=origin,
                key=name,
            )
        elif not inner and not isinstance(value, Mapping):
            found, allowed = value_text(value), "a section with its keys"
            yield Mistake(MistakeKind.WRONG_VALUE, found, allowed=allowed, file=origin, key=name)
        else:
            pairs = [(tuple(inner), value)] if inner else [((str(k),), v) for k, v in value.items()]
            for (key, *rest), content in pairs:
                ours = section in ModelSettings.model_fields
                if section == "MISC":
                    ours = _models_misc(key)
                file = model if ours else project
                file.override((section, _as_written(file, section, key), *rest), content, origin)


def _as_written(file: YamlFile, section: str, key: str) -> str:
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
    return key in model or (key not in project and not nearest_name(key, project))


def _project(file: YamlFile, directory: Path) -> ProjectSettings | None:
    """Check `aimsPAX.yaml`; None if there are mistakes, which the file then has."""
    if not file.readable:
        return None
    engine = engine_meant(file, keys.PROJECT)
    data = own_keys(file, keys.PROJECT, engine)
    teacher = teacher_as_reference(file, data)
    written = {} if teacher else reference_of(file, data, engine, keys.PROJECT)
    # The mistakes of a teacher are reported in the teacher's own section.
    known: set[tuple[str, ...]] = {("REFERENCE",)} if teacher else set()
    if _IDG not in data and _AL not in data:
        schema = schema_of(ProjectSettings)
        for phase in (_IDG, _AL):
            file.mistake((phase,), missing_section(schema, phase))
    project = _validated(file, data, directory, ProjectSettings, keys.PROJECT, known, written)
    if project is not None:
        check_md_sections(file, directory, project)
        check_samples(file, directory, project)
        check_by_geometry(file, directory, project)
        check_member_seeds(file, project)
    return project


def _model(file: YamlFile, directory: Path) -> ModelSettings | None:
    """Check `mace.yaml`; None if there are mistakes, which the file then has."""
    if not file.readable:
        return None
    data = own_keys(file, keys.MODEL)
    return _validated(file, data, directory, ModelSettings, keys.MODEL, set(), {})


def _validated(
    file: YamlFile,
    data: dict[str, Any],
    directory: Path,
    schema: type[File],
    others: keys.OtherKeys,
    known: set[tuple[str, ...]],
    written: Written,
) -> File | None:
    """Check the content of a file against its model.

    Args:
        file: Keeps the mistakes.
        data: The file's sections, with our keys only.
        directory: The run directory.
        schema: The model.
        others: The table of keys that the model does not have.
        known: Places whose mistakes are known already, beside those of the file's mistakes.
        written: Where the user has written keys that are read in another place.
    """
    known = known | {tuple(mistake.key.split(".")) for mistake in file.mistakes if mistake.key}
    for name, field in schema.model_fields.items():
        if isinstance(field.default, Section):
            data.setdefault(name, {})
    try:
        return schema.model_validate(data, context={"directory": directory})
    except ValidationError as error:
        explain = Explainer(
            schema_of(schema),
            {name: others.names(name) for name in schema.model_fields},
            _elsewhere(schema),
            _keys_elsewhere(schema),
            others.earlier,
            replaced_by,
        )
        for problem in error.errors(include_url=False):
            if problem["type"] == "default_factory_not_called":
                continue  # a default that follows from other keys, of which one is wrong
            for mistake in explain(problem):
                path = tuple(mistake.key.split("."))
                path = written.get(path[:2], path)
                if not any(path[: len(place)] == place for place in known):
                    file.mistake(path, mistake)
    return None


def _other_file(schema: type[BaseModel]) -> tuple[type[BaseModel], str]:
    """The model and the name of the other file."""
    if schema is ProjectSettings:
        return ModelSettings, MODEL_FILES[0]
    return ProjectSettings, PROJECT_FILE


def _keys_elsewhere(schema: type[BaseModel]) -> dict[str, str]:
    """The keys of the other file, each with its sections and the name of the file."""
    other, name = _other_file(schema)
    content, sections = schema_of(other), defaultdict[str, list[str]](list)
    for section in other.model_fields:
        for key in fields_of(content, section):
            sections[key].append(section)
    return {key: f"{or_list(found)} of {name}" for key, found in sections.items()}


def _elsewhere(schema: type[BaseModel]) -> dict[str, str]:
    """The sections of the other file, with its name."""
    other, name = _other_file(schema)
    return {section: name for section in other.model_fields if section not in schema.model_fields}
