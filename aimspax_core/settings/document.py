"""One YAML file: its content as plain data, the lines of its keys, and its mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from aimspax_core.settings.mistakes import Mistake, shown


class Document:
    """A settings file as the user wrote it.

    Attributes:
        name: The file's name.
        data: Its content, sections by name; overridden values are put in.
        mistakes: What is wrong with the file as such, and what others found wrong in it.
        readable: False if nothing is known of its content.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.data: dict[str, Any] = {}
        self.mistakes: list[Mistake] = []
        self.readable = False
        self._lines: dict[tuple[str, ...], int] = {}
        self._overridden: dict[tuple[str, ...], str] = {}
        text = self._text(path)
        if text is not None:
            self._parse(text)

    def mistake(self, path: tuple[str, ...], text: str) -> None:
        """Note a mistake at a key, or at the nearest of the sections around it that has a line."""
        around = [path[:length] for length in range(len(path), 0, -1)]
        origin = next((self._overridden[p] for p in around if p in self._overridden), None)
        if origin is not None:
            self.mistakes.append(Mistake(origin, None, ".".join(path), text))
            return
        line = next((self._lines[place] for place in around if place in self._lines), None)
        self.mistakes.append(Mistake(self.name, line, ".".join(path), text))

    def override(self, path: tuple[str, ...], value: Any, origin: str) -> None:
        """Put a value in the place of what the file says at a key.

        Args:
            path: Section and key, perhaps further keys; a number stands for an index.
            value: What holds instead.
            origin: Who says so, for mistakes.
        """
        inner: dict[Any, Any] = self.data
        *outer, last = (int(part) if part.isdigit() else part for part in path)
        for part in outer:
            if not isinstance(inner.get(part), dict):
                inner[part] = {}
            inner = inner[part]
        inner[last] = value
        self._overridden[path] = origin

    def alias(self, old: tuple[str, ...], new: tuple[str, ...]) -> None:
        """Let mistakes at one key be found where another one is written."""
        if old in self._lines:
            self._lines[new] = self._lines[old]
        if old in self._overridden:
            self._overridden[new] = self._overridden[old]

    def _text(self, path: Path) -> str | None:
        try:
            content = path.read_bytes()
        except IsADirectoryError:
            self._flaw(None, "found a folder; allowed: a file")
        except FileNotFoundError:
            self._flaw(None, f"not found in {path.parent}")
        except OSError as error:
            self._flaw(None, f"cannot be read: {error.strerror}")
        else:
            try:
                return content.decode("utf-8")
            except UnicodeDecodeError as error:
                line = content.count(b"\n", 0, error.start) + 1
                self._flaw(line, "not UTF-8 text; save the file in that encoding")
        return None

    def _parse(self, text: str) -> None:
        try:
            reader = YAML(typ="safe", pure=True)
            reader.constructor.allow_duplicate_keys = True  # found by us, all of them
            root = reader.compose(text)
            content = None if root is None else reader.constructor.construct_document(root)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            problem = " ".join(str(error.problem or error.context).split())
            self._flaw(mark.line + 1 if mark else None, f"not valid YAML: {problem}")
        except YAMLError as error:
            line = text.count("\n", 0, getattr(error, "position", 0)) + 1
            problem = str(getattr(error, "reason", error)).splitlines()[0]
            self._flaw(line, f"not valid YAML: {problem}")
        else:
            if content is not None and not isinstance(content, Mapping):
                self._flaw(None, f"found {shown(content)}; allowed: sections with keys")
                return
            self.readable = True
            if content is not None:
                self._note_lines(root, (), set())
                self.data = {str(name): section for name, section in content.items()}

    def _flaw(self, line: int | None, text: str) -> None:
        self.mistakes.append(Mistake(self.name, line, "", text))

    def _note_lines(self, node: Node, path: tuple[str, ...], seen: set[int]) -> None:
        """Note the line of every key, and keys that are there twice."""
        if not isinstance(node, MappingNode | SequenceNode) or id(node) in seen:
            return
        seen.add(id(node))
        if isinstance(node, SequenceNode):
            for item in node.value:
                self._note_lines(item, path, seen)
            return
        here: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            where = (*path, name)
            if name in here and name != "<<":
                text = f"found twice, first in line {here[name]}; allowed: once"
                self.mistakes.append(Mistake(self.name, line, ".".join(where), text))
            else:
                here[name] = line
                self._lines.setdefault(where, line)
            self._note_lines(value, where, seen)
