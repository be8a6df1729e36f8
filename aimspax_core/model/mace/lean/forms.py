"""Compiled forms of the network: which there are, which a training uses, which are to be made.

A form is made for one size of batches, by a process aside (`aside`), and kept in a folder of its
own below the user's cache folder, where all processes find it: `KEY-ATOMS-PAIRS-SLOTS`. The key
names all else that a form depends on. What is loaded is held against the eager form first.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aimspax_core.locks import held
from aimspax_core.model.mace.lean.aside import Aside, environment
from aimspax_core.model.mace.lean.compiling import FAILED, FORM, LOCK, Example, tensors
from aimspax_core.model.mace.lean.derivatives import Derived, Inputs
from aimspax_core.model.mace.lean.made_for import key_of
from aimspax_core.model.mace.lean.padding import (
    Size,
    cut,
    largest,
    padded,
    roomy,
    size_of,
    suited,
)
from aimspax_core.model.mace.lean.private_folders import is_private
from aimspax_core.model.mace.lean.shape import LayerTables
from aimspax_core.model.mace.lean.training import Lean
from aimspax_core.model.mace.lean.trial import tried
from aimspax_core.model.mace.lean.weights import Weights, weights

WORTH_LOADING_S = 30.0
"""Seconds of training ahead from which on a form that is there is loaded, which takes some."""

WORTH_COMPILING_S = 600.0
"""… and one is compiled, which takes about a minute, and saves about half of them."""

_LOOSEST = 1.35
"""How much more work than wanted a form may make of the largest batch."""

_FORGET_S = 86400.0
"""How long nobody tries again what the compiler has failed at."""

_LONGEST = 300
"""Characters of a compiler's error that are told; the rest is in the folder of the form."""

_AS_IT_IS = "training is not compiled, it goes on as it is: "

_SIZE = re.compile(r"[0-9a-f]+-(\d+)-(\d+)-(\d+)")
"""The name of a form's folder: `KEY-ATOMS-PAIRS-SLOTS`."""

Collate = Callable[[Sequence[Any]], dict[str, Tensor]]

_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-8}
"""By how much of the largest gradient a form may differ from the eager one where it is tried."""


class CompiledForm:
    """The network with its derivatives, compiled; see `training.Form`.

    Args:
        size: What it is made for.
        function: Of all tensors of weights, tables and padded inputs.
        tables: The network's constants.
    """

    def __init__(self, size: Size, function: Any, tables: tuple[LayerTables, ...]) -> None:
        self.size, self.function, self._tables = size, function, tables

    def __call__(self, own: Weights, inputs: Inputs) -> Derived | None:
        """Return energies and derivatives of a batch; none if the eager form is better for it."""
        real = size_of(inputs)
        if not self.size.suits(real):
            return None
        flat = tensors(own, self._tables, padded(inputs, self.size))
        return cut(Derived(*self.function(*flat)), inputs)


