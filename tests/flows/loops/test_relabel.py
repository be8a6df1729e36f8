"""What becomes of labels that are lost while a dataset is labelled again, without workers."""

from __future__ import annotations

import contextlib
import errno
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms

import aimspax_core.labels.tries
from aimspax_core.inputs.relabel_inputs import RelabelInputs, RelabelRequest
from aimspax_core.labels.label import Label
from aimspax_core.labels.relabelling import Relabelled
from aimspax_core.labels.store import LabelStore
from aimspax_core.labels.tries import LABEL, MAX_GIVEN_UP_IN_A_ROW, Fate
from flows.loops import relabel, room
from flows.loops.relabel import Relabelling
from flows.loops.stop import Stop
from flows.page.events import DirectoryEvents
from flows.pools.workers import WorkerLostError
from tasks.label_many import Labelled, LabelManyRecord, LabelManyRequest
from tests.flows.loops.fake_pool import FakePool

PROJECT = """
REFERENCE: {engine: tblite, method: GFN1-xTB}
ACTIVE_LEARNING: {num_trajectories: 1, max_MD_steps: 1}
MD: {stat_ensemble: NVT, temperature: 300, timestep: 0.5, friction: 0.01}
CLUSTER: {type: local, max_workers: 1}
"""
DISTANCES = [0.70 + 0.01 * index for index in range(8)]


