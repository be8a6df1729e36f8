"""Mistakes in settings: what is wrong as data, and the one text that users read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic_core import PydanticCustomError

from aimspax_core.errors import SettingsError
from aimspax_core.settings.reading.wording import allowed_text, fields_of, resolved, tag, tags
from aimspax_core.text import nearest_name, or_list

OVERRIDE = "override"
"""Stands for the file of a value that was given on the command line or by a deployment."""

ENVIRONMENT = "environment"
"""Stands for the file of a value that an environment variable gives."""

FILE = "file"
"""Stands for a settings file, whatever its name, as who says a value."""

BY_HAND = "aimspax set"
"""Stands for the file of a value that was set while the campaign was there."""

_LONGEST = 60


class MistakeKind(StrEnum):
    """In which way something is wrong."""

    UNREADABLE = "unreadable"
    """A settings file is not there, or is no YAML file of sections."""
    UNKNOWN_SECTION = "unknown section"
    UNKNOWN_KEY = "unknown key"
    MISPLACED = "misplaced"
    """A known key or section in a place where it does not belong."""
    MISSING = "missing"
    TWICE = "twice"
    """Said more than once where once is allowed, perhaps under two names."""
    WRONG_VALUE = "wrong value"
    WRONG_LINE = "wrong line"
    """A line inside a value of several lines, such as the options of sbatch."""
    NOT_THERE = "not there"
    """A value names a file or folder that does not exist."""
    REFUSED = "refused"
    """A key or value of aims-PAX or FHI-aims that aimspax does not offer."""
    CONFLICT = "conflict"
    """Right by itself, but not beside what other keys say."""


_BEGINNINGS = {
    MistakeKind.UNKNOWN_SECTION: "unknown section",
    MistakeKind.UNKNOWN_KEY: "unknown key",
    MistakeKind.MISSING: "missing",
}
_OF_A_VALUE = (MistakeKind.WRONG_VALUE, MistakeKind.NOT_THERE)


@dataclass(frozen=True)
class Mistake:
    """One thing that the user has to mend.

    Attributes:
        kind: In which way it is wrong.
        found: What was found, as the user may have written it.
        why: What is wrong with that, where kind and `allowed` do not say it.
        allowed: What is allowed instead.
        nearest: The known name that is nearest to a wrong one.
        file: Name of the file, or `override` or `environment`.
        line: Line in the file, if it has one.
        key: Section and keys inside it with dots between; empty if the whole file is meant.
    """

    kind: MistakeKind
    found: str = ""
    why: str = ""
    allowed: str = ""
    nearest: str | None = None
    file: str = ""
    line: int | None = None
    key: str = ""

    @property
    def text(self) -> str:
        """What is wrong in words, without the place."""
        parts = (
            _BEGINNINGS.get(self.kind, ""),
            self.found and f"found {self.found}",
            f"refused: {self.why}" if self.kind is MistakeKind.REFUSED else self.why,
            self.allowed and f"allowed: {self.allowed}",
            f"did you mean {self.nearest}?" if self.nearest else "",
        )
        return "; ".join(part for part in parts if part)

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}  {self.key}: {self.text}" if self.key else f"{place}  {self.text}"


def settings_error(mistakes: Iterable[Mistake], further: Iterable[str] = ()) -> SettingsError:
    """Return the error that lists all mistakes once, by file and line.

    Args:
        mistakes: In the settings files.
        further: What is wrong beside them, a line each.
    """
    ordered = sorted(dict.fromkeys(mistakes), key=lambda m: (m.file, m.line or 0))
    many = "mistake" if len(ordered) == 1 else "mistakes"
    heading = f"{len(ordered)} {many} in the settings:"
    lines = [heading, *(f"  {m}" for m in ordered), *further]
    return SettingsError("\n".join(lines), tuple(ordered))


def mistaken(*mistakes: Mistake, of_section: bool = False) -> PydanticCustomError:
    """Return the error by which a check of a value tells pydantic what is wrong with it.

    Args:
        mistakes: What is wrong; file and line are found later, and so is what was found of a
            wrong value or a missing file. A key is one inside the value that is checked.
        of_section: Whether the whole section is meant, not the key with the check.
    """
    text = "; ".join(mistake.text for mistake in mistakes)
    return PydanticCustomError(
        "mistaken", "{text}", {"text": text, "mistakes": mistakes, "of_section": of_section}
    )


def wrong_value(allowed: str = "", why: str = "", found: str = "") -> PydanticCustomError:
    """Return the error for a value that is not allowed; without `found` it is the value itself."""
    return mistaken(Mistake(MistakeKind.WRONG_VALUE, found, why, allowed))


def conflict(why: str, found: str = "", allowed: str = "") -> PydanticCustomError:
    """Return the error for a value that other keys do not allow."""
    return mistaken(Mistake(MistakeKind.CONFLICT, found, why, allowed))


def missing(why: str) -> PydanticCustomError:
    """Return the error for a key that another key needs."""
    return mistaken(Mistake(MistakeKind.MISSING, why=why))


def value_text(value: Any) -> str:
    """Return a value as the user may have written it, in one line of at most 60 characters."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        inner = (f"{key}: {value_text(one)}" for key, one in value.items())
        text = "{" + ", ".join(inner) + "}"
    elif isinstance(value, str | Path):
        text = f"'{value}'"
    elif isinstance(value, Sequence):
        text = "[" + ", ".join(value_text(item) for item in value) + "]"
    else:
        text = str(value)
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def missing_section(schema: dict[str, Any], name: str) -> Mistake:
    """Return the mistake for a section that is not there, with what it needs.

    Args:
        schema: The JSON schema of the settings file.
        name: The section.
    """
    return _missing(schema["properties"][name], schema)


