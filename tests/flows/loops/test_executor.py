"""What a campaign's actions become, and what comes back, without workers."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import molecule

from aimspax_core.campaign.actions import Action, Label, Sample, Train
from aimspax_core.campaign.events import (
    Event,
    FileDamaged,
    LabelArrived,
    LabelFailed,
    LabelsGone,
    TaskLost,
    TrainingDiverged,
    TrainingFinished,
)
from aimspax_core.campaign.members import MemberState
from aimspax_core.campaign.recorded_rules import Rules
from aimspax_core.campaign.state import CampaignState, Point
from aimspax_core.errors import (
    CampaignError,
    DamagedError,
    DivergedError,
    LabelError,
    LabelFailure,
    ModelError,
)
from aimspax_core.labels.durations import UNKNOWN, WHOLE_JOB
from aimspax_core.labels.label import Label as Answer
from aimspax_core.labels.storage_losses import MAX_IN_A_ROW
from aimspax_core.labels.store import LabelStore
from aimspax_core.labels.tries import BACKOFF_S, Fate, Tries
from aimspax_core.model.checkpoint import write_checkpoint
from aimspax_core.model.intact import intact_bytes
from aimspax_core.run_directory import RunDir
from aimspax_core.safe_files import write_text
from aimspax_core.settings.load import load
from aimspax_core.structures import encode
from flows.loops import executor as module
from flows.loops.executor import ML_TASK_S, Executor
from flows.loops.task_requests import TRAIN_BUDGET_S
from flows.pools.workers import WorkerLostError
from tasks.label import LabelRecord
from tasks.train_several import Several
from tests.flows.loops.fake_pool import FakePool

PROJECT = """
MISC: {path_to_geometry: water.xyz}
REFERENCE: {engine: tblite, method: GFN1-xTB}
INITIAL_DATASET_GENERATION:
  {initial_sampling: foundational, foundational_model: mace-mp, max_initial_epochs: 4,
   n_points_per_sampling_step_idg: 3}
