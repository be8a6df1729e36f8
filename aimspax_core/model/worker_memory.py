"""What a worker keeps from task to task: members in training, graphs, networks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from mace.data import AtomicData

from aimspax_core.errors import CampaignError
from aimspax_core.labels.dataset import labelled
from aimspax_core.labels.store import LabelStore
from aimspax_core.model.ensemble import Ensemble
from aimspax_core.model.mace.graphs import graphs
from aimspax_core.model.member import Member
from aimspax_core.settings.model import ModelSettings

MAX_MEMBERS = 8

_Stamp = tuple[int, int, int] | None


class Kept:
    """The memory of one worker for one set of model settings and elements."""

    def __init__(self, settings: ModelSettings, elements: tuple[int, ...]) -> None:
        self._settings = settings
        self._elements = elements
        self._members: OrderedDict[Path, tuple[_Stamp, Member]] = OrderedDict()
        self._graphs: dict[str, AtomicData] = {}
        self.ensemble = Ensemble(settings)

    def take_member(self, checkpoint: Path) -> Member:
        """Return the member of a checkpoint: as this worker left it, or from the file.

        The file counts: if another worker has written it since, it is read. The member is the
        caller's until `keep_member`: if its training fails, it is not here any more.
        """
        stamp, member = self._members.pop(checkpoint, (None, None))
        if member is None or stamp != _stamp(checkpoint):
            return Member.load(checkpoint, self._settings)
        return member

    def keep_member(self, checkpoint: Path, member: Member) -> None:
        """Save a member, and keep it; the members used last are kept."""
        member.save(checkpoint)
        self._members[checkpoint] = _stamp(checkpoint), member
        while len(self._members) > MAX_MEMBERS:
            self._members.popitem(last=False)

    def graphs(self, store: LabelStore, keys: Sequence[str]) -> list[AtomicData]:
        """Return the graphs of labelled structures; each is built once.

        Raises:
            CampaignError: A label is not in the store.
        """
        for key in keys:
            if key not in self._graphs:
                stored = store.get(key)
                if stored is None:
                    raise CampaignError(f"the label {store.path(key)} is gone")
                self._graphs[key] = graphs([labelled(stored)], self._elements, self._settings)[0]
        return [self._graphs[key] for key in keys]


def kept(settings: ModelSettings, elements: tuple[int, ...]) -> Kept:
    """Return this process's memory for these settings and elements."""
    return _kept(settings.model_dump_json(), elements)


@cache
def _kept(settings: str, elements: tuple[int, ...]) -> Kept:
    return Kept(ModelSettings.model_validate_json(settings), elements)


def _stamp(path: Path) -> _Stamp:
    """What changes whenever a file is replaced; None if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
