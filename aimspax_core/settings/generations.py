"""Read what both generations of the original may write as our own keys."""

from __future__ import annotations

from typing import Any

from aimspax_core.settings.document import Document
from aimspax_core.settings.keys import PARSL_OPTIONS, OtherKeys
from aimspax_core.settings.mistakes import nearest, shown

_PHASES = ("INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING")
_NOT_YET = "this version does not have"


def own_keys(file: Document, others: OtherKeys, notes: list[str]) -> dict[str, Any]:
    """Return a file's sections with our keys only; empty sections are left out.

    Args:
        file: Gets the mistakes that only the table of other keys can tell.
        others: That table.
        notes: Gets a line for every key that was read in another way.
    """
    read: dict[str, Any] = {}
    for name, content in file.data.items():
        if not isinstance(content, dict):
            if content is not None:
                read[name] = content
        elif name == "MD" and _by_geometry(content):
            file.mistake((name,), f"found one for each geometry; {_NOT_YET} that yet")
        else:
            keys = _Section(file, name, others, notes)
            keys.read(content)
            read[name] = keys.kept
    return read


class _Section:
    """One section on its way to our keys."""

    def __init__(self, file: Document, name: str, others: OtherKeys, notes: list[str]) -> None:
        self.file, self.name, self.others, self.notes = file, name, others, notes
        self.kept: dict[str, Any] = {}

    def read(self, content: dict[Any, Any]) -> None:
        for key, value in content.items():
            place, others = (self.name, str(key)), self.others
            if place in others.renamed:
                self._rename(place, value, content)
            elif place in others.ignored:
                self._note(place, f"has no effect: {others.ignored[place]}")
                if place == ("CLUSTER", "parsl_options") and isinstance(value, dict):
                    self._parsl_options(place, value)
            elif place in others.later:
                if value != others.later[place]:
                    self.file.mistake(place, f"found {shown(value)}; {_NOT_YET} it yet")
            else:
                self._known(place, value)

    def _known(self, place: tuple[str, str], value: Any) -> None:
        why = self.others.why_refused(place[1])
        if why is not None:
            if value is None or value is False:
                self._note(place, f"has no effect: {why}")
            else:
                self.file.mistake(place, f"refused: {why}")
            return
        folded = value.lower() if isinstance(value, str) else value
        if isinstance(folded, str | bool):
            later = self.others.later_values.get(place, {})
            refused = self.others.refused_values.get(place, {})
            if folded in later:
                self.file.mistake(place, f"found {shown(value)}; {_NOT_YET} {later[folded]} yet")
            elif folded in refused:
                self.file.mistake(place, f"found {shown(value)}; refused: {refused[folded]}")
        elif place == ("MISC", "path_to_geometry") and _by_geometry(value):
            self.file.mistake(place, f"found one for each geometry; {_NOT_YET} that yet")
        self.kept[place[1]] = value

    def _rename(self, place: tuple[str, str], value: Any, content: dict[Any, Any]) -> None:
        new = self.others.renamed[place]
        if new in content:
            self.file.mistake(place, f"found beside {new}, which it is another name of")
        else:
            self._note(place, f"is read as {new}")
            self.file.alias(place, (place[0], new))
            self.kept[new] = value

    def _parsl_options(self, place: tuple[str, str], options: dict[Any, Any]) -> None:
        for name in options:
            if name not in PARSL_OPTIONS:
                self.file.mistake((*place, str(name)), f"unknown key{nearest(name, PARSL_OPTIONS)}")

    def _note(self, place: tuple[str, str], text: str) -> None:
        self.notes.append(f"{self.file.name}: {'.'.join(place)} {text}")


def _by_geometry(value: Any) -> bool:
    """Tell whether something is a dictionary by geometry index, which the second generation has."""
    return isinstance(value, dict) and bool(value) and all(isinstance(key, int) for key in value)


def teacher_as_reference(file: Document, data: dict[str, Any], notes: list[str]) -> bool:
    """Read the second generation's teacher keys as the REFERENCE that they mean.

    Args:
        file: Gets the mistakes.
        data: The sections; gets REFERENCE.
        notes: Gets a line if only one phase names the teacher.

    Returns:
        Whether there is a teacher.
    """
    phases = {name: data[name] for name in _PHASES if isinstance(data.get(name), dict)}
    asked = [name for name in phases if phases[name].get("use_teacher_reference") is True]
    if not asked:
        return False
    first, last = asked[0], asked[-1]
    if "REFERENCE" in data:
        file.mistake((first, "use_teacher_reference"), "found beside REFERENCE; allowed: one")
        return False
    teacher = phases[first].get("teacher_reference_settings")
    if phases[last].get("teacher_reference_settings") != teacher:
        text = f"differs from {first}'s; allowed: one teacher for both phases"
        file.mistake((last, "teacher_reference_settings"), text)
    for name in phases.keys() - asked:
        if "use_teacher_reference" in phases[name]:
            text = f"found False, but {first} has a teacher; allowed: the same in both phases"
            file.mistake((name, "use_teacher_reference"), text)
        else:
            notes.append(f"{file.name}: {name} is labelled by {first}'s teacher too")
    if not isinstance(teacher, dict):
        text = f"found {shown(teacher)}; allowed: a section with model_path, the teacher's file"
        file.mistake((first, "teacher_reference_settings"), text)
    elif str(teacher.get("model_type", "mace")).lower() == "mace-mp":
        text = f"found 'mace-mp'; {_NOT_YET} it yet; give model_type: mace with a model_path"
        file.mistake((first, "teacher_reference_settings"), text)
    else:
        data["REFERENCE"] = {"engine": "mace", "model_path": teacher.get("model_path")}
    return True
