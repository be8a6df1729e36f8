"""Mistakes in settings, told in the user's words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aimspax_core.settings.reading.wording import resolved, tag, tags, words
from aimspax_core.text import did_you_mean, or_list

OVERRIDE = "override"
"""Stands for the file of a value that was given on the command line or by a deployment."""

ENVIRONMENT = "environment"
"""Stands for the file of a value that an environment variable gives."""

_LONGEST = 60


class Mistake(NamedTuple):
    """One thing that the user has to mend."""

    file: str
    line: int | None
    key: str
    text: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}  {self.key}: {self.text}" if self.key else f"{place}  {self.text}"


def message(mistakes: Iterable[Mistake]) -> str:
    """Return all mistakes as one message, by file and line."""
    ordered = sorted(dict.fromkeys(mistakes), key=lambda m: (m.file, m.line or 0))
    many = "mistake" if len(ordered) == 1 else "mistakes"
    return "\n".join([f"{len(ordered)} {many} in the settings:", *(f"  {m}" for m in ordered)])


def shown(value: Any) -> str:
    """Return a value as the user may have written it."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        text = "{" + ", ".join(f"{key}: {shown(inner)}" for key, inner in value.items()) + "}"
    elif isinstance(value, str | Path):
        text = f"'{value}'"
    elif isinstance(value, Sequence):
        text = "[" + ", ".join(shown(item) for item in value) + "]"
    else:
        text = str(value)
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


class Explainer:
    """Turns pydantic's problems with one settings file into (path of keys, text).

    Args:
        schema: The JSON schema of the file's model: what is allowed is told from it.
        other_names: By section, keys that are known without being in the schema.
        elsewhere: Sections of other files, with the file that they belong in.
        earlier: Names that keys once had, with today's.
    """

    def __init__(
        self,
        schema: dict[str, Any],
        other_names: Mapping[str, list[str]],
        elsewhere: Mapping[str, str],
        earlier: Mapping[str, str],
    ) -> None:
        self._schema = schema
        self._other_names = other_names
        self._elsewhere = elsewhere
        self._earlier = earlier

    def __call__(self, problem: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
        """Explain one of the problems of a `ValidationError`."""
        path, node, rest = self._walk(problem["loc"])
        kind, found = problem["type"], shown(problem["input"])
        context = problem.get("ctx", {})
        match kind:
            case "missing":
                return path, self._missing(node)
            case "extra_forbidden" | "invalid_key":
                return (*path, str(rest[0])), self._unknown(path, node, str(rest[0]))
            case "union_tag_not_found":
                return (*path, tag(node)), f"missing; allowed: {or_list(tags(node))}"
            case "union_tag_invalid":
                named, names = problem["input"][tag(node)], tags(node)
                hint = did_you_mean(named, names)
                return (*path, tag(node)), f"found {shown(named)}; allowed: {or_list(names)}{hint}"
            case "plain":
                return path, problem["msg"]
            case "section":
                return path[:-1], problem["msg"]
            case "wrong":
                hint = did_you_mean(problem["input"], context.get("names", ()))
                return path, f"found {found}; {problem['msg']}{hint}"
        inner = resolved(node, self._schema)
        if rest:
            in_list = inner.get("type") == "array"
            found += f" as item {int(rest[0]) + 1}" if in_list else f" for {rest[0]}"
        hint = did_you_mean(problem["input"], inner.get("enum", ()))
        return path, f"found {found}; allowed: {words(node, self._schema)}{hint}"

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

    def _missing(self, node: dict[str, Any]) -> str:
        inner = self._section(node)
        if "oneOf" in inner:
            return f"missing; needs {tag(inner)} ({or_list(tags(inner))})"
        if "properties" in inner:
            needed = [self._need(inner, key) for key in inner.get("required", ())]
            return f"missing; needs {', '.join(needed)}"
        return f"missing; allowed: {words(node, self._schema)} ({_about(node)})"

    def _section(self, node: dict[str, Any]) -> dict[str, Any]:
        """Return the schema of a section; of one that may be there by index, that of each."""
        inner = resolved(node, self._schema)
        if "oneOf" in inner and "discriminator" not in inner:
            return resolved(inner["oneOf"][0], self._schema)
        return inner

    def _need(self, section: dict[str, Any], key: str) -> str:
        node = section["properties"][key]
        return f"{key} ({words(node, self._schema)}: {_about(node)})"

    def _unknown(self, path: tuple[str, ...], node: dict[str, Any], name: str) -> str:
        known = sorted(resolved(node, self._schema).get("properties", {}))
        allowed = f"; allowed: {', '.join(known)}"
        if not path:
            if name in self._elsewhere:
                return f"found in the wrong file; it belongs in {self._elsewhere[name]}"
            return f"unknown section{did_you_mean(name, [*known, *self._elsewhere])}{allowed}"
        if self._earlier.get(name) in known:
            return f"unknown key; did you mean {self._earlier[name]}?"
        others = [
            section
            for section, inner in self._schema["properties"].items()
            if name in self._section(inner).get("properties", {})
        ]
        if others:
            return f"unknown key; it belongs in {' or '.join(others)}"
        others = self._other_names.get(path[0], []) if len(path) == 1 else []
        return f"unknown key{did_you_mean(name, [*known, *others]) or allowed}"


def _branch(node: dict[str, Any], tag: str) -> dict[str, Any]:
    """Return that part of a union that a tag names: by its key, or by the name of its model."""
    if "discriminator" in node:
        return {"$ref": node["discriminator"]["mapping"][tag]}
    named = (p for p in node["oneOf"] if p.get("$ref", "").endswith(f"/{tag}"))
    return next(named, next(p for p in node["oneOf"] if "$ref" not in p))


def _about(node: dict[str, Any]) -> str:
    return str(node.get("description", "")).rstrip(".")
