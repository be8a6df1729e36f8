"""What an import path names, the package or file that it comes from, and hints when it is wrong."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import pkgutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from aimspax_core import safe_files
from aimspax_core.errors import SettingsError
from aimspax_core.text import did_you_mean


def named(path: str) -> Callable[..., Any]:
    """Import what a dotted path names: a class, a function, or a method of a class.

    Args:
        path: Such as `ase.calculators.emt.EMT` or `ase.calculators.tersoff.Tersoff.from_lammps`.

    Raises:
        SettingsError: Nothing has that name (the text gives the nearest that there is), importing
            it fails (the text gives the cause), or it cannot be called.
    """
    names = path.split(".")
    found: Any = _module(path, names[0])
    for depth, name in enumerate(names[1:], start=1):
        so_far = ".".join(names[:depth])
        if not hasattr(found, name):
            _submodule(path, found, so_far, name)
        found = getattr(found, name)
    if not callable(found):
        raise SettingsError(f"found {path!r}; it is not a class or function but {_kind(found)}")
    return found


def provider(path: str) -> dict[str, Any]:
    """Return which version of which package provides what a path names, as JSON data.

    Returns:
        The version of every package that has the path's first module; for a module that no
        package has, the SHA-256 of its file, and of the file that the named thing is defined in.

    Raises:
        SettingsError: See `named`.
    """
    packages = sorted(set(_distributions().get(path.partition(".")[0], ())))
    if packages:
        return {name: importlib.metadata.version(name) for name in packages}
    found = named(path)
    modules = {_longest_module(path), str(getattr(found, "__module__", ""))}
    files = {name: getattr(sys.modules.get(name), "__file__", None) for name in sorted(modules)}
    return {name: sha256(Path(file)) for name, file in files.items() if file is not None}


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content.

    Raises:
        SettingsError: It cannot be read.
    """
    try:
        return safe_files.sha256(path)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error}") from error


@cache
def _distributions() -> dict[str, list[str]]:
    return {
        name: list(found) for name, found in importlib.metadata.packages_distributions().items()
    }


def _longest_module(path: str) -> str:
    names = path.split(".")
    loaded = [".".join(names[:n]) for n in range(len(names), 0, -1)]
    return next(name for name in loaded if name in sys.modules)


def _submodule(path: str, parent: Any, so_far: str, name: str) -> None:
    """Import a module of a package, so that it is an attribute of it."""
    full = f"{so_far}.{name}"
    if isinstance(parent, ModuleType) and hasattr(parent, "__path__"):
        if importlib.util.find_spec(full) is not None:
            setattr(parent, name, _module(path, full))
            return
        known = [*dir(parent), *(module.name for module in pkgutil.iter_modules(parent.__path__))]
    else:
        known = dir(parent)
    hint = did_you_mean(name, [k for k in known if not k.startswith("_")])
    raise SettingsError(f"found {path!r}; {_kind(parent)} {so_far} has no {name}{hint}")


def _module(path: str, name: str) -> ModuleType:
    if "." not in name and name not in sys.modules and importlib.util.find_spec(name) is None:
        hint = did_you_mean(name, (module.name for module in pkgutil.iter_modules()))
        hint = hint or "; a module of your own must be installed or on PYTHONPATH"
        raise SettingsError(f"found {path!r}; there is no module {name}{hint}")
    try:
        return importlib.import_module(name)
    # A user's module may raise anything while it is imported.
    except Exception as error:
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        raise SettingsError(f"found {path!r}; importing {name} fails: {cause}") from error


def _kind(found: Any) -> str:
    if isinstance(found, ModuleType):
        return "the package" if hasattr(found, "__path__") else "the module"
    return "the class" if isinstance(found, type) else f"a {type(found).__name__}"
