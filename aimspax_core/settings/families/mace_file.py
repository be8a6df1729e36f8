"""Which elements the model in a MACE `.model` file knows, read without torch and without its code.

Such a file is a ZIP archive of `torch.save`: a pickle, and the numbers of each tensor in a file of
its own. The pickle names classes and functions; here each name stands for a class that takes
whatever comes and does nothing, so that nothing of the file is run. The model's elements are its
buffer `atomic_numbers`.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aimspax_core.settings.families.mace_fetched import fetched
from aimspax_core.structures import symbols_text

_INTEGERS = {"LongStorage": "<i8", "IntStorage": "<i4"}
_BUFFER = "atomic_numbers"

_FEW = 12
"""So many elements are named; of a foundation model they are counted."""


class _Anything:
    """An instance of whatever class the pickle names; keeps its state, and does nothing."""

    def __new__(cls, *arguments: Any, **named: Any) -> _Anything:
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.arguments = arguments
        self.state: Any = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __call__(self, *arguments: Any, **named: Any) -> _Anything:
        return _Anything()

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, item: Any) -> None:
        """Take an item of a list, and do nothing with it."""

    def extend(self, items: Any) -> None:
        """Take items of a list, and do nothing with them."""


class _Storage(NamedTuple):
    """Where a tensor's numbers are: a file of the archive."""

    kind: str
    name: str


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]


def _tensor(storage: Any, offset: int, shape: tuple[int, ...], *_: Any) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape))


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        return type(name, (_Anything,), {})

    def persistent_load(self, pid: Any) -> _Storage:
        _, kind, name, *_rest = pid
        return _Storage(kind.__name__, str(name))


def elements_missing(path: Path | None, needed: Collection[int]) -> str | None:
    """Say which elements the model of a file does not know; see `FamilyRow.elements_missing`.

    A path that ends in the name of a foundation model is that model, if MACE has fetched it.
    """
    if path is None:
        return None
    file = path if path.is_file() else fetched(path.name)
    known = None if file is None else elements_of(file)
    if known is None or not (unknown := {*needed} - known):
        return None
    others = symbols_text(known) if len(known) <= _FEW else f"{len(known)} others"
    return f"{path.name} does not know {symbols_text(unknown)}; it knows {others}"


def elements_of(path: Path) -> frozenset[int] | None:
    """Return the atomic numbers that the model of a file knows; None if they cannot be read so.

    Args:
        path: The file, which is there.
    """
    status = path.stat()
    return _elements(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=8)
def _elements(path: Path, *version: int) -> frozenset[int] | None:
    try:
        with zipfile.ZipFile(path) as archive:
            (content,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
            folder = content.removesuffix("data.pkl")
            with archive.open(content) as file:
                model = _Reader(file).load()
            tensor = model.state["_buffers"][_BUFFER]
            numbers = archive.read(f"{folder}data/{tensor.storage.name}")
        kind = _INTEGERS[tensor.storage.kind]
        found = np.frombuffer(numbers, kind)[tensor.offset :][: int(np.prod(tensor.shape))]
        return frozenset(int(z) for z in found)
    # Files of other programs and versions trip it in many ways: who loads the model says what is
    # wrong with it.
    except Exception:
        return None