class Forms:
    """The compiled forms that this process has loaded, and those in a folder for all.

    Args:
        folder: It is made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loaded: dict[Path, Any] = {}
        self._given_up: set[Path] = set()
        self._removed: set[Path] = set()
        self._asides: dict[Path, Aside] = {}
        self._said: set[str] = set()
        self._notes: list[str] = []

    def settle(
        self,
        lean: Lean,
        graphs: Sequence[Any],
        batch: int,
        collate: Collate,
        ahead_s: float,
    ) -> CompiledForm | None:
        """Return the form that a training begins with, or none; begin to make one that is missing.

        Whatever fails, training goes on without one, and the notes say why.

        Args:
            lean: The network.
            graphs: MACE's graphs of the training set.
            batch: How many are in a batch, no more than there are.
            collate: Makes a batch of them, as the network is called with.
            ahead_s: Seconds of training that the campaign can still need.
        """
        try:
            return self._settled(lean, graphs, batch, collate, ahead_s)
        # Disks fill up, libraries are gone, the memory of a GPU is at its end.
        except Exception as error:
            self.note(f"{_AS_IT_IS}{_named(error)}"[:_LONGEST])
            return None

    def _settled(
        self, lean: Lean, graphs: Sequence[Any], batch: int, collate: Collate, ahead_s: float
    ) -> CompiledForm | None:
        needed = largest(graphs, batch)
        wanted = roomy(needed, alike=len({len(graph.positions) for graph in graphs}) == 1)
        chosen = suited(graphs, batch, wanted.suits)
        if chosen is None:
            self.note(f"{_AS_IT_IS}structures are too different in size to be padded to the same")
            return None
        example = _example(lean, collate(chosen))
        key = key_of(example)
        found = self._best(self._there(key), needed, wanted)
        if (found is None or not found.holds(needed)) and ahead_s >= WORTH_COMPILING_S:
            self._begin(self._path(key, wanted), example, wanted)
        if found is None:
            return None
        path, chosen = self._path(key, found), suited(graphs, batch, found.suits)
        if chosen is None:
            return None
        if path not in self._loaded:
            if ahead_s < WORTH_LOADING_S:
                return None
            if not self._load(path, found, _example(lean, collate(chosen)), lean):
                return None
        return CompiledForm(found, self._loaded[path], lean.tables)

    def note(self, text: str) -> None:
        """Keep what there is to tell; what was told before is not told again."""
        if text not in self._said:
            self._said.add(text)
            self._notes.append(text)

    def take_notes(self) -> tuple[str, ...]:
        """Return what there is to tell since the last call, each text once in a process."""
        notes, self._notes = tuple(self._notes), []
        return notes

    def wait(self) -> None:
        """Wait for the processes aside; for tests and benchmarks."""
        for aside in self._asides.values():
            aside.process.wait()

    def _path(self, key: str, size: Size) -> Path:
        return self._folder / "-".join([key, *map(str, size)])

    def _there(self, key: str) -> list[Size]:
        """Return the sizes of the forms that can be used."""
        paths = [path.parent for path in self._folder.glob(f"{key}-*/{FORM}")]
        named = [(path, _SIZE.fullmatch(path.name)) for path in paths if is_private(path)]
        return [
            Size(*map(int, name.groups()))
            for path, name in named
            if name is not None and path not in self._given_up
        ]

    @staticmethod
    def _best(there: Sequence[Size], needed: Size, wanted: Size) -> Size | None:
        """Return the least that holds all batches, else the largest, which holds most."""
        near = [size for size in there if size.work <= _LOOSEST * wanted.work]
        enough = [size for size in near if size.holds(needed)]
        if enough:
            return min(enough, key=lambda size: (size.work, size))
        return max(near, key=lambda size: (size.work, size), default=None)

    def _load(self, path: Path, size: Size, example: Example, lean: Lean) -> bool:
        """Load a form and try it on a batch that it takes; return whether it can be used."""
        try:
            with environment(path):
                with (path / FORM).open("rb") as file:
                    function: Any = torch.compiler.load_compiled_function(file)
                # Sizes and number format are looked at by name and size of the form.
                function.disable_guard_check()
                trial = tried(CompiledForm(size, function, lean.tables), example)
        # Whatever it raises: a file of another version, a library that is gone.
        except Exception as error:
            self._remove(path, _named(error))
            return False
        if trial is None:
            return False
        if not trial.apart <= _TOLERANCE[example.inputs.harmonics.dtype]:
            self._give_up(path, f"gradients differ by {trial.apart:.1e} of the largest")
            return False
        if trial.faster < 1:
            self._give_up(path, f"a step would take {1 / trial.faster:.1f} times as long")
            return False
        self._loaded[path] = function
        self.note("training is compiled from here on")
        return True

    def _remove(self, path: Path, reason: str) -> None:
        """Remove a form that cannot be loaded, so that it is made anew; a second time, give up."""
        if path in self._removed:
            self._give_up(path, reason)
            return
        self._removed.add(path)
        with held(path / LOCK, wait_s=0.0) as lock:
            if lock is None:  # it is made anew by another
                return
            (path / FORM).unlink(missing_ok=True)
        self.note(
            f"the compiled form in {path} cannot be loaded; it is made anew if that is worth it: "
            + reason[:_LONGEST]
        )

    def _begin(self, path: Path, example: Example, size: Size) -> None:
        """Have a form compiled aside, unless that is under way or has failed."""
        aside = self._asides.get(path)
        if path in self._given_up or (aside is not None and aside.process.poll() is None):
            return
        # One that ended well has made the form, which is gone since; or another process makes it.
        if aside is not None and aside.process.returncode != 0:
            ended = f"the compiler's process ended with {aside.process.returncode}"
            self._give_up(path, _reason(path) or ended)
            return
        try:
            reason = _reason(path) or Aside.obstacle(example.inputs.harmonics.device)
            if reason is None:
                padded_example = example._replace(inputs=padded(example.inputs, size))
                aside = Aside.begin(path, padded_example)
        except Exception as error:
            reason = f"{path}: {_named(error)}"
        if reason is not None:
            self._give_up(path, reason)
        elif aside is not None:
            self._asides[path] = aside
            self.note(f"a process aside compiles the training, for batches of {size.atoms} atoms")

    def _give_up(self, path: Path, reason: str) -> None:
        self._given_up.add(path)
        first = next(iter(reason.splitlines()), "")[:_LONGEST]
        self.note(f"{_AS_IT_IS}{first}")


def _example(lean: Lean, batch: dict[str, Tensor]) -> Example:
    own = weights(lean.shape, [lean.model])
    return Example(lean.shape, own, lean.tables, lean.read(batch)[0])


def _named(error: Exception) -> str:
    """Return what an error says behind what it is, as some say nothing else."""
    return f"{type(error).__name__}: {error}"


def _reason(path: Path) -> str | None:
    """Return why nobody could compile a form of late, if so."""
    file = path / FAILED
    with contextlib.suppress(FileNotFoundError):
        if time.time() - file.stat().st_mtime < _FORGET_S:
            return file.read_text(encoding="utf-8", errors="replace")
    return None


@cache
def forms() -> Forms:
    """Return those of this process, in the user's cache folder.

    Where the user has no home that is a folder which cannot be made, as the log will say.
    """
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
    return Forms(Path(os.devnull if base.startswith("~") else base) / "aimspax" / "compiled")
