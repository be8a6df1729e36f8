"""The keyword arguments of a user's calculator: files, folders and objects among them."""

from __future__ import annotations

import copy
import math
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aimspax_core.errors import SettingsError
from aimspax_core.reference.ase.importing import named, sha256
from aimspax_core.text import did_you_mean

SCRATCH = "directory"
"""The argument that names a folder for what the calculator writes."""

_COMMAND = "command"
_FOLDER_KEY = re.compile(r"(dir|path|directory)(s|ies)?$", re.IGNORECASE)
_OBJECT = ("import", "arguments")


@dataclass(frozen=True)
class Arguments:
    """Arguments as the calculator gets them, and what of them decides its answer.

    Attributes:
        values: The arguments, names of files and folders absolute.
        files: SHA-256 by absolute path, of every file that is named.
        identity: The arguments as they were written, as JSON data: a file counts by its content,
            and a `command` not at all.
        imports: Import paths of the objects among the arguments.
    """

    values: dict[str, Any]
    files: dict[str, str]
    identity: dict[str, Any]
    imports: tuple[str, ...]

    @classmethod
    def read(cls, written: Mapping[str, Any], directory: Path) -> Arguments:
        """Find the files and folders that arguments name.

        A text that names a file is that file. A text that names a folder is that folder if it has
        a `/` or if its key ends with dir, path or directory. A text that names a file in one of
        these folders stays as it is (`pseudopotentials: {Si: Si.upf}` beside `pseudo_dir`), but
        counts by the file's content. What else is in a folder does not count.

        Args:
            written: The arguments as they stand in the settings.
            directory: The run directory, where relative names begin.

        Raises:
            SettingsError: A file cannot be read, or an object is not written as one.
        """
        files: dict[str, str] = {}
        contents: dict[str, str] = {}
        folders: list[Path] = []

        def absolute(text: str, key: str) -> str:
            if key == _COMMAND:
                return _command(text, directory)
            path = _found(text, directory)
            if path is not None and path.is_file():
                files[str(path)] = contents[text] = sha256(path)
                return str(path)
            if path is not None and ("/" in text or _FOLDER_KEY.search(key)):
                folders.append(path)
                return str(path)
            return text

        def look_inside(text: str, key: str) -> str:
            found = [_found(text, folder) for folder in folders if key != _COMMAND]
            path = next((path for path in found if path is not None and path.is_file()), None)
            if path is not None and text not in contents:
                files[str(path)] = contents[text] = sha256(path)
            return text

        imports = tuple(path for _, path, _ in objects(written))
        scratch = {key: value for key, value in written.items() if key == SCRATCH}
        given = {key: value for key, value in written.items() if key != SCRATCH}
        values = _changed(given, absolute) | scratch
        _changed(given, look_inside)
        return cls(values, files, _as_json(written, contents), imports)

    def made(self) -> dict[str, Any]:
        """Return the arguments for one calculator, with objects of its own."""
        return {name: _built(value) for name, value in self.values.items()}


def objects(value: Any, key: str = "") -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield key, import path and arguments of each object in arguments, inner ones first.

    Raises:
        SettingsError: Something has a key `import` and is not written as an object.
    """
    if isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from objects(inner, f"{key}.{index}")
    if not isinstance(value, Mapping):
        return
    for name, inner in value.items():
        yield from objects(inner, f"{key}.{name}" if key else str(name))
    if not _is_object(value):
        return
    path, given = value["import"], value.get("arguments", {})
    for name in value:
        if name not in _OBJECT:
            raise SettingsError(
                f"{key}: an object has no key {name}{did_you_mean(name, _OBJECT)}"
                f"; allowed: {' and '.join(_OBJECT)}"
            )
    if not isinstance(path, str) or "." not in path:
        raise SettingsError(f"{key}.import: found {path!r}; allowed: an import path")
    if not isinstance(given, Mapping):
        raise SettingsError(f"{key}.arguments: found {given!r}; allowed: keyword arguments")
    yield key, path, given


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping) and "import" in value


def _built(value: Any) -> Any:
    if _is_object(value):
        arguments = value.get("arguments", {})
        return named(value["import"])(**{k: _built(v) for k, v in arguments.items()})
    if isinstance(value, Mapping):
        return {name: _built(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_built(inner) for inner in value)
    return copy.deepcopy(value)


def _changed(value: Any, change: Callable[[str, str], str], key: str = "") -> Any:
    """Return data with every text in it changed; `change` gets the text and its key."""
    if isinstance(value, Mapping):
        return {name: _changed(inner, change, str(name)) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_changed(inner, change, key) for inner in value)
    return change(value, key) if isinstance(value, str) else copy.deepcopy(value)


def _found(text: str, directory: Path) -> Path | None:
    try:
        path = directory.resolve() / Path(text).expanduser()
        return path if text and path.exists() else None
    # Too long for a name, or the home of nobody: some other text.
    except (OSError, RuntimeError, ValueError):
        return None


def _command(text: str, directory: Path) -> str:
    """Make names of files in a command absolute: it runs in a folder of its own."""

    def absolute(word: re.Match[str]) -> str:
        path = _found(word.group(), directory)
        return word.group() if path is None or not path.is_file() else shlex.quote(str(path))

    return re.sub(r"[^\s'\"<>|;&=]*/[^\s'\"<>|;&=]*", absolute, text)


def _as_json(value: Any, contents: Mapping[str, str]) -> Any:
    """Return arguments as JSON data; see `Arguments.identity`."""
    if isinstance(value, str) and value in contents:
        return {"sha256": contents[value]}
    if isinstance(value, Mapping):
        kept = {str(name): inner for name, inner in value.items() if name != _COMMAND}
        return {name: _as_json(inner, contents) for name, inner in kept.items()}
    if isinstance(value, list | tuple):
        return [_as_json(inner, contents) for inner in value]
    plain = value is None or isinstance(value, str | bool | int | float)
    finite = not isinstance(value, float) or math.isfinite(value)
    return value if plain and finite else repr(value)
