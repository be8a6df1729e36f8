"""What a worker keeps from task to task, so that it is not built again: a few of each."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Generic, TypeVar

from aimspax_core.errors import CampaignError
from aimspax_core.labels.dataset import labelled
from aimspax_core.labels.store import LabelStore
from aimspax_core.model.ensemble import Ensemble
from aimspax_core.model.family import Foundation, Graph, family_of, load_foundation
from aimspax_core.model.member import Member
from aimspax_core.settings.engines import FoundationalModel
from aimspax_core.settings.model import ModelSettings

MAX_MEMBERS = 8
"""Members in training."""

MAX_ENSEMBLES = 2
"""Ensembles, by their settings and elements."""

MAX_FOUNDATIONS = 2
"""Foundation models."""

MAX_GRAPH_ATOMS = 300_000
"""Atoms of all graphs together: about a gigabyte of MACE's graphs."""

Key = TypeVar("Key")
Value = TypeVar("Value")
_Stamp = tuple[int, int, int] | None


class _Recent(Generic[Key, Value]):
    """Values that were made once; those used last are kept, as far as their sizes allow."""

    def __init__(self, most: float) -> None:
        self._most, self._total = most, 0.0
        self._kept: OrderedDict[Key, tuple[Value, float]] = OrderedDict()

    def get(self, keys: Sequence[Key], make: Callable[[Key], tuple[Value, float]]) -> list[Value]:
        """Return the values of keys; those that are not here are made, with their sizes.

        What is asked for at once stays, whatever its size: the caller holds it anyhow.
        """
        for key in keys:
            if key not in self._kept:
                self._add(key, *make(key))
            self._kept.move_to_end(key)
        found = [self._kept[key][0] for key in keys]
        self._drop(at_least=len(set(keys)))
        return found

    def put(self, key: Key, value: Value) -> None:
        """Keep a value of size 1."""
        self.take(key)
        self._add(key, value, 1.0)
        self._drop(at_least=1)

    def take(self, key: Key) -> Value | None:
        """Return a value that is then not here any more; none if it was not."""
        value, size = self._kept.pop(key, (None, 0.0))
        self._total -= size
        return value

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self._total = 0.0

    def _add(self, key: Key, value: Value, size: float) -> None:
        self._kept[key] = value, size
        self._total += size

    def _drop(self, at_least: int) -> None:
        """Forget what was not used for longest, but keep so many."""
        while self._total > self._most and len(self._kept) > at_least:
            _, (_, freed) = self._kept.popitem(last=False)
            self._total -= freed


class WorkerMemory:
    """What one worker keeps: members in training, graphs, ensembles, foundation models."""

    def __init__(self) -> None:
        self._members: _Recent[tuple[str, Path], tuple[_Stamp, Member]] = _Recent(MAX_MEMBERS)
        self._graphs: _Recent[tuple[str, tuple[int, ...], str], Graph] = _Recent(MAX_GRAPH_ATOMS)
        self._ensembles: _Recent[tuple[str, tuple[int, ...]], Ensemble] = _Recent(MAX_ENSEMBLES)
        self._foundations: _Recent[tuple[str, str], Foundation] = _Recent(MAX_FOUNDATIONS)

    def take_member(self, checkpoint: Path, settings: ModelSettings) -> Member:
        """Return the member of a checkpoint: as this worker left it, or from the file.

        The file counts: if another worker has written it since, it is read. The member is the
        caller's until `keep_member`: if its training fails, the next caller gets the file's.

        Raises:
            ModelError: There is no checkpoint, or it does not fit the settings.
        """
        kept = self._members.take((settings.model_dump_json(), checkpoint))
        if kept is not None and kept[0] == _stamp(checkpoint):
            return kept[1]
        return Member.load(checkpoint, settings)

    def keep_member(self, checkpoint: Path, member: Member) -> None:
        """Save a member, and keep it.

        Raises:
            ModelError: Its weights are not finite.
        """
        member.save(checkpoint)
        key = member.settings.model_dump_json(), checkpoint
        self._members.put(key, (_stamp(checkpoint), member))

    def graphs(
        self,
        store: LabelStore,
        keys: Sequence[str],
        settings: ModelSettings,
        elements: tuple[int, ...],
    ) -> list[Graph]:
        """Return the graphs of labelled structures, in the order of their keys.

        Raises:
            CampaignError: A label is not in the store.
        """
        given, family = settings.model_dump_json(), family_of(settings)

        def make(key: tuple[str, tuple[int, ...], str]) -> tuple[Graph, float]:
            stored = store.get(key[2])
            if stored is None:
                raise CampaignError(f"the label {store.path(key[2])} is gone")
            atoms = labelled(stored)
            return family.graphs([atoms], elements, settings)[0], len(atoms)

        return self._graphs.get([(given, elements, key) for key in keys], make)

    def ensemble(self, settings: ModelSettings, elements: tuple[int, ...]) -> Ensemble:
        """Return the ensemble of members with these settings, which know these elements."""
        key = settings.model_dump_json(), elements
        return self._ensembles.get([key], lambda _: (Ensemble(settings), 1.0))[0]

    def foundation(
        self, kind: str, model: FoundationalModel, directory: Path, settings: ModelSettings
    ) -> Foundation:
        """Return a foundation model.

        Args:
            kind: What `foundational_model` says.
            model: Which one.
            directory: The run directory, where the name of a local file may begin.
            settings: For `MISC.device` and `GENERAL.default_dtype`.

        Raises:
            ModelError: It cannot be loaded; the text says why.
        """
        asked = {
            **model.for_mace(directory),
            "device": settings.MISC.device,
            "dtype": settings.GENERAL.default_dtype,
        }
        key = kind, str(asked)
        return self._foundations.get([key], lambda _: (load_foundation(kind, **asked), 1.0))[0]

    def clear(self) -> None:
        """Forget everything."""
        for kept in (self._members, self._graphs, self._ensembles, self._foundations):
            kept.clear()


@cache
def worker_memory() -> WorkerMemory:
    """Return the memory of this process."""
    return WorkerMemory()


def _stamp(path: Path) -> _Stamp:
    """What changes whenever a file is replaced; None if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
