"""Read a run directory's settings files, and report every mistake in all of them at once."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from aimspax_core.errors import SettingsError
from aimspax_core.settings import keys
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

PROJECT_FILE = "aimsPAX.yaml"
MODEL_FILES = ("mace.yaml", "model.yaml")


class Mistake(NamedTuple):
    """One thing that the user has to mend."""

    file: str
    line: int | None
    key: str
    text: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}  {self.key}: {self.text}" if self.key else f"{place}  {self.text}"


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
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


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
    project_text = _File(project_file or directory / PROJECT_FILE)
    model_text = _File(model_file or _model_file(directory))
    sections = _split_overrides(overrides or {}, project_text, model_text)
    project_text.override(sections[0])
    model_text.override(sections[1])
    _teacher_as_reference(project_text)
    project = _validate(project_text, ProjectSettings, notes)
    model = _validate(model_text, ModelSettings, notes)
    mistakes = project_text.mistakes + model_text.mistakes
    if project is not None and model is not None:
        settings = Settings(directory, project, model)
        mistakes += _across(settings, project_text, notes)
    if mistakes:
        raise SettingsError(_message(mistakes))
    assert project is not None and model is not None
    return Settings(directory, project, model, tuple(notes))


class _File:
    """One YAML file: its content as plain data, the lines of its keys, and its mistakes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mistakes: list[Mistake] = []
        self.lines: dict[tuple[str, ...], int] = {}
        self.data: dict[str, Any] = {}
        try:
            content = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            self.mistakes.append(Mistake(path.name, None, "", f"not found in {path.parent}"))
        except (OSError, UnicodeDecodeError) as error:
            self.mistakes.append(Mistake(path.name, None, "", f"cannot be read: {error}"))
        except MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else None
            problem = " ".join(str(error.problem).split())
            self.mistakes.append(Mistake(path.name, line, "", f"not valid YAML: {problem}"))
        else:
            if not isinstance(content, dict):
                found = "nothing" if content is None else type(content).__name__
                text = f"found {found}; allowed: sections with keys"
                self.mistakes.append(Mistake(path.name, None, "", text))
            else:
                self.data = self._plain(content, ())

    @property
    def readable(self) -> bool:
        return not self.mistakes or bool(self.data)

    def _plain(self, node: Any, path: tuple[str, ...]) -> Any:
        """Turn the reader's nodes into plain data, keeping each key's line."""
        if isinstance(node, dict):
            plain: dict[Any, Any] = {}
            for key, value in node.items():
                where = (*path, str(key))
                if hasattr(node, "lc") and key in (node.lc.data or {}):
                    self.lines[where] = node.lc.key(key)[0] + 1
                plain[key] = self._plain(value, where)
            return plain
        if isinstance(node, list):
            return [self._plain(item, path) for item in node]
        for kind in (bool, int, float, str):
            if isinstance(node, kind):
                return kind(node)
        return node

    def override(self, values: Mapping[str, Mapping[str, Any]]) -> None:
        for section, content in values.items():
            if isinstance(content, Mapping) and isinstance(self.data.get(section, {}), dict):
                self.data[section] = {**self.data.get(section, {}), **content}
            else:
                self.data[section] = content

    def mistake(self, path: tuple[str, ...], text: str) -> None:
        line = next((self.lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.lines), None)  # fmt: skip
        self.mistakes.append(Mistake(self.path.name, line, ".".join(path), text))


def _model_file(directory: Path) -> Path:
    """The model settings under whichever of the two generations' names is there."""
    found = [directory / name for name in MODEL_FILES if (directory / name).exists()]
    if len(found) > 1:
        raise SettingsError(f"{directory}: found both {' and '.join(MODEL_FILES)}; allowed: one")
    return found[0] if found else directory / MODEL_FILES[0]


