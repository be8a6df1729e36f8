"""What a worker keeps: never another answer than the files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from ase.build import molecule

from aimspax_core.errors import CampaignError, ModelError
from aimspax_core.labels.store import LabelStore
from aimspax_core.model import worker_memory as module
from aimspax_core.model.mace.build import Constants
from aimspax_core.model.member import Member
from aimspax_core.model.worker_memory import MAX_MEMBERS, Kept, kept
from aimspax_core.reference.tblite.engine import TbliteEngine
from aimspax_core.reference.tblite.kind import TbliteReference
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
def memory() -> Kept:
    return Kept(SETTINGS, ELEMENTS)


def member(seed: int = 1) -> Member:
    return Member(SETTINGS, ELEMENTS, f"tiny-{seed}", seed, Constants({1: 0.0, 8: 0.0}, 2, 1, 0))


def spoil(one: Member) -> None:
    with torch.no_grad():
        for weight in one.model.parameters():
            weight += 1.0


def weight(one: Member) -> float:
    return float(next(iter(one.model.parameters())).detach().flatten()[0])


def test_a_member_is_taken_as_it_was_left(memory: Kept, tmp_path: Path) -> None:
    one = member()
    memory.keep_member(tmp_path / "c.pt", one)
    assert (tmp_path / "c.pt").exists()
    assert memory.take_member(tmp_path / "c.pt") is one


def test_a_member_whose_training_failed_is_read_from_its_file(memory: Kept, tmp_path: Path) -> None:
    one, path = member(), tmp_path / "c.pt"
    memory.keep_member(path, one)
    before = weight(one)
    spoil(memory.take_member(path))  # and never kept again
    again = memory.take_member(path)
    assert again is not one
    assert weight(again) == before


def test_a_checkpoint_that_another_worker_wrote_counts(memory: Kept, tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    memory.keep_member(path, member(1))
    Kept(SETTINGS, ELEMENTS).keep_member(path, member(2))
    assert memory.take_member(path).tag == "tiny-2"


def test_a_member_without_its_file_is_not_taken(memory: Kept, tmp_path: Path) -> None:
    memory.keep_member(tmp_path / "c.pt", member())
    (tmp_path / "c.pt").unlink()
    with pytest.raises(ModelError, match="no checkpoint"):
        memory.take_member(tmp_path / "c.pt")


def test_only_the_members_used_last_are_kept(memory: Kept, tmp_path: Path) -> None:
    one = member()
    for number in range(MAX_MEMBERS + 1):
        memory.keep_member(tmp_path / f"{number}.pt", one)
    assert memory.take_member(tmp_path / "1.pt") is one
    assert memory.take_member(tmp_path / "0.pt") is not one


def test_graphs_are_built_once(
    memory: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, engine = LabelStore(tmp_path), TbliteEngine(TbliteReference(engine="tblite"))
    store.put("k1", molecule("H2O"), engine.label(molecule("H2O")))
    store.put("k2", molecule("H2"), engine.label(molecule("H2")))
    built = []
    original = module.graphs
    monkeypatch.setattr(module, "graphs", lambda *given: built.append(1) or original(*given))
    first = memory.graphs(store, ["k1"])
    both = memory.graphs(store, ["k2", "k1"])
    assert both[1] is first[0]
    assert [len(graph.positions) for graph in both] == [2, 3]
    assert len(built) == 2
    assert float(both[1].energy) == store.get("k1").label.energy  # type: ignore[union-attr]


def test_a_label_that_is_gone_is_named(memory: Kept, tmp_path: Path) -> None:
    with pytest.raises(CampaignError, match=rf"no{os.sep}nothing\.json is gone"):
        memory.graphs(LabelStore(tmp_path), ["nothing"])


def test_a_process_has_one_memory_for_the_same_settings() -> None:
    same = ModelSettings.model_validate(SETTINGS.model_dump())
    assert kept(SETTINGS, ELEMENTS) is kept(same, ELEMENTS)
    assert kept(SETTINGS, (1, 6)) is not kept(SETTINGS, ELEMENTS)
    other = SETTINGS.model_copy(
        update={"TRAINING": SETTINGS.TRAINING.model_copy(update={"lr": 0.5})}
    )
    assert kept(other, ELEMENTS) is not kept(SETTINGS, ELEMENTS)
