"""Read what both generations of the original may write as our own keys."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter, ValidationError

from aimspax_core.settings.known_engines import SECTIONS
from aimspax_core.settings.original.keys import NO_PARSL, PARSL_OPTIONS, OtherKeys
from aimspax_core.settings.reading.mistakes import Mistake, MistakeKind, value_text
from aimspax_core.settings.reading.yaml_lines import YamlFile
from aimspax_core.settings.values import by_index, is_index, lower

_PHASES = ("INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING")
_REFERENCE = "REFERENCE"
_START_PROGRAMS = tuple(s.engine_name() for s in SECTIONS if s.starts_programs)
_BLOCKS = (("CLUSTER", "blocks"), ("CLUSTER", "parsl_options"))
Written = dict[tuple[str, ...], tuple[str, ...]]
"""Where the user has written a key, or would have, by its place in REFERENCE."""


def own_keys(file: YamlFile, others: OtherKeys, engine: str | None = None) -> dict[str, Any]:
    """Return a file's sections with our keys only; empty sections are left out.

    Args:
        file: What the user wrote; keeps a note on each key that is read in another way, and the
            mistakes that only the table of other keys can tell.
        others: That table.
        engine: The reference; keys of other engines have no effect.
    """
    read: dict[str, Any] = {}
    for name, written in file.data.items():
        if name in others.refused_sections:
            file.mistake((name,), _refused(others.refused_sections[name]))
            continue
        content = _one_or_many(file, written) if name == "MD" else written
        if name == "CLUSTER" and isinstance(written, dict):
            content = _with_type(written)
        if not isinstance(content, dict):
            if content is not None:
                read[name] = content
        elif name == "MD" and by_index(content):
            read[name] = {
                int(index): _kept(file, name, inner, others, (name, str(index)), engine)
                for index, inner in content.items()
            }
        else:
            read[name] = _kept(file, name, content, others, (name,), engine)
    return read


def _refused(why: str, found: str = "") -> Mistake:
    return Mistake(MistakeKind.REFUSED, found, why)


def _beside(other: str, allowed: str) -> Mistake:
    return Mistake(MistakeKind.CONFLICT, f"beside {other}", allowed=allowed)


def _with_type(cluster: dict[Any, Any]) -> dict[Any, Any]:
    """Return the section CLUSTER with its type, which is `slurm` in the first generation."""
    first = {"slurm_str", "parsl_options", "blocks", "worker_str"} & cluster.keys()
    return {"type": "slurm", **cluster} if first else cluster


def _one_or_many(file: YamlFile, content: Any) -> Any:
    """Return the section MD with keys for all geometries, or sections by index, but not both."""
    if not isinstance(content, dict):
        return content
    indices = {key: inner for key, inner in content.items() if is_index(key)}
    common = {key: value for key, value in content.items() if not is_index(key)}
    if not indices or not common:
        return content
    if len(common) < len(indices):
        for key in common:
            allowed = ", ".join(f"MD.{index}.{key}" for index in indices)
            file.mistake(("MD", str(key)), _beside("sections by geometry", allowed))
        return indices
    for index in indices:
        allowed = "either sections by geometry only, or none"
        file.mistake(("MD", str(index)), _beside("keys for all geometries", allowed))
    return common


def _kept(
    file: YamlFile,
    name: str,
    content: Any,
    others: OtherKeys,
    place: tuple[str, ...],
    engine: str | None,
) -> Any:
    """Return a section, or one of the sections in it, with our keys only."""
    if not isinstance(content, dict):
        return content
    keys = _Section(file, name, others, place, engine)
    keys.read(content)
    return keys.kept


class _Section:
    """One section on its way to our keys."""

    def __init__(
        self,
        file: YamlFile,
        name: str,
        others: OtherKeys,
        where: tuple[str, ...],
        engine: str | None,
    ) -> None:
        self.file, self.name, self.others = file, name, others
        self.where, self.engine = where, engine
        self.kept: dict[str, Any] = {}

    def read(self, content: dict[Any, Any]) -> None:
        for key, value in content.items():
            place, others = (self.name, str(key)), self.others
            if place in others.renamed:
                self._rename(place, value, content)
            elif place in others.moved:
                if self.engine not in others.moved[place].engines:
                    self.file.note(place, f"has no effect: {others.moved[place].otherwise}")
            elif place in others.ignored:
                self.file.note(place, f"has no effect: {others.ignored[place]}")
            else:
                self._known(place, value)

    def _known(self, place: tuple[str, str], value: Any) -> None:
        why = self.others.why_refused(place[1])
        if why is not None:
            if value is None or value is False:
                self.file.note((*self.where, place[1]), f"has no effect: {why}")
            else:
                self.file.mistake((*self.where, place[1]), _refused(why))
            return
        folded = value.lower() if isinstance(value, str) else value
        if isinstance(folded, str | bool):
            refused = self.others.refused_values.get(place, {})
            if folded in refused:
                self.file.mistake(place, _refused(refused[folded], value_text(value)))
        self.kept[place[1]] = self._without_parsl(place, self._model_named(place, value))

    def _model_named(self, place: tuple[str, str], value: Any) -> Any:
        """Read the first name that the second generation had for a foundation model's size."""
        if place[1] != "foundational_model_settings" or not isinstance(value, dict):
            return value
        if "model_size" not in value or "mace_model" in value:
            return value
        self.file.note((*place, "model_size"), "is read as mace_model")
        self.file.alias((*place, "model_size"), (*place, "mace_model"))
        return {("mace_model" if key == "model_size" else key): v for key, v in value.items()}

    def _rename(self, place: tuple[str, str], value: Any, content: dict[Any, Any]) -> None:
        new = self.others.renamed[place]
        written = (*self.where, place[1])
        if new in content:
            twice = Mistake(MistakeKind.TWICE, f"beside {new}", "it is another name of that")
            self.file.mistake(written, twice)
        else:
            self.file.note(written, f"is read as {new}")
            self.file.alias(written, (*self.where, new))
            self.kept[new] = self._without_parsl(place, value)

    def _without_parsl(self, place: tuple[str, str], value: Any) -> Any:
        """Leave out what configured PARSL among the keys of its blocks."""
        if place not in _BLOCKS or not isinstance(value, dict):
            return value
        idle = [name for name in value if name in PARSL_OPTIONS]
        if idle:
            verb = "has" if len(idle) == 1 else "have"
            self.file.note((*place, ", ".join(idle)), f"{verb} no effect: {NO_PARSL}")
        return {key: inner for key, inner in value.items() if key not in idle}


