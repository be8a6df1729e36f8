"""The one module that the warm parent of workers preloads; it imports the others.

Python lets a fork server die of a module that fails to import, unless by an `ImportError`; then no
worker starts. Here each module may fail in its own way (a library of the driver that is missing,
packages that do not fit): the workers import it again, and say what is wrong.
"""

from __future__ import annotations

import contextlib
import importlib
import os

from flows.pools.environment import IMPORTS, ONE_THREAD, QUIET
from flows.runs.library_warnings import keep_apart

BEGAN = frozenset(os.environ)
"""Names of the variables that this process began with."""


def _import_all(names: str) -> None:
    os.environ.update(ONE_THREAD | QUIET)  # read by what is imported
    keep_apart()
    for name in names.split(","):
        with contextlib.suppress(Exception):
            importlib.import_module(name)


if IMPORTS in os.environ:
    _import_all(os.environ[IMPORTS])
