"""The task that labels a batch, called as the plain function that it is."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
from ase import Atoms
from ase.build import molecule

import tasks.label as module
from aimspax_core.errors import CampaignError, EngineError, LabelError
from aimspax_core.labels.label import Label
from aimspax_core.labels.store import LabelStore
from aimspax_core.labels.waiting import keep_structure
from aimspax_core.reference.registry import build_reference
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.settings import Settings
from tasks.label import LabelRequest
from tasks.label_many import LabelManyRequest, label_many


def waters(count: int) -> list[Atoms]:
    found = []
    for number in range(count):
        atoms = molecule("H2O")
        atoms.positions[1, 2] += 0.01 * number
        found.append(atoms)
    return found


def request(
    settings: Settings, run: RunDir, structures: list[Atoms], time_budget_s: float = 60.0
) -> LabelManyRequest:
    identity = build_reference(settings.reference, settings.directory).identity()
    keys = tuple(keep_structure(run, atoms, identity) for atoms in structures)
    first = LabelRequest(
        key=keys[0],
        structure=run.structure(keys[0]),
        store=run.labels,
        reference=settings.reference,
        gate=settings.gate,
        directory=settings.directory,
        refused=run.refused,
    )
    return LabelManyRequest("0..2", keys, first, run, time_budget_s)


def test_each_structure_gets_its_own_label(settings: Settings, run: RunDir) -> None:
    structures = waters(3)
    asked = request(settings, run, structures)
    record = label_many.fn(asked)
    assert [(one.key, one.reason) for one in record.done] == [(key, "") for key in asked.keys]
    engine, store = build_reference(settings.reference, settings.directory), LabelStore(run.labels)
    for key, atoms in zip(asked.keys, structures, strict=True):
        stored = store.get(key)
        assert stored is not None
        assert stored.label.energy == pytest.approx(engine.label(atoms).energy, abs=1e-9)


def test_one_that_fails_leaves_the_others_alone(settings: Settings, run: RunDir) -> None:
    radical = molecule("H2O")
    radical.info["spin"] = 2
    first, last = waters(2)
    record = label_many.fn(request(settings, run, [first, radical, last]))
    assert [bool(one.reason) for one in record.done] == [False, True, False]
    assert "the multiplicity is 2" in record.done[1].reason
    assert not record.done[1].transient


def test_no_structure_is_begun_after_the_time(settings: Settings, run: RunDir) -> None:
    asked = request(settings, run, waters(3), time_budget_s=0.0)
    assert [one.key for one in label_many.fn(asked).done] == [asked.keys[0]]


class Refusing:
    """The engine of the settings, with an answer of its own."""

    def __init__(self, settings: Settings, answer: Exception) -> None:
        self._identity = build_reference(settings.reference, settings.directory).identity()
        self._answer = answer

    def identity(self) -> dict[str, object]:
        return self._identity

    def label(self, atoms: Atoms) -> Label:
        raise self._answer


def test_what_may_pass_is_told_as_such(
    settings: Settings, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Refusing(settings, LabelError("the node is gone", transient=True))
    monkeypatch.setattr(module, "build_reference", lambda *_: engine)
    done = label_many.fn(request(settings, run, waters(2))).done
    assert [(one.reason, one.transient) for one in done] == [("the node is gone", True)] * 2


def test_a_wrong_input_ends_the_task(
    settings: Settings, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Refusing(settings, EngineError("unknown keyword"))
    monkeypatch.setattr(module, "build_reference", lambda *_: engine)
    with pytest.raises(EngineError, match="unknown keyword"):
        label_many.fn(request(settings, run, waters(2)))


def test_another_reference_on_the_worker_ends_the_task(settings: Settings, run: RunDir) -> None:
    asked = request(settings, run, waters(2))
    other = settings.reference.model_copy(update={"accuracy": 0.1})
    with pytest.raises(CampaignError, match="is not the one that was asked for"):
        label_many.fn(replace(asked, request=replace(asked.request, reference=other)))


def test_labels_before_a_failure_are_in_the_store(settings: Settings, run: RunDir) -> None:
    asked = request(settings, run, waters(2))
    run.structure(asked.keys[1]).unlink()
    with pytest.raises(FileNotFoundError):
        label_many.fn(asked)
    assert LabelStore(run.labels).has(asked.keys[0])


def test_a_thousand_structures_are_a_small_request(settings: Settings, run: RunDir) -> None:
    asked = request(settings, run, waters(1))
    keys = tuple(f"{number:064x}" for number in range(1000))
    assert len(pickle.dumps(replace(asked, keys=keys))) < 100_000
