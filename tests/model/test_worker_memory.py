"""What a worker keeps: never another answer than the files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from ase.build import molecule

from aimspax_core.errors import DamagedError
from aimspax_core.labels.store import LabelStore
from aimspax_core.model import worker_memory as module
from aimspax_core.model.mace.build import Constants
from aimspax_core.model.member import Member
from aimspax_core.model.worker_memory import MAX_MEMBERS, WorkerMemory, worker_memory
from aimspax_core.reference.tblite.engine import TbliteEngine
from aimspax_core.reference.tblite.section import TbliteReference
from aimspax_core.settings.engines import FoundationalModel
from aimspax_core.settings.model import ModelSettings

SETTINGS = ModelSettings.model_validate(
    {
        "GENERAL": {"name_exp": "tiny", "default_dtype": "float64"},
        "ARCHITECTURE": {
            "num_channels": 4, "num_interactions": 1, "max_L": 0, "max_ell": 1, "correlation": 1,
            "num_radial_basis": 3, "radial_MLP": [4], "r_max": 3.0,
        },
    }
)  # fmt: skip
ELEMENTS = (1, 8)


@pytest.fixture
def memory() -> WorkerMemory:
    return WorkerMemory()


def member(seed: int = 1) -> Member:
    return Member(SETTINGS, ELEMENTS, f"tiny-{seed}", seed, Constants({1: 0.0, 8: 0.0}, 2, 1, 0))


def spoil(one: Member) -> None:
    with torch.no_grad():
        for weight in one.model.parameters():
            weight += 1.0


def weight(one: Member) -> float:
    return float(next(iter(one.model.parameters())).detach().flatten()[0])


def test_a_member_is_taken_as_it_was_left(memory: WorkerMemory, tmp_path: Path) -> None:
    one = member()
    memory.keep_member(tmp_path / "c.pt", one)
    assert (tmp_path / "c.pt").exists()
    assert memory.take_member(tmp_path / "c.pt", SETTINGS) is one


def test_a_member_whose_training_failed_is_read_from_its_file(
    memory: WorkerMemory, tmp_path: Path
) -> None:
    one, path = member(), tmp_path / "c.pt"
    memory.keep_member(path, one)
    before = weight(one)
    spoil(memory.take_member(path, SETTINGS))  # and never kept again
    again = memory.take_member(path, SETTINGS)
    assert again is not one
    assert weight(again) == before


def test_a_checkpoint_that_another_worker_wrote_counts(
    memory: WorkerMemory, tmp_path: Path
) -> None:
    path = tmp_path / "c.pt"
    memory.keep_member(path, member(1))
    WorkerMemory().keep_member(path, member(2))
    assert memory.take_member(path, SETTINGS).tag == "tiny-2"


def test_a_member_without_its_file_is_not_taken(memory: WorkerMemory, tmp_path: Path) -> None:
    memory.keep_member(tmp_path / "c.pt", member())
    (tmp_path / "c.pt").unlink()
    with pytest.raises(DamagedError, match="no checkpoint"):
        memory.take_member(tmp_path / "c.pt", SETTINGS)


def test_only_the_members_used_last_are_kept(memory: WorkerMemory, tmp_path: Path) -> None:
    one = member()
    paths = [tmp_path / f"member-{number}" / "c.pt" for number in range(MAX_MEMBERS + 1)]
    for path in paths:
        memory.keep_member(path, one)
    assert memory.take_member(paths[1], SETTINGS) is one
    assert memory.take_member(paths[0], SETTINGS) is not one


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    found, engine = LabelStore(tmp_path), TbliteEngine(TbliteReference(engine="tblite"))
    found.put("k1", molecule("H2O"), engine.label(molecule("H2O")))
    found.put("k2", molecule("H2"), engine.label(molecule("H2")))
    return found


def test_graphs_are_built_once(memory: WorkerMemory, store: LabelStore) -> None:
    first = memory.graphs(store, ["k1"], SETTINGS, ELEMENTS)
    both = memory.graphs(store, ["k2", "k1"], SETTINGS, ELEMENTS)
    assert both[1] is first[0]
    assert [len(graph.positions) for graph in both] == [2, 3]
    assert float(both[1].energy) == store.get("k1").label.energy  # type: ignore[union-attr]


def test_a_label_that_is_gone_is_named(memory: WorkerMemory, tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match=rf"no{os.sep}nothing\.json: the label is gone"):
        memory.graphs(LabelStore(tmp_path), ["nothing"], SETTINGS, ELEMENTS)


def test_graphs_are_dropped_when_they_have_too_many_atoms(
    store: LabelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_GRAPH_ATOMS", 4)
    memory = WorkerMemory()
    water, hydrogen = (memory.graphs(store, [key], SETTINGS, ELEMENTS)[0] for key in ("k1", "k2"))
    assert memory.graphs(store, ["k2"], SETTINGS, ELEMENTS) == [hydrogen]
    assert memory.graphs(store, ["k1"], SETTINGS, ELEMENTS) != [water]


def test_graphs_that_are_asked_for_at_once_are_kept_whatever_their_size(
    store: LabelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_GRAPH_ATOMS", 1)
    memory = WorkerMemory()
    first = memory.graphs(store, ["k1", "k2"], SETTINGS, ELEMENTS)
    assert memory.graphs(store, ["k1", "k2"], SETTINGS, ELEMENTS) == first


OTHER = SETTINGS.model_copy(update={"TRAINING": SETTINGS.TRAINING.model_copy(update={"lr": 0.5})})


def test_other_settings_or_elements_have_graphs_and_members_of_their_own(
    memory: WorkerMemory, store: LabelStore, tmp_path: Path
) -> None:
    (graph,) = memory.graphs(store, ["k1"], SETTINGS, ELEMENTS)
    same = ModelSettings.model_validate(SETTINGS.model_dump())
    assert memory.graphs(store, ["k1"], same, ELEMENTS) == [graph]
    assert memory.graphs(store, ["k1"], OTHER, ELEMENTS) != [graph]
    assert memory.graphs(store, ["k1"], SETTINGS, (1, 6, 8)) != [graph]
    one, path = member(), tmp_path / "c.pt"
    memory.keep_member(path, one)
    assert memory.take_member(path, OTHER) is not one
    assert memory.take_member(path, same) is one


def test_an_ensemble_is_kept_by_its_settings_and_elements(memory: WorkerMemory) -> None:
    one = memory.ensemble(SETTINGS, ELEMENTS)
    assert memory.ensemble(SETTINGS, ELEMENTS) is one
    assert memory.ensemble(OTHER, ELEMENTS) is not one
    assert memory.ensemble(SETTINGS, (1, 6)) is not one


def test_a_foundation_model_is_loaded_once(
    memory: WorkerMemory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "load_foundation", lambda kind, **asked: (kind, asked["model"]))
    small, large = (FoundationalModel(mace_model=size) for size in ("small", "large"))
    first = memory.foundation("mace-mp", small, tmp_path, SETTINGS)
    assert first == ("mace-mp", "small")
    assert memory.foundation("mace-mp", small, tmp_path, SETTINGS) is first
    assert memory.foundation("mace-mp", large, tmp_path, SETTINGS) == ("mace-mp", "large")
    memory.clear()
    assert memory.foundation("mace-mp", small, tmp_path, SETTINGS) is not first


def test_a_process_has_one_memory() -> None:
    assert worker_memory() is worker_memory()