def _true(value: Any) -> bool:
    """Tell whether a value will be read as True; what is neither True nor False is told later."""
    try:
        return TypeAdapter(bool).validate_python(value)
    except ValidationError:
        return False


def engine_meant(file: YamlFile, others: OtherKeys) -> str | None:
    """Return the reference that a file means; one of the original without a teacher, FHI-aims.

    Returns:
        The engine, in our spelling if it is one of ours; None if there is no telling, or if it is
        a teacher.
    """
    reference = file.data.get(_REFERENCE)
    if isinstance(reference, dict) and "engine" in reference:
        return _engine(reference["engine"])
    phases = [file.data[name] for name in _PHASES if isinstance(file.data.get(name), dict)]
    if any(_true(phase.get("use_teacher_reference")) for phase in phases):
        return None
    found = {
        others.moved[section, key].key
        for section, key in others.moved
        if isinstance(file.data.get(section), dict) and key in file.data[section]
    }
    return "aims" if found & {"species_dir", "launch_str", "control"} else None


def control_files(file: YamlFile, others: OtherKeys) -> list[str]:
    """Return the control files of FHI-aims, the reference's and the sampling engine's, each once.

    Args:
        file: What the user wrote.
        others: The table of keys that are elsewhere.
    """
    named: list[Any] = []
    if engine_meant(file, others) == "aims":
        said = said_at(file, "aims", "control", others)
        named.append(file.data[said[0][0]][said[0][1]] if said else None)
    phase = file.data.get(_PHASES[0])
    if isinstance(phase, dict) and lower(phase.get("initial_sampling")) == "engine":
        engine = phase.get("sampling_engine")
        if isinstance(engine, dict) and engine.get("engine") == "aims":
            named.append(engine.get("control"))
    names = [
        name
        for control in named
        for name in (control.values() if isinstance(control, dict) else [control or "control.in"])
    ]
    return list(dict.fromkeys(name for name in names if isinstance(name, str)))


def said_at(file: YamlFile, engine: str, key: str, others: OtherKeys) -> list[tuple[str, str]]:
    """Return where it is said what a key of REFERENCE is; REFERENCE itself comes first.

    What is overridden leaves out what is only in the file: the places have the same rank.

    Args:
        file: What the user wrote.
        engine: The reference.
        key: The key's name in REFERENCE.
        others: The table of keys that are elsewhere.
    """
    places = [
        (section, name)
        for section, name in [(_REFERENCE, key), *_elsewhere(engine, key, others)]
        if isinstance(file.data.get(section), dict) and name in file.data[section]
    ]
    highest = max(map(file.rank, places), default=0)
    return [place for place in places if file.rank(place) == highest]