def _split_overrides(
    overrides: Mapping[str, Any], project: _File, model: _File
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Give each override to the file that its section belongs to; both have a section MISC."""
    split: tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]] = ({}, {})
    model_misc = set(ModelSettings.model_fields["MISC"].annotation.model_fields)  # type: ignore[union-attr]
    for name, value in overrides.items():
        section, _, key = name.partition(".")
        pairs = {key: value} if key else value
        if not isinstance(pairs, Mapping):
            project.mistake((section,), f"override: found {value!r}; allowed: SECTION.key or keys")
            continue
        for inner, content in pairs.items():
            ours = section in ModelSettings.model_fields and (
                section != "MISC" or inner in model_misc
            )
            split[1 if ours else 0].setdefault(section, {})[inner] = content
    return split


def _teacher_as_reference(file: _File) -> None:
    """Read the second generation's teacher keys as the REFERENCE that they mean."""
    found: list[tuple[str, Any]] = []
    for name in ("INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"):
        section = file.data.get(name)
        if isinstance(section, dict) and section.get("use_teacher_reference") is True:
            found.append((name, section.get("teacher_reference_settings")))
    if not found:
        return
    if "REFERENCE" in file.data:
        file.mistake((found[0][0], "use_teacher_reference"), "found beside REFERENCE; allowed: one")
        return
    if any(teacher != found[0][1] for _, teacher in found):
        file.mistake(
            (found[-1][0], "teacher_reference_settings"),
            "differs from the other phase's; allowed: one teacher for the whole campaign",
        )
    teacher = found[0][1]
    if isinstance(teacher, dict) and "model_path" in teacher:
        file.data["REFERENCE"] = {"engine": "mace", "model_path": teacher["model_path"]}
    else:
        file.mistake((found[0][0], "teacher_reference_settings"), "missing; needs `model_path`")


def _validate(file: _File, schema: type[BaseModel], notes: list[str]) -> Any:
    """Check a file against its model; None if there are mistakes."""
    if not file.readable:
        return None
    data = {name: _special(file, name, value, notes) for name, value in file.data.items()}
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        for problem in error.errors():
            _explain(file, schema, problem)
    return None


def _special(file: _File, section: str, content: Any, notes: list[str]) -> Any:
    """Handle the keys of a section that are renamed, ignored, refused, or not available yet."""
    if not isinstance(content, dict):
        return content
    kept: dict[str, Any] = {}
    for key, value in content.items():
        place = (section, str(key))
        name = f"{file.path.name}: {section}.{key}"
        if place in keys.RENAMED:
            new = keys.RENAMED[place]
            if new in content:
                file.mistake(place, f"found beside {new}, which it is another name of")
            else:
                notes.append(f"{name} is read as {new}")
                kept[new] = value
        elif place in keys.IGNORED:
            notes.append(f"{name} has no effect: {keys.IGNORED[place]}")
        elif key in keys.REFUSED or str(key).startswith("pretrained_"):
            file.mistake(place, f"refused: {keys.REFUSED.get(str(key), keys.REFUSED['pretrained_model'])}")  # fmt: skip
        elif place in keys.LATER:
            if value != keys.LATER[place]:
                file.mistake(place, f"found {value!r}; this version does not have it yet")
        else:
            later = keys.LATER_VALUES.get(place, {})
            folded = value.lower() if isinstance(value, str) else value
            if isinstance(folded, (str, bool)) and folded in later:
                file.mistake(place, f"found {value!r}; this version does not have {later[folded]} yet")  # fmt: skip
            kept[key] = value
    return kept


def _explain(file: _File, schema: type[BaseModel], problem: Any) -> None:
    """Turn one of pydantic's problems into a mistake in the user's terms."""
    union_tags = {"tblite", "mace"}
    path = tuple(str(part) for part in problem["loc"] if part not in union_tags)
    if any(m.key == ".".join(path) for m in file.mistakes):
        return  # explained already, in better words
    kind, context = problem["type"], problem.get("ctx", {})
    found = f"found {problem['input']!r}"
    if kind == "missing":
        text = f"missing; allowed: {_described(schema, path)}"
        if path == ("REFERENCE",):
            text = "missing; allowed: `engine: tblite` or `engine: mace` with its settings"
    elif kind == "extra_forbidden":
        known = _names(schema, path[:-1])
        text = f"unknown key{_nearest(path[-1], known)}"
        if not difflib.get_close_matches(path[-1], known, n=1, cutoff=0.6):
            text += f"; allowed: {', '.join(known)}"
    elif kind in ("literal_error", "union_tag_invalid"):
        allowed = context.get("expected") or context.get("expected_tags", "")
        near = _nearest(problem["input"] if kind == "literal_error" else context["tag"], [a.strip("' ") for a in allowed.replace(" or ", ",").split(",")])  # fmt: skip
        if kind == "union_tag_invalid":
            path, found = (*path, "engine"), f"found {context['tag']!r}"
        text = f"{found}; allowed: {allowed.replace(chr(39), '')}{near}"
        if any(m.key == ".".join(path) for m in file.mistakes):
            return
    elif kind == "union_tag_not_found":
        path, text = (*path, "engine"), "missing; allowed: tblite, mace"
    elif kind == "value_error":
        text = f"{found}; allowed: {context.get('error', problem['msg'])!s}"
        if problem["input"].__class__ is dict:
            text = str(context.get("error", problem["msg"]))
    else:
        wanted = problem["msg"].removeprefix("Input should be ").removeprefix("a valid ")
        text = f"{found}; allowed: {wanted.split(', unable')[0]}"
    file.mistake(path, text)


def _names(schema: type[BaseModel], path: tuple[str, ...]) -> list[str]:
    """The keys that are valid inside a section."""
    inner = _model_at(schema, path)
    return sorted(inner.model_fields) if inner else []


def _model_at(schema: type[BaseModel], path: tuple[str, ...]) -> type[BaseModel] | None:
    """The settings model that lies at a path of keys, looking through unions."""
    current: list[type[BaseModel]] = [schema]
    for part in path:
        found: list[type[BaseModel]] = []
        for model in current:
            if part in model.model_fields:
                found += _models_in(model.model_fields[part].annotation)
        current = found
    return current[0] if current else None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]


