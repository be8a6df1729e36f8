"""Compiled forms of the network: which there are, which a training uses, which are to be made.

A form is made for one size of batches, by a process aside (`aside`), and kept in a folder of its
own below the user's cache folder, where all processes find it: `KEY-ATOMS-PAIRS-SLOTS`. The key
names all else that a form depends on. What is loaded is held against the eager form first.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aimspax_core.model.mace.lean.aside import Aside, environment
from aimspax_core.model.mace.lean.compiling import FAILED, FORM, Example, tensors
from aimspax_core.model.mace.lean.derivatives import Derived, Inputs
from aimspax_core.model.mace.lean.made_for import key_of
from aimspax_core.model.mace.lean.padding import Size, cut, largest, padded, roomy, size_of
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

_LEAST = 0.4
"""The part of a form's work that a batch must have: smaller ones are as fast without."""

_FORGET_S = 86400.0
"""How long nobody tries again what the compiler has failed at."""

_LONGEST = 300
"""Characters of a compiler's error that are told; the rest is in the folder of the form."""

_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-8}
"""By how much of the largest a form may differ from the eager one on its first batch."""


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
        if not self.size.holds(real) or real.work < _LEAST * self.size.work:
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
        self._asides: dict[Path, Aside] = {}
        self._said: set[str] = set()
        self._notes: list[str] = []

    def settle(
        self, lean: Lean, graphs: Sequence[Any], first: dict[str, Tensor], ahead_s: float
    ) -> CompiledForm | None:
        """Return the form that a training begins with, or none; begin to make one that is missing.

        Args:
            lean: The network.
            graphs: MACE's graphs of the training set.
            first: Any batch of them, of the size of all.
            ahead_s: Seconds of training that the campaign can still need.
        """
        batch = int(first["ptr"].numel()) - 1
        atoms = {len(graph.positions) for graph in graphs}
        needed = largest(graphs, batch)
        wanted = roomy(needed, alike=len(atoms) == 1)
        example = Example(
            lean.shape, weights(lean.shape, [lean.model]), lean.tables, lean.read(first)[0]
        )
        key = key_of(example)
        found = self._best(self._there(key), needed, wanted)
        if (found is None or not found.holds(needed)) and ahead_s >= WORTH_COMPILING_S:
            self._begin(self._path(key, wanted), example, wanted)
        if found is None or not self._have(self._path(key, found), found, example, lean, ahead_s):
            return None
        return CompiledForm(found, self._loaded[self._path(key, found)], lean.tables)

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
        return [
            Size(*map(int, path.name.split("-")[1:]))
            for path in paths
            if path not in self._given_up and _is_ours(path / FORM)
        ]

    @staticmethod
    def _best(there: Sequence[Size], needed: Size, wanted: Size) -> Size | None:
        """Return the least that holds all batches, else the largest, which holds most."""
        near = [size for size in there if size.work <= _LOOSEST * wanted.work]
        enough = [size for size in near if size.holds(needed)]
        if enough:
            return min(enough, key=lambda size: (size.work, size))
        return max(near, key=lambda size: (size.work, size), default=None)

    def _have(self, path: Path, size: Size, example: Example, lean: Lean, ahead_s: float) -> bool:
        """Return whether a form that is there can be used now; load it if that is worth it."""
        if path in self._loaded:
            return True
        if ahead_s < WORTH_LOADING_S:
            return False
        try:
            with environment(path):
                with (path / FORM).open("rb") as file:
                    function: Any = torch.compiler.load_compiled_function(file)
                # Sizes and number format are looked at by name and size of the form.
                function.disable_guard_check()
                form = CompiledForm(size, function, lean.tables)
                trial = tried(form, example)
        # Whatever it raises: a file of another version, a library that is gone.
        except Exception as error:
            self._give_up(path, f"{type(error).__name__}: {error}")
            return False
        if trial is not None and not trial.apart <= _TOLERANCE[example.inputs.harmonics.dtype]:
            self._give_up(path, f"gradients differ by {trial.apart:.1e} of the largest")
            return False
        if trial is not None and trial.faster < 1:
            self._give_up(path, f"a step would take {1 / trial.faster:.1f} times as long")
            return False
        self._loaded[path] = function
        self._note("training is compiled from here on")
        return True

    def _begin(self, path: Path, example: Example, size: Size) -> None:
        """Have a form compiled aside, unless that is under way or has failed."""
        aside = self._asides.get(path)
        if path in self._given_up or (aside is not None and aside.process.poll() is None):
            return
        if aside is not None:
            ended = f"the compiler's process ended with {aside.process.returncode}"
            self._give_up(path, _reason(path) or ended)
            return
        padded_example = example._replace(inputs=padded(example.inputs, size))
        try:
            reason = _reason(path) or Aside.obstacle(example.inputs.harmonics.device)
            if reason is None:
                aside = Aside.begin(path, padded_example)
        except OSError as error:
            reason = str(error)
        if reason is not None:
            self._give_up(path, reason)
        elif aside is not None:
            self._asides[path] = aside
            self._note(f"a process aside compiles the training, for batches of {size.atoms} atoms")

    def _give_up(self, path: Path, reason: str) -> None:
        self._given_up.add(path)
        first = next(iter(reason.splitlines()), "")[:_LONGEST]
        self._note(f"training is not compiled, it goes on as it is: {first}")

    def _note(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._notes.append(text)


def _is_ours(form: Path) -> bool:
    """Return whether this user has written a form: to load one is to run what is in it."""
    try:
        return form.stat().st_uid == os.getuid()
    except OSError:
        return False


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