@dataclass
class Dataset:
    """A dataset of H2, and what happens to tasks that label one of its frames.

    Attributes:
        inputs: What is labelled.
        harm: Errors that a task ends with, by the index of a frame that it should label.
        asked: Frames of each task, in order.
        keys: Keys of the frames' labels.
    """

    inputs: RelabelInputs
    harm: dict[int, BaseException | Callable[[int], BaseException | None]] = field(
        default_factory=dict
    )
    asked: list[tuple[int, ...]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def answer(self, request: LabelManyRequest) -> Any:
        store, done = LabelStore(self.inputs.run.labels), []
        indices = tuple(map(self._index, request.keys))
        self.asked.append(indices)
        for key, index in zip(request.keys, indices, strict=True):
            harm = self.harm.get(index)
            if callable(harm):
                harm = harm(len(indices))
            if harm is not None:
                return harm
            store.put(key, self._atoms(index), Label(-1.0, np.full((2, 3), 0.1)))
            done.append(Labelled(key=key, seconds=0.5))
        return LabelManyRecord(done=tuple(done))

    def tries(self, index: int) -> int:
        return sum(index in asked for asked in self.asked)

    def _atoms(self, index: int) -> Atoms:
        return self.inputs.frames[index].atoms

    def _index(self, key: str) -> int:
        return self.keys.index(key)

    def labelled(self) -> Relabelling:
        """Label it."""
        made = Relabelling(self.inputs, DirectoryEvents(self.inputs.run))
        self.keys = [made.found.key(frame) for frame in self.inputs.frames]
        client: Any = SimpleNamespace()
        stopped = Stop()
        made.drive(client, stopped)
        return made


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    (tmp_path / "aimsPAX.yaml").write_text(PROJECT)
    given = [Atoms("H2", [(0, 0, 0), (0, 0, distance)]) for distance in DISTANCES]
    ase.io.write(tmp_path / "h2.xyz", given, format="extxyz")
    made = Dataset(RelabelInputs.read(tmp_path, RelabelRequest(Path("h2.xyz"))))

    @contextlib.contextmanager
    def pool(_: object) -> Iterator[FakePool]:
        yield FakePool(answer=made.answer)

    page = SimpleNamespace(begin=lambda *_: None, show=lambda *_: None, end=lambda *_: None)
    monkeypatch.setattr(relabel, "reference_pool", pool)
    monkeypatch.setattr(relabel, "RelabelPage", lambda *_: page)
    monkeypatch.setattr(aimspax_core.labels.tries, "BACKOFF_S", (0.0, 0.0, 0.0))
    return made


def failed(found: Relabelling) -> dict[int, str]:
    return {frame.index: reason for frame, reason in found.found.failed}


def test_all_frames_are_labelled_and_short_ones_share_tasks(dataset: Dataset) -> None:
    found = dataset.labelled()
    assert len(found.found.labelled) == len(DISTANCES)
    assert Counter(index for asked in dataset.asked for index in asked) == Counter(range(8))
    assert len(dataset.asked) < len(DISTANCES)


@pytest.mark.parametrize(
    ("harm", "tries"),
    [
        (WorkerLostError("killed", Fate.DIED), LABEL.died),
        (WorkerLostError("preempted", Fate.INTERRUPTED), LABEL.interrupted),
        (TypeError("a bug of ours"), LABEL.died),
    ],
)
def test_a_label_that_is_always_lost_fails_alone(
    dataset: Dataset, harm: BaseException, tries: int
) -> None:
    dataset.harm[5] = harm
    found = dataset.labelled()
    assert [*failed(found)] == [5]
    assert f"lost {tries} times; last: " in failed(found)[5]
    assert str(harm) in failed(found)[5]
    assert dataset.tries(5) == tries
    assert len(found.found.labelled) == len(DISTANCES) - 1


def test_fewer_than_a_broken_reference_loses_fail_alone(dataset: Dataset) -> None:
    lost = range(MAX_GIVEN_UP_IN_A_ROW - 1)
    dataset.harm |= dict.fromkeys(lost, WorkerLostError("killed", Fate.DIED))
    found = dataset.labelled()
    assert not found.broken
    assert [*failed(found)] == [*lost]


def test_a_label_that_outlasts_its_own_job_twice_fails_with_advice(dataset: Dataset) -> None:
    dataset.harm[0] = WorkerLostError("no time left", Fate.OUT_OF_TIME)
    found = dataset.labelled()
    assert dataset.tries(0) == LABEL.out_of_time
    assert "--time" in failed(found)[0]


def test_a_batch_that_outlasts_a_job_says_nothing_of_its_first_label(dataset: Dataset) -> None:
    dataset.harm[5] = lambda together: (
        WorkerLostError("no time left", Fate.OUT_OF_TIME) if together > 1 else None
    )
    found = dataset.labelled()
    assert not failed(found)
    assert found.waiting.tries(dataset.keys[5]).out_of_time == 0
    assert any(len(asked) > 1 and 5 in asked for asked in dataset.asked)


def test_a_broken_reference_stops_all_and_no_frame_counts_as_failed(dataset: Dataset) -> None:
    dataset.harm |= dict.fromkeys(range(8), WorkerLostError("no such node", Fate.DIED))
    found = dataset.labelled()
    assert "no such node" in found.broken
    assert not failed(found)
    given_up = [n for n in range(8) if dataset.tries(n) == LABEL.died]
    assert len(given_up) == MAX_GIVEN_UP_IN_A_ROW


def test_losses_to_a_disk_without_room_are_no_tries(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "LOOK_S", 0.0)
    full = OSError(errno.ENOSPC, "No space left on device", "/scratch/labels")
    losses = iter([full] * 10)
    dataset.harm = {0: lambda _: next(losses, None)}
    found = dataset.labelled()
    assert not found.broken
    assert failed(found) == {}
    assert len(found.found.labelled) == len(DISTANCES)
    assert dataset.tries(0) == 11


def test_a_place_that_stays_read_only_fails_its_frame_alone(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "LOOK_S", 0.0)
    dataset.harm = {5: OSError(errno.EROFS, "Read-only file system", "/opt/engine")}
    found = dataset.labelled()
    assert [*failed(found)] == [5]
    assert "/opt/engine: Read-only file system" in failed(found)[5]
    assert len(found.found.labelled) == len(DISTANCES) - 1


def test_an_output_that_finds_no_room_is_written_later(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "LOOK_S", 0.0)
    write, tries = Relabelled.write, iter(range(3))

    def fails_at_first(found: Relabelled, output: Path) -> None:
        if next(tries, None) is not None:
            raise OSError(errno.ENOSPC, "No space left on device", str(output))
        write(found, output)

    monkeypatch.setattr(Relabelled, "write", fails_at_first)
    dataset.labelled()
    assert len(ase.io.read(dataset.inputs.output, index=":")) == len(DISTANCES)


def test_a_stored_label_that_is_doubted_is_not_taken(dataset: Dataset) -> None:
    """Its task refuses it, and says why."""
    dataset.labelled()
    LabelStore(dataset.inputs.run.labels).doubt(dataset.keys[0], "an absurd energy")
    again = Relabelling(dataset.inputs, DirectoryEvents(dataset.inputs.run))
    assert set(again.found.labels) == set(dataset.keys) - {dataset.keys[0]}