def _described(schema: type[BaseModel], path: tuple[str, ...]) -> str:
    """What a key means, for the message that it is missing."""
    inner = _model_at(schema, path[:-1])
    if inner is None or path[-1] not in inner.model_fields:
        return "a value"
    field = inner.model_fields[path[-1]]
    return (field.description or "a section with its keys").rstrip(".")


def _nearest(name: Any, known: list[str]) -> str:
    """A hint at the valid name that is closest to what was found, if one is close."""
    folded = {k.lower(): k for k in known}
    close = difflib.get_close_matches(str(name).lower(), list(folded), n=1, cutoff=0.6)
    return f"; did you mean {folded[close[0]]}?" if close else ""


def _across(settings: Settings, file: _File, notes: list[str]) -> list[Mistake]:
    """Check what no single key can tell."""
    before = len(file.mistakes)
    idg, al = settings.idg, settings.al
    limits = (idg.max_initial_epochs, idg.max_initial_set_size)
    if idg.desired_acc == 0 and all(limit == float("inf") for limit in limits):
        file.mistake(
            ("INITIAL_DATASET_GENERATION",),
            "nothing ends this phase; give desired_acc, max_initial_epochs or max_initial_set_size",
        )
    if al.desired_acc == 0 and al.max_MD_steps == al.max_train_set_size == float("inf"):
        notes.append(
            f"{file.path.name}: ACTIVE_LEARNING: nothing ends this phase; it runs until you stop "
            "it (desired_acc, max_MD_steps or max_train_set_size would)"
        )
    if al.ensemble_size != idg.ensemble_size:
        notes.append(
            f"{file.path.name}: ACTIVE_LEARNING.ensemble_size is {al.ensemble_size}; "
            f"INITIAL_DATASET_GENERATION's {idg.ensemble_size} holds"
        )
    for section, engine in (("REFERENCE", settings.reference), ("INITIAL_DATASET_GENERATION.sampling_engine", idg.sampling_engine)):  # fmt: skip
        if isinstance(engine, MaceReference) and not (settings.directory / engine.model_path).is_file():  # fmt: skip
            file.mistake(tuple(f"{section}.model_path".split(".")), f"found {str(engine.model_path)!r}; no such file")  # fmt: skip
    if not settings.geometry_path.exists():
        file.mistake(("MISC", "path_to_geometry"), f"found {str(settings.misc.path_to_geometry)!r}; no such file or folder in {settings.directory}")  # fmt: skip
    new = file.mistakes[before:]
    del file.mistakes[before:]
    return new


def _message(mistakes: list[Mistake]) -> str:
    """All mistakes as one message, in the order of the files' lines."""
    ordered = sorted(dict.fromkeys(mistakes), key=lambda m: (m.file, m.line or 0))
    many = "mistake" if len(ordered) == 1 else "mistakes"
    return "\n".join([f"{len(ordered)} {many} in the settings:", *(f"  {m}" for m in ordered)])
