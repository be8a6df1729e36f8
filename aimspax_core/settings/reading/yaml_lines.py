"""One YAML file: its content as plain data, the lines of its keys, and its mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from aimspax_core.settings.reading.mistakes import (
    BY_HAND,
    ENVIRONMENT,
    OVERRIDE,
    Mistake,
    MistakeKind,
    value_text,
)
from aimspax_core.settings.reading.places import Places
from aimspax_core.storage import cannot_take, naming

_MERGE = "tag:yaml.org,2002:merge"
_ORIGINS = (ENVIRONMENT, OVERRIDE, BY_HAND)
"""Who may override the file; the last goes before all others."""


UNSAID = object()
"""What a file says of a key that it does not have."""


class YamlFile:
    """A settings file as the user wrote it.

    Attributes:
        name: The file's name.
        data: Its content, sections by name; overridden values are put in.
        mistakes: What is wrong with the file as such, and what others found wrong in it.
        notes: What is read in another way than written, or has no effect, each a sentence.
        readable: False if nothing is known of its content.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.data: dict[str, Any] = {}
        self.mistakes: list[Mistake] = []
        self.notes: list[str] = []
        self.readable = False
        self._lines: dict[tuple[str, ...], int] = {}
        self._overridden: dict[tuple[str, ...], str] = {}
        text = self._text(path)
        if text is not None:
            self._parse(text)

    def note(self, path: tuple[str, ...], text: str) -> None:
        """Keep a note on a key: `text` goes on after the key."""
        self.notes.append(f"{self.name}: {'.'.join(path)} {text}")

    def mistake(self, path: tuple[str, ...], mistake: Mistake) -> None:
        """Keep a mistake at a key, or at the nearest of the sections around it that has a line."""
        around = [path[:length] for length in range(len(path), 0, -1)]
        origin = next((self._overridden[p] for p in around if p in self._overridden), None)
        if origin is not None:
            self.mistakes.append(replace(mistake, file=origin, key=".".join(path)))
            return
        line = next((self._lines[place] for place in around if place in self._lines), None)
        self.mistakes.append(replace(mistake, file=self.name, line=line, key=".".join(path)))

    def override(self, path: tuple[str, ...], value: Any, origin: str) -> None:
        """Put a value in the place of what the file says at a key.

        Args:
            path: Section and key, perhaps further keys; a number is the index or name that it is
                in the file, and a name that is not there yet is a text.
            value: What holds instead.
            origin: Who says so, for mistakes.
        """
        inner: dict[Any, Any] = self.data
        *outer, last = path
        for part in outer:
            key = _key(inner, part)
            held = inner.get(key)
            # A copy: in YAML an alias is the same section in two places.
            inner[key] = dict(held) if isinstance(held, dict) else {}
            inner = inner[key]
        inner[_key(inner, last)] = value
        self._overridden[path] = origin

    def leave_out(self, path: tuple[str, ...]) -> None:
        """Have a key count as not given."""
        if self.value(path) is UNSAID:
            return
        inner: dict[Any, Any] = self.data
        *outer, last = path
        for part in outer:
            key = _key(inner, part)
            inner[key] = dict(inner[key])  # a copy, as in `override`
            inner = inner[key]
        del inner[_key(inner, last)]

    def value(self, path: tuple[str, ...]) -> Any:
        """Return what is said at a key; `UNSAID` if nothing is."""
        inner: Any = self.data
        for part in path:
            if not isinstance(inner, Mapping) or _key(inner, part) not in inner:
                return UNSAID
            inner = inner[_key(inner, part)]
        return inner

    def line(self, path: tuple[str, ...]) -> int | None:
        """Return the line where the file says a key; None if it does not."""
        return None if path in self._overridden else self._lines.get(path)

    def places(self) -> Places:
        """Return where its keys stand, for messages that come later."""
        lines, overridden = (
            {".".join(path): value for path, value in known.items()}
            for known in (self._lines, self._overridden)
        )
        return Places(self.name, lines, overridden)  # type: ignore[arg-type]

    def rank(self, path: tuple[str, ...]) -> int:
        """Return how far what is said at a key, or at keys in it, goes before the file.

        Returns:
            0 if the file says it, 1 if the environment does, 2 if an override does, 3 if it was
            set by hand.
        """
        inside = [who for place, who in self._overridden.items() if place[: len(path)] == path]
        return max((_ORIGINS.index(who) + 1 for who in inside), default=0)

    def alias(self, old: tuple[str, ...], new: tuple[str, ...]) -> None:
        """Let mistakes at one key, or at keys in it, be found where another one is written."""
        _also(self._lines, old, new)
        _also(self._overridden, old, new)

    def _text(self, path: Path) -> str | None:
        try:
            with naming(path):
                content = path.read_bytes()
        except IsADirectoryError:
            self._unreadable(found="a folder", allowed="a file")
        except FileNotFoundError:
            self._unreadable(f"not found in {path.parent}")
        except OSError as error:
            if cannot_take(error):  # no mistake of anybody's
                raise
            self._unreadable(f"cannot be read: {error.strerror}")
        else:
            try:
                return content.decode("utf-8")
            except UnicodeDecodeError as error:
                line = content.count(b"\n", 0, error.start) + 1
                self._unreadable("not UTF-8 text; save the file in that encoding", line)
        return None

    def _parse(self, text: str) -> None:
        try:
            reader = YAML(typ="safe", pure=True)
            reader.constructor.allow_duplicate_keys = True  # found by us, all of them
            root = reader.compose(text)
            if isinstance(root, MappingNode):
                self._note_lines(root, (), set())  # while merge keys are what was written
            content = None if root is None else reader.constructor.construct_document(root)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            problem = " ".join(str(error.problem or error.context).split())
            self._unreadable(f"not valid YAML: {problem}", mark.line + 1 if mark else None)
        except YAMLError as error:
            line = text.count("\n", 0, getattr(error, "position", 0)) + 1
            problem = str(getattr(error, "reason", error)).splitlines()[0]
            self._unreadable(f"not valid YAML: {problem}", line)
        else:
            if content is not None and not isinstance(content, Mapping):
                self._unreadable(found=value_text(content), allowed="sections with keys")
                return
            self.readable = True
            if content is not None:
                self.data = {str(name): section for name, section in content.items()}

    def _unreadable(
        self, why: str = "", line: int | None = None, found: str = "", allowed: str = ""
    ) -> None:
        kind = MistakeKind.UNREADABLE
        self.mistakes.append(Mistake(kind, found, why, allowed, file=self.name, line=line))

    def _note_lines(self, node: Node, path: tuple[str, ...], seen: set[int]) -> None:
        """Note the line of every key, and keys that are there twice.

        What a merge key (`<<`) brings in is not there twice: the section's own keys go before it.
        """
        if not isinstance(node, MappingNode | SequenceNode) or id(node) in seen:
            return
        seen.add(id(node))
        if isinstance(node, SequenceNode):
            for item in node.value:
                self._note_lines(item, path, seen)
            return
        here: dict[str, int] = {}
        merged: list[Node] = []
        for key, value in node.value:
            if key.tag == _MERGE:
                merged.append(value)
                continue
            name, line = str(key.value), key.start_mark.line + 1
            where = (*path, name)
            if name in here:
                found = f"twice, first in line {here[name]}"
                twice = Mistake(MistakeKind.TWICE, found, allowed="once")
                place = ".".join(where)
                self.mistakes.append(replace(twice, file=self.name, line=line, key=place))
            else:
                here[name] = line
                self._lines.setdefault(where, line)
            self._note_lines(value, where, seen)
        for value in merged:
            self._note_lines(value, path, seen)


def _also(known: dict[tuple[str, ...], Any], old: tuple[str, ...], new: tuple[str, ...]) -> None:
    """Say of a key, and of keys in it, what is known of another one."""
    inside = {place: found for place, found in known.items() if place[: len(old)] == old}
    known.update({(*new, *place[len(old) :]): found for place, found in inside.items()})


def _key(section: Mapping[Any, Any], part: str) -> Any:
    """Return the key that a part of a path means: a number may be there as a number or a text."""
    if part not in section and part.isascii() and part.isdecimal() and int(part) in section:
        return int(part)
    return part