def _elsewhere(engine: str, key: str, others: OtherKeys) -> list[tuple[str, str]]:
    """Return where the original has a key of REFERENCE."""
    return [
        place
        for place, moved in others.moved.items()
        if moved.key == key and engine in moved.engines
    ]


def _engine(name: Any) -> Any:
    """Return an engine's name as we spell it."""
    folded = lower(name)
    return "aims" if folded == "fhi-aims" else folded


def reference_of(
    file: YamlFile, data: dict[str, Any], engine: str | None, others: OtherKeys
) -> Written:
    """Complete REFERENCE with what the original has in other sections.

    Args:
        file: What the user wrote; gets the mistakes.
        data: The sections with our keys; gets REFERENCE.
        engine: The reference that the file means; see `engine_meant`.
        others: The table of keys that are elsewhere.

    Returns:
        Where the user has written the keys of REFERENCE, or where the original has them.
    """
    given = data.get(_REFERENCE)
    if engine is None or not isinstance(given, dict | None):
        return {}
    reference = {**(given or {}), "engine": engine}
    written: Written = {}
    moved = (moved.key for moved in others.moved.values() if engine in moved.engines)
    for key in dict.fromkeys(moved):
        target, said = (_REFERENCE, key), said_at(file, engine, key, others)
        if not said:
            missed = [
                place
                for place in _elsewhere(engine, key, others)
                if isinstance(file.data.get(place[0]), dict | None)
            ]
            if given is None and missed:
                written[target] = missed[0]
            continue
        values = [file.data[section][name] for section, name in said]
        for place, value in zip(said, values, strict=True):
            if value != values[0]:
                found = f"{value_text(value)}, but {'.'.join(said[0])} is {value_text(values[0])}"
                file.mistake(place, Mistake(MistakeKind.CONFLICT, found, allowed="one"))
        reference[key] = values[0]
        if said[0] != target:
            written[target] = said[0]
    output = data.get("MISC", {}).get("output_dir") if isinstance(data.get("MISC"), dict) else None
    if engine in _START_PROGRAMS and isinstance(output, str):
        reference.setdefault("calc_dir", f"{output}/calc")
    data[_REFERENCE] = reference
    return written


def teacher_as_reference(file: YamlFile, data: dict[str, Any]) -> bool:
    """Read the second generation's teacher keys as the REFERENCE that they mean.

    Args:
        file: Keeps the mistakes, and a note if only one phase names the teacher.
        data: The sections; gets REFERENCE.

    Returns:
        Whether there is a teacher.
    """
    phases = {name: data[name] for name in _PHASES if isinstance(data.get(name), dict)}
    asked = [name for name in phases if _true(phases[name].get("use_teacher_reference"))]
    if not asked:
        return False
    first, last = asked[0], asked[-1]
    if "REFERENCE" in data:
        file.mistake((first, "use_teacher_reference"), _beside("REFERENCE", "one"))
        return False
    teacher = phases[first].get("teacher_reference_settings")
    if phases[last].get("teacher_reference_settings") != teacher:
        differs = Mistake(
            MistakeKind.CONFLICT,
            why=f"differs from {first}'s",
            allowed="one teacher for both phases",
        )
        file.mistake((last, "teacher_reference_settings"), differs)
    for name in phases.keys() - asked:
        if "use_teacher_reference" in phases[name]:
            found, allowed = f"False, but {first} has a teacher", "the same in both phases"
            conflict = Mistake(MistakeKind.CONFLICT, found, allowed=allowed)
            file.mistake((name, "use_teacher_reference"), conflict)
        else:
            file.note((name,), f"is labelled by {first}'s teacher too")
    if not isinstance(teacher, dict):
        allowed = "a section with model_path, the teacher's file"
        wrong = Mistake(MistakeKind.WRONG_VALUE, value_text(teacher), allowed=allowed)
        file.mistake((first, "teacher_reference_settings"), wrong)
    else:
        data["REFERENCE"] = _teaching(teacher)
    return True


def _teaching(teacher: dict[str, Any]) -> dict[str, Any]:
    """Return the REFERENCE that a section `teacher_reference_settings` means."""
    kind = str(teacher.get("model_type", "mace")).lower()
    key = "mace_model" if kind == "mace-mp" else "model_path"
    named = {key: teacher[key]} if key in teacher else {}
    return {"engine": kind if kind in ("mace-mp", "so3lr") else "mace", **named}
