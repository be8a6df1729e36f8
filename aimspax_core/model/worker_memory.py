"""What a worker keeps from task to task, so that it is not built again: a few of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from aimspax_core.errors import DamagedError
from aimspax_core.labels.dataset import GRAPH_KEYS, DataKeys, labelled
from aimspax_core.labels.store import LabelStore
from aimspax_core.model.assessing import held_out
from aimspax_core.model.ensemble import Ensemble
from aimspax_core.model.family import Foundation, Graph, family_of, load_foundation
from aimspax_core.model.known_structures import KnownStructures
from aimspax_core.model.member import Member
from aimspax_core.model.recent import Recent
from aimspax_core.model.replay import replayed
from aimspax_core.model.skeletons import skeletons
from aimspax_core.settings.engines import FoundationalModel
from aimspax_core.settings.model import ModelSettings

MAX_MEMBERS = 8
"""Members in training."""

MAX_HELD_OUT = 8
"""Held-out sets, by their file."""

MAX_ENSEMBLES = 2
"""Ensembles, by their settings and elements."""

MAX_FOUNDATIONS = 2
"""Foundation models."""

MAX_GRAPH_ATOMS = 300_000
"""Atoms of all graphs together: about a gigabyte of MACE's graphs."""

_Stamp = tuple[int, int, int] | None


class WorkerMemory:
    """What one worker keeps: members in training, graphs, ensembles, foundation models."""

    def __init__(self) -> None:
        self._members: Recent[tuple[str, Path], tuple[Path, _Stamp, Member]] = Recent(MAX_MEMBERS)
        self._graphs: Recent[tuple[str, tuple[int, ...], str], Graph] = Recent(MAX_GRAPH_ATOMS)
        self._held_out: Recent[tuple[object, ...], list[Graph]] = Recent(MAX_HELD_OUT)
        self._replayed: Recent[tuple[object, ...], list[Graph]] = Recent(MAX_MEMBERS)
        self._ensembles: Recent[tuple[str, tuple[int, ...]], Ensemble] = Recent(MAX_ENSEMBLES)
        self._known: Recent[tuple[str, Path], KnownStructures] = Recent(1)
        self._foundations: Recent[tuple[str, str], Foundation] = Recent(MAX_FOUNDATIONS)

    def take_member(self, checkpoint: Path, settings: ModelSettings) -> Member:
        """Return the member of a checkpoint: as this worker left it, or from the file.

        The file counts: if another worker has written it since, it is read. The member is the
        caller's until `keep_member`: if its training fails, the next caller gets the file's.

        Raises:
            ModelError: There is no checkpoint, or it does not fit the settings.
        """
        kept = self._members.take(_place(checkpoint, settings))
        if kept is None:
            return Member.load(checkpoint, settings)
        path, stamp, member = kept
        if path == checkpoint and stamp == _stamp(checkpoint):
            return member
        return Member.load(checkpoint, settings, used=member)

    def keep_member(self, checkpoint: Path, member: Member) -> None:
        """Save a member, and keep it in the place of its earlier checkpoints.

        Raises:
            ModelError: Its weights are not finite.
        """
        member.save(checkpoint)
        kept = checkpoint, _stamp(checkpoint), member
        self._members.put(_place(checkpoint, member.settings), kept)

    def graphs(
        self,
        store: LabelStore,
        keys: Sequence[str],
        settings: ModelSettings,
        elements: tuple[int, ...],
    ) -> list[Graph]:
        """Return the graphs of labelled structures, in the order of their keys.

        Raises:
            DamagedError: A label is not in the store.
        """
        given, family = settings.model_dump_json(), family_of(settings)

        def make(key: tuple[str, tuple[int, ...], str]) -> tuple[Graph, float]:
            stored = store.get(key[2])
            if stored is None:
                raise DamagedError.of(store.path(key[2]), "the label is gone")
            atoms = labelled(stored, GRAPH_KEYS)
            return family.graphs([atoms], elements, settings)[0], len(atoms)

        return self._graphs.get([(given, elements, key) for key in keys], make)

    def held_out(
        self,
        file: Path,
        keys: DataKeys,
        settings: ModelSettings,
        elements: tuple[int, ...],
        electrons: Mapping[str, float],
    ) -> list[Graph]:
        """Return the graphs of a labelled dataset, read anew if the file is another one now.

        Args:
            file: See `assessing.held_out`, like all others.
            keys: Names in the file.
            settings: Of the models.
            elements: That they know.
            electrons: Of frames that say nothing of them.

        Raises:
            CampaignError, ModelError: See `assessing.held_out`.
        """

        def make(_: object) -> tuple[list[Graph], float]:
            return held_out(file, keys, settings, elements, electrons), 1.0

        told = tuple(sorted(electrons.items()))
        key = settings.model_dump_json(), elements, file, _stamp(file), keys, told
        return self._held_out.get([key], make)[0]

    def replayed(
        self,
        file: Path,
        keys: DataKeys,
        settings: ModelSettings,
        elements: tuple[int, ...],
        seed: int,
    ) -> list[Graph]:
        """Return what a member trains on beside its labels, read anew if the file is another one.

        Raises:
            CampaignError, ModelError: See `replay.replayed`.
        """

        def make(_: object) -> tuple[list[Graph], float]:
            return replayed(file, keys, settings, elements, seed), 1.0

        key = settings.model_dump_json(), elements, file, _stamp(file), keys, seed
        return self._replayed.get([key], make)[0]

    def ensemble(self, settings: ModelSettings, elements: tuple[int, ...]) -> Ensemble:
        """Return the ensemble of members with these settings, which know these elements."""
        key = settings.model_dump_json(), elements
        return self._ensembles.get([key], lambda _: (Ensemble(settings), 1.0))[0]

    def known_structures(self, checkpoint: Path, settings: ModelSettings) -> KnownStructures:
        """Return the structures that are known, as a checkpoint sees them: the last one's are kept.

        Raises:
            DamagedError, ModelError: See `trained_model`.
        """
        key = settings.model_dump_json(), checkpoint
        return self._known.get([key], lambda _: (KnownStructures(checkpoint, settings), 1.0))[0]

    def foundation(
        self, kind: str, model: FoundationalModel, directory: Path, settings: ModelSettings
    ) -> Foundation:
        """Return a foundation model.

        Args:
            kind: What `foundational_model` says.
            model: Which one.
            directory: The run directory, where the name of a local file may begin.
            settings: For `MISC.device`, `MISC.kernel` and `GENERAL.default_dtype`.

        Raises:
            ModelError: It cannot be loaded; the text says why.
        """
        asked = {
            **model.arguments(kind, directory),
            "device": settings.MISC.device,
            "dtype": settings.GENERAL.default_dtype,
            "kernel": settings.MISC.kernel,
        }
        key = kind, str(asked)
        return self._foundations.get([key], lambda _: (load_foundation(kind, **asked), 1.0))[0]

    def clear(self) -> None:
        """Forget everything."""
        for kept in (self._members, self._graphs, self._ensembles, self._known, self._foundations):
            kept.clear()
        self._held_out.clear()
        self._replayed.clear()
        skeletons().clear()


@cache
def worker_memory() -> WorkerMemory:
    """Return the memory of this process."""
    return WorkerMemory()


def _place(checkpoint: Path, settings: ModelSettings) -> tuple[str, Path]:
    """Where a member is kept: the checkpoints of one member share a folder."""
    return settings.model_dump_json(), checkpoint.parent


def _stamp(path: Path) -> _Stamp:
    """What changes whenever a file is replaced; None if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