ACTIVE_LEARNING: {num_trajectories: 1, max_MD_steps: 1}
MD: {stat_ensemble: NVT, temperature: 300, timestep: 0.5, friction: 0.01}
CLUSTER: {type: local, max_workers: 1}
"""
LABEL, OTHER = Label(key="k"), Label(key="other")
KEY = "ab" * 32
SAMPLE = Sample(geometry=0, step=1, points=3)
TRAIN = Train(tag="a", stage="initial", round=1, start="c1", checkpoint="c2", epochs=1)


class Stage:
    """An executor on pools without workers, with a clock that the test turns."""

    def __init__(self, folder: Path) -> None:
        (folder / "aimsPAX.yaml").write_text(PROJECT)
        (folder / "mace.yaml").write_text("GENERAL: {name_exp: water}\n")
        ase.io.write(folder / "water.xyz", molecule("H2O"))
        settings = load(folder)
        self.now, self.ml, self.reference = 0.0, FakePool(), FakePool()
        state = CampaignState.begin(Rules.of(settings, ("a",), 1))
        points = {key: Point(key=key, geometry=0) for key in (LABEL.key, OTHER.key)}
        self.state = state.but(points=points)
        self.run = RunDir.of(settings)
        inputs: Any = SimpleNamespace(
            run=self.run, settings=settings, seeds={"a": 1}, elements=(1, 8)
        )
        self.room = FakeRoom()
        self.executor = Executor(
            inputs, Pools(self.ml, self.reference), SimpleNamespace(), self.room  # type: ignore[arg-type]
        )  # fmt: skip

    def lost(self, action: Action, tries: Tries) -> None:
        """Launch an action that was lost before."""
        self.executor.launch(action, self.state.but(losses={action.id: tries}))

    def outcome(self, action: Action, error: BaseException) -> Event | None:
        """Return the event that an error becomes."""
        (event,) = self.outcomes(action, error)
        return event

    def outcomes(self, action: Action, error: BaseException) -> tuple[Event, ...]:
        """Return the events that an error becomes."""
        (self.reference if isinstance(action, Label) else self.ml).outcomes.append(error)
        self.executor.launch(action, self.state)
        return self.executor.next_events(0.0)


@dataclass
class FakeRoom:
    """What this process has room for, and why nothing should be launched."""

    free: bool = True
    reasons: list[str] = field(default_factory=list)

    def there(self) -> bool:
        return self.free

    def lost(self, why: str) -> None:
        self.reasons.append(why)

    def done(self) -> None:
        self.reasons.clear()


class Pools(SimpleNamespace):
    """Both pools."""

    def __init__(self, ml: FakePool, reference: FakePool) -> None:
        super().__init__(ml=ml, reference=reference)

    def __iter__(self) -> Any:
        return iter((self.ml, self.reference))


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = Stage(tmp_path)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


def test_a_label_that_died_waits_for_its_backoff(stage: Stage) -> None:
    stage.lost(LABEL, Tries(died=2))
    stage.now = BACKOFF_S[1] - 0.1
    stage.executor.next_events(0.0)
    assert not stage.reference.tickets
    stage.now = BACKOFF_S[1]
    stage.executor.next_events(0.0)
    assert len(stage.reference.tickets) == 1


@pytest.mark.parametrize("tries", [Tries(), Tries(interrupted=3), Tries(out_of_time=1)])
def test_a_label_that_did_not_die_does_not_wait(stage: Stage, tries: Tries) -> None:
    stage.lost(LABEL, tries)
    assert len(stage.reference.tickets) == 1


def test_training_and_md_do_not_wait(stage: Stage) -> None:
    stage.lost(SAMPLE, Tries(died=3))
    assert len(stage.ml.tickets) == 1


def test_tasks_say_how_long_they_take(stage: Stage) -> None:
    stage.executor.launch(LABEL, stage.state)
    stage.lost(OTHER, Tries(out_of_time=1))
    stage.executor.launch(SAMPLE, stage.state)
    first, second = stage.reference.tickets
    assert [first.seconds(), second.seconds()] == [UNKNOWN, WHOLE_JOB]
    assert stage.ml.tickets[0].seconds() == ML_TASK_S


@pytest.mark.parametrize(
    ("error", "fate", "final"),
    [
        (LabelError("no node", transient=True, worker="tcp://a"), Fate.DIED, False),
        (WorkerLostError("its job was preempted", Fate.INTERRUPTED), Fate.INTERRUPTED, False),
        (WorkerLostError("no time left", Fate.OUT_OF_TIME), Fate.OUT_OF_TIME, False),
        (ModelError("no such file"), Fate.DIED, True),
        (TypeError("a bug of ours"), Fate.DIED, False),
    ],
)
def test_a_task_without_a_result_is_lost(
    stage: Stage, error: BaseException, fate: Fate, final: bool
) -> None:
    event = stage.outcome(LABEL, error)
    assert isinstance(event, TaskLost)
    assert (event.action_id, event.fate, event.final, event.counted) == (
        LABEL.id, fate, final, True,
    )  # fmt: skip
    assert str(error) in event.reason


@pytest.mark.parametrize(
    ("number", "fate"),
    [(errno.ENOSPC, Fate.STORAGE), (errno.ESTALE, Fate.STORAGE), (errno.EACCES, Fate.DIED)],
)
def test_what_found_no_room_is_lost_to_the_storage(stage: Stage, number: int, fate: Fate) -> None:
    event = stage.outcome(LABEL, OSError(number, os.strerror(number), "/scratch/label.json"))
    assert isinstance(event, TaskLost)
    assert (event.fate, event.final) == (fate, False)
    assert event.reason == f"/scratch/label.json: {os.strerror(number)}"


def test_a_structure_without_an_answer_is_a_failed_label(stage: Stage) -> None:
    event = stage.outcome(LABEL, LabelError("SCF not converged", kind=LabelFailure.SCF))
    assert event == LabelFailed(key="k", reason="SCF not converged", failure=LabelFailure.SCF)
    assert isinstance(stage.outcome(SAMPLE, LabelError("SCF not converged")), TaskLost)


def test_a_label_avoids_the_worker_where_it_failed(stage: Stage) -> None:
    stage.outcome(LABEL, LabelError("no node", transient=True, worker="tcp://a"))
    stage.executor.launch(LABEL, stage.state)
    assert [ticket.avoid for ticket in stage.reference.tickets] == [frozenset(), {"tcp://a"}]


def test_a_pool_without_workers_ends_the_campaign(stage: Stage) -> None:
    stage.ml.trouble = "no such partition"
    with pytest.raises(CampaignError, match="no such partition"):
        stage.executor.next_events(0.0)


def test_what_has_not_begun_is_given_back_and_costs_no_try(stage: Stage) -> None:
    stage.executor.launch(LABEL, stage.state)
    stage.lost(OTHER, Tries(died=1))  # waits for its backoff
    (back,) = stage.executor.put_back()
    assert back == TaskLost(action_id=OTHER.id, reason="not begun", counted=False)
    assert stage.executor.put_back() == []


def test_training_that_diverged_is_told_as_that(stage: Stage) -> None:
    event = stage.outcome(TRAIN, DivergedError("the loss is nan"))
    assert event == TrainingDiverged(action_id=TRAIN.id, tag="a", reason="the loss is nan")


def test_a_damaged_file_is_told_as_that_if_it_is_damaged_from_here_too(stage: Stage) -> None:
    path = stage.run.checkpoint("a", "c1")
    error = DamagedError.of(path, "there is no checkpoint here")
    event = stage.outcome(TRAIN, error)
    assert isinstance(event, FileDamaged)
    assert (event.what, event.which, event.name, event.action_id) == (
        "checkpoint", "a", "c1", TRAIN.id,
    )  # fmt: skip
    write_checkpoint({"tag": "a"}, path)  # a shared folder showed it late to the worker
    assert isinstance(stage.outcome(TRAIN, error), TaskLost)


@pytest.mark.parametrize(
    ("what", "which", "name"), [("trajectory", "3", "12"), ("sampler", "0", "2")]
)
def test_a_damaged_md_state_is_recognised_by_its_file(
    stage: Stage, what: str, which: str, name: str
) -> None:
    paths = {"trajectory": stage.run.trajectory(3, 12), "sampler": stage.run.sampler(0, 2)}
    event = stage.outcome(SAMPLE, DamagedError.of(paths[what], "cut off"))
    assert isinstance(event, FileDamaged)
    assert (event.what, event.which, event.name) == (what, which, name)


@pytest.mark.parametrize("text", ["", "{}", None])
def test_a_file_of_datasets_that_is_not_the_journals_is_written_anew(
    stage: Stage, text: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    stage.executor.launch(TRAIN, stage.state)
    path = stage.ml.tickets[0].request.dataset
    wanted = path.read_text()
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    stage.executor.launch(TRAIN, stage.state)
    assert path.read_text() == wanted
    assert ("differs from the journal" in caplog.text) is (text is not None)


def test_a_task_whose_datasets_are_damaged_is_asked_for_again(stage: Stage) -> None:
    error = DamagedError.of(stage.run.dataset("initial-1"), "cut off")
    event = stage.outcome(TRAIN, error)
    assert isinstance(event, TaskLost)
    assert not event.final


def test_a_label_with_an_absurd_energy_is_marked_for_all_that_share_the_store(
    stage: Stage,
) -> None:
    store = LabelStore(stage.run.labels)
    water, forces = molecule("H2O"), np.full((3, 3), 0.1)
    events = []
    for number, energy in enumerate((-100.0, -100.1, -100.2, -500.0)):
        key = f"k{number}"
        point = Point(key=key, geometry=0)
        stage.state = stage.state.but(points={**stage.state.points, key: point})
        store.put(key, water, Answer(energy, forces, provenance={"wall_s": 1.0}))
        record = LabelRecord(key=key, wall_s=1.0, host="here")
        events.append(stage.outcome(Label(key=key), record))  # type: ignore[arg-type]
    assert [event.kind for event in events] == [*["label-arrived"] * 3, "label-failed"]  # type: ignore[union-attr]
    assert [bool(store.doubted(f"k{number}")) for number in range(4)] == [False] * 3 + [True]
    assert store.has("k3")


def test_of_a_label_that_arrives_it_is_told_when_it_was_computed_and_whether_for_others(
    stage: Stage,
) -> None:
    stage.state = stage.state.but(points={"k": Point(key="k", geometry=0)})
    answer = Answer(-100.0, np.full((3, 3), 0.1), provenance={"finished": 7.0})
    LabelStore(stage.run.labels).put("k", molecule("H2O"), answer)
    record = LabelRecord(key="k", wall_s=1.0, host="here", from_store=True)
    event = stage.outcome(Label(key="k"), record)  # type: ignore[arg-type]
    assert isinstance(event, LabelArrived)
    assert (event.computed_at, event.from_store) == (7.0, True)


def test_a_file_that_cannot_be_looked_at_now_is_not_given_up(stage: Stage) -> None:
    path = stage.run.checkpoint("a", "c1")
    path.mkdir(parents=True)  # reading it fails, whatever it holds
    event = stage.outcome(TRAIN, DamagedError.of(path, "it was changed after it was written"))
    assert isinstance(event, TaskLost)
    assert not event.final


READ_ONLY = OSError(errno.EROFS, os.strerror(errno.EROFS), "/opt/engine/scratch")
UNREADABLE = Path("/proc/self/mem")
"""Reading it from its beginning is an error of input and output, as reading a bad sector is."""


def fates(stage: Stage, action: Action, error: BaseException, times: int) -> list[Fate]:
    events = [stage.outcome(action, error) for _ in range(times)]
    assert all(isinstance(event, TaskLost) for event in events)
    return [event.fate for event in events]  # type: ignore[union-attr]


def test_a_place_of_an_engine_that_stays_read_only_counts_in_the_end(stage: Stage) -> None:
    found = fates(stage, LABEL, READ_ONLY, MAX_IN_A_ROW + 2)
    assert found == [*[Fate.STORAGE] * MAX_IN_A_ROW, Fate.DIED, Fate.DIED]
    assert len(stage.room.reasons) == MAX_IN_A_ROW - 1, "the first was perhaps one node's"
    assert fates(stage, OTHER, READ_ONLY, 1) == [Fate.STORAGE]


def test_a_file_system_of_all_that_is_read_only_never_counts(stage: Stage) -> None:
    stage.room.free = False
    assert {*fates(stage, LABEL, READ_ONLY, 3 * MAX_IN_A_ROW)} == {Fate.STORAGE}
    assert len(stage.room.reasons) == 3 * MAX_IN_A_ROW


def test_one_node_without_room_is_avoided_and_nothing_waits(stage: Stage) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/scratch/job")
    assert fates(stage, LABEL, full, 1) == [Fate.STORAGE]
    assert stage.room.reasons == []
    for action in (LABEL, OTHER):  # nor does other work go there
        stage.executor.launch(action, stage.state)
        assert stage.reference.tickets[-1].avoid == {"tcp://worker"}


@pytest.mark.parametrize("action", [LABEL, SAMPLE])
def test_work_avoids_a_worker_that_cannot_open_a_file(stage: Stage, action: Action) -> None:
    denied = PermissionError(errno.EACCES, "Permission denied", "/scratch/job")
    assert fates(stage, action, denied, 1) == [Fate.DIED]
    stage.executor.launch(action, stage.state)
    pool = stage.reference if action is LABEL else stage.ml
    assert pool.tickets[-1].avoid == {"tcp://worker"}


def test_a_checkpoint_that_the_device_does_not_give_is_damaged_in_the_end(stage: Stage) -> None:
    path = stage.run.checkpoint("a", "c1")
    path.parent.mkdir(parents=True)
    path.symlink_to(UNREADABLE)
    with pytest.raises(OSError) as found:
        intact_bytes(path)
    assert (found.value.errno, found.value.filename) == (errno.EIO, str(path))
    assert {*fates(stage, TRAIN, found.value, MAX_IN_A_ROW)} == {Fate.STORAGE}
    event = stage.outcome(TRAIN, found.value)
    assert isinstance(event, FileDamaged)
    assert (event.what, event.which, event.name) == ("checkpoint", "a", "c1")
    assert "Input/output error" in event.reason


def test_a_checkpoint_that_only_a_worker_cannot_read_is_not_given_up(stage: Stage) -> None:
    path = stage.run.checkpoint("a", "c1")
    write_checkpoint({"tag": "a"}, path)
    error = OSError(errno.EIO, os.strerror(errno.EIO), str(path))
    assert fates(stage, TRAIN, error, MAX_IN_A_ROW + 1)[-1] is Fate.DIED


def label_on_disk(stage: Stage) -> Path:
    """A label that the campaign has, with its structure."""
    store, atoms = LabelStore(stage.run.labels), molecule("H2O")
    store.put(KEY, atoms, Answer(-1.0, np.zeros((3, 3)), None, {}))
    write_text(stage.run.structure(KEY), json.dumps(encode(atoms)))
    return store.path(KEY)


def test_a_label_that_the_device_does_not_give_is_computed_again_in_the_end(stage: Stage) -> None:
    path = label_on_disk(stage)
    path.unlink()
    path.symlink_to(UNREADABLE)
    with pytest.raises(OSError) as found:
        LabelStore(stage.run.labels).get(KEY)
    assert (found.value.errno, found.value.filename) == (errno.EIO, str(path))
    assert {*fates(stage, TRAIN, found.value, MAX_IN_A_ROW)} == {Fate.STORAGE}
    lost, gone = stage.outcomes(TRAIN, found.value)
    assert isinstance(lost, TaskLost)
    assert lost.fate is Fate.STORAGE, "no try"
    assert gone == LabelsGone(keys=(KEY,))
    assert not path.is_symlink()
    assert path.with_suffix(".damaged").is_symlink()


def test_a_label_that_only_a_worker_cannot_read_is_kept(stage: Stage) -> None:
    path = label_on_disk(stage)
    error = OSError(errno.EIO, os.strerror(errno.EIO), str(path))
    assert fates(stage, TRAIN, error, MAX_IN_A_ROW + 1)[-1] is Fate.DIED
    assert path.exists()


def test_a_label_that_is_gone_while_models_train_is_computed_again(stage: Stage) -> None:
    path = label_on_disk(stage)
    path.unlink()
    lost, gone = stage.outcomes(TRAIN, DamagedError.of(path, "the label is gone"))
    assert isinstance(lost, TaskLost)
    assert (lost.fate, lost.final) == (Fate.STORAGE, False)
    assert gone == LabelsGone(keys=(KEY,))


def test_a_label_of_a_given_dataset_cannot_be_computed_again(stage: Stage) -> None:
    path = label_on_disk(stage)
    path.unlink()
    stage.run.structure(KEY).unlink()
    event = stage.outcome(TRAIN, DamagedError.of(path, "the label is gone"))
    assert isinstance(event, TaskLost)
    assert event.fate is Fate.DIED


def test_a_file_of_datasets_in_a_bad_sector_is_written_anew(stage: Stage) -> None:
    path = stage.run.dataset("initial-1")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(UNREADABLE)
    stage.executor.launch(TRAIN, stage.state)
    assert path.read_text().startswith("{")


def test_a_part_of_a_sampling_step_knows_what_the_parts_before_have_refused(stage: Stage) -> None:
    sampler = stage.state.samplers[0].but(parts=2, found=1, refused=2)
    stage.executor.launch(SAMPLE, stage.state.but(samplers=(sampler,)))
    (ticket,) = (*stage.ml.tickets, *stage.reference.tickets)
    assert ticket.request.refused_before == 2


# ---- several trainings in one task -----------------------------------------------------------


def several(stage: Stage, outcome: Any) -> tuple[Event, ...]:
    """Launch two trainings in one task, and return what they become."""
    second = TRAIN.but(tag="b", task=TRAIN.id)
    stage.executor.inputs.seeds["b"] = 2
    members = {tag: MemberState(tag=tag) for tag in "ab"}
    stage.ml.outcomes.append(outcome)
    actions = (TRAIN.but(task=TRAIN.id), second)
    stage.executor.launch_together(actions, stage.state.but(members=members))
    return stage.executor.next_events(0.0)


def trained(tag: str) -> TrainingFinished:
    return TrainingFinished(
        action_id=f"train:{tag}:c2", tag=tag, checkpoint="c2", epochs=1, errors=()
    )


def test_what_a_task_of_several_trainings_brings_are_events_that_come_together(
    stage: Stage,
) -> None:
    events = several(stage, Several((trained("a"), DivergedError("NaN"))))
    assert [event.kind for event in events] == ["training-finished", "training-diverged"]
    (ticket,) = stage.ml.tickets
    assert [one.action.tag for one in ticket.request.trainings] == ["a", "b"]
    shares = [one.time_budget_s for one in ticket.request.trainings]
    assert sum(shares) == TRAIN_BUDGET_S


def test_a_task_of_several_trainings_that_is_lost_loses_each(stage: Stage) -> None:
    events = several(stage, WorkerLostError("gone", Fate.DIED))
    assert [(e.kind, e.action_id) for e in events] == [  # type: ignore[union-attr]
        ("task-lost", TRAIN.id),
        ("task-lost", "train:b:c2"),
    ]


def test_a_task_of_several_trainings_that_has_not_begun_is_put_back_whole(stage: Stage) -> None:
    stage.ml.hold = lambda: stage.ml.tickets  # type: ignore[method-assign]
    second = TRAIN.but(tag="b", task=TRAIN.id)
    stage.executor.inputs.seeds["b"] = 2
    members = {tag: MemberState(tag=tag) for tag in "ab"}
    state = stage.state.but(members=members)
    stage.executor.launch_together((TRAIN.but(task=TRAIN.id), second), state)
    back = stage.executor.put_back()
    assert [event.action_id for event in back] == [TRAIN.id, second.id]  # type: ignore[union-attr]