def _missing(node: dict[str, Any], schema: dict[str, Any]) -> Mistake:
    inner = _section(node, schema)
    if "oneOf" in inner:
        needs = f"needs {tag(inner)} ({or_list(tags(inner))})"
        return Mistake(MistakeKind.MISSING, why=needs)
    if "properties" in inner:
        needed = [
            f"{key} ({allowed_text(inner['properties'][key], schema)}: "
            f"{_about(inner['properties'][key])})"
            for key in inner.get("required", ())
        ]
        return Mistake(MistakeKind.MISSING, why=f"needs {', '.join(needed)}")
    return Mistake(MistakeKind.MISSING, allowed=f"{allowed_text(node, schema)} ({_about(node)})")


class Explainer:
    """Turns what pydantic found wrong in one settings file into mistakes.

    Args:
        schema: The JSON schema of the file's model, which says what is allowed.
        other_names: By section, keys that are known without being in the schema.
        elsewhere: Sections of other files, with the file that they belong in.
        keys_elsewhere: Keys of other files, with section and file that they belong in.
        earlier: Names that keys once had, with today's.
        replaced_by: Returns what takes the place of a key of another program's files, if anything.
    """

    def __init__(
        self,
        schema: dict[str, Any],
        other_names: Mapping[str, list[str]],
        elsewhere: Mapping[str, str],
        keys_elsewhere: Mapping[str, str],
        earlier: Mapping[str, str],
        replaced_by: Callable[[str], str | None],
    ) -> None:
        self._schema = schema
        self._other_names = other_names
        self._elsewhere, self._keys_elsewhere = elsewhere, keys_elsewhere
        self._earlier, self._replaced_by = earlier, replaced_by

    def __call__(self, problem: Mapping[str, Any]) -> list[Mistake]:
        """Return the mistakes in one of the problems of a `ValidationError`, with their keys."""
        path, node, rest = self._walk(problem["loc"])
        found = value_text(problem["input"])
        match problem["type"]:
            case "missing":
                return [_at(path, _missing(node, self._schema))]
            case "extra_forbidden" | "invalid_key":
                name = str(rest[0])
                return [_at((*path, name), self._unknown(path, node, name))]
            case "union_tag_not_found":
                allowed = or_list(tags(node))
                return [_at((*path, tag(node)), Mistake(MistakeKind.MISSING, allowed=allowed))]
            case "union_tag_invalid":
                named = problem["input"][tag(node)]
                return [_at((*path, tag(node)), _wrong(value_text(named), named, tags(node)))]
            case "mistaken":
                context = problem["ctx"]
                path = path[:-1] if context["of_section"] else path
                return [
                    _at((*path, one.key), replace(one, found=one.found or found))
                    if one.kind in _OF_A_VALUE
                    else _at((*path, one.key), one)
                    for one in context["mistakes"]
                ]
        inner = resolved(node, self._schema)
        if rest:
            in_list = inner.get("type") == "array"
            found += f" as item {int(rest[0]) + 1}" if in_list else f" for {rest[0]}"
        names = inner.get("enum", ())
        allowed = allowed_text(node, self._schema)
        return [_at(path, _wrong(found, problem["input"], names, allowed))]

    def _walk(
        self, loc: Sequence[str | int]
    ) -> tuple[tuple[str, ...], dict[str, Any], Sequence[str | int]]:
        """Follow a place into the schema; return its keys, the schema there, and what is left."""
        path: list[str] = []
        node = self._schema
        for index, part in enumerate(loc):
            outer = resolved(node, self._schema)
            if "oneOf" in outer:
                node = _branch(outer, str(part))
                continue
            inner = outer.get("properties", {}).get(part)
            if inner is None and "$ref" in (outer.get("additionalProperties") or {}):
                inner = outer["additionalProperties"]  # sections by index
            if inner is None:
                return tuple(path), node, loc[index:]
            path.append(str(part))
            node = inner
        return tuple(path), node, ()

    def _unknown(self, path: tuple[str, ...], node: dict[str, Any], name: str) -> Mistake:
        known = sorted(resolved(node, self._schema).get("properties", {}))
        allowed = ", ".join(known)
        if not path:
            if name in self._elsewhere:
                return Mistake(
                    MistakeKind.MISPLACED,
                    "in the wrong file",
                    f"it belongs in {self._elsewhere[name]}",
                )
            close = nearest_name(name, [*known, *self._elsewhere])
            unknown = Mistake(MistakeKind.UNKNOWN_SECTION, allowed=allowed, nearest=close)
            return self._known_otherwise(path, name) or unknown
        if self._earlier.get(name) in known:
            return Mistake(MistakeKind.UNKNOWN_KEY, nearest=self._earlier[name])
        if (otherwise := self._known_otherwise(path, name)) is not None:
            return otherwise
        others = self._other_names.get(path[0], []) if len(path) == 1 else []
        close = nearest_name(name, [*known, *others])
        return Mistake(MistakeKind.UNKNOWN_KEY, allowed="" if close else allowed, nearest=close)

    def _known_otherwise(self, path: tuple[str, ...], name: str) -> Mistake | None:
        """Return where a key belongs that is none in its place, or what takes its place."""
        sections = [
            section
            for section in self._schema["properties"]
            if (section,) != path and name in fields_of(self._schema, section)
        ]
        if sections:
            where = "in the wrong section" if path else "in no section"
            return Mistake(MistakeKind.MISPLACED, where, f"it belongs in {or_list(sections)}")
        if (here := self._replaced_by(name)) is not None:
            why = f"so MACE's own training files call it; in its place: {here}"
            return Mistake(MistakeKind.UNKNOWN_KEY, why=why)
        if name in self._keys_elsewhere:
            why = f"it belongs in {self._keys_elsewhere[name]}"
            return Mistake(MistakeKind.MISPLACED, "in the wrong file", why)
        return None


def _at(path: Sequence[str], mistake: Mistake) -> Mistake:
    return replace(mistake, key=".".join(filter(None, path)))


def _wrong(found: str, value: Any, names: Iterable[str], allowed: str = "") -> Mistake:
    names = list(names)
    return Mistake(
        MistakeKind.WRONG_VALUE,
        found,
        allowed=allowed or or_list(names),
        nearest=nearest_name(value, names),
    )


def _section(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a section; of one that may be there by index, that of each."""
    inner = resolved(node, schema)
    if "oneOf" in inner and "discriminator" not in inner:
        return resolved(inner["oneOf"][0], schema)
    return inner


def _branch(node: dict[str, Any], tag: str) -> dict[str, Any]:
    """Return that part of a union that a tag names: by its key, or by the name of its model."""
    if "discriminator" in node:
        return {"$ref": node["discriminator"]["mapping"][tag]}
    named = (p for p in node["oneOf"] if p.get("$ref", "").endswith(f"/{tag}"))
    return next(named, next(p for p in node["oneOf"] if "$ref" not in p))


def _about(node: dict[str, Any]) -> str:
    return str(node.get("description", "")).rstrip(".")
