"""The label store: exact, whole or not at all, and keyed by what changes the answer."""

from __future__ import annotations

import json
import multiprocessing
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from aimspax_core import storage
from aimspax_core.errors import CampaignError, NewerReleaseError
from aimspax_core.labels import store as module
from aimspax_core.labels.label import Label
from aimspax_core.labels.store import FORMAT, LabelStore, gone_labels, label_key
from aimspax_core.reference.tblite.engine import TbliteEngine
from aimspax_core.reference.tblite.section import TbliteReference
from aimspax_core.structures import digest

RNG = np.random.default_rng(0)


def water(**changes: Any) -> Atoms:
    atoms = molecule("H2O", cell=[5.0, 6.0, 7.0], pbc=True)
    atoms.positions += 0.1 / 3
    for name, value in changes.items():
        setattr(atoms, name, value)
    return atoms


def label(energy: float = -1 / 3, stress: bool = True) -> Label:
    forces = RNG.normal(size=(3, 3)) * 1e-5
    made = RNG.normal(size=(3, 3)) if stress else None
    return Label(energy, forces, made, {"engine": "made up", "wall_s": 0.1})


def identity(**changes: Any) -> dict[str, Any]:
    return TbliteEngine(TbliteReference(engine="tblite", **changes)).identity()


def with_info(**info: Any) -> Atoms:
    atoms = water()
    atoms.info.update(info)
    return atoms


def with_array(name: str) -> Atoms:
    atoms = water()
    atoms.set_array(name, np.array([0.0, 0.0, 0.5]))
    return atoms


# ---- the store ------------------------------------------------------------------------------


@pytest.mark.parametrize("stress", [True, False])
def test_a_label_comes_back_to_the_last_bit(tmp_path: Path, stress: bool) -> None:
    atoms, made = water(), label(stress=stress)
    LabelStore(tmp_path).put("abcd", atoms, made)
    stored = LabelStore(tmp_path).get("abcd")
    assert stored is not None
    assert (stored.key, stored.label.energy) == ("abcd", made.energy)
    np.testing.assert_array_equal(stored.label.forces, made.forces)
    if stress:
        assert made.stress is not None
        assert stored.label.stress is not None
        np.testing.assert_array_equal(stored.label.stress, made.stress)
    else:
        assert stored.label.stress is None
    assert stored.label.provenance == made.provenance
    np.testing.assert_array_equal(stored.atoms.positions, atoms.positions)
    assert stored.atoms == atoms


def test_a_label_that_is_not_there_is_none(tmp_path: Path) -> None:
    store = LabelStore(tmp_path / "nowhere")
    assert store.get("abcd") is None
    assert not store.has("abcd")


def test_a_label_lies_in_one_file_named_by_its_key(tmp_path: Path) -> None:
    store = LabelStore(tmp_path)
    store.put("abcd", water(), label())
    assert [p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file()] == [
        Path("ab/abcd.json")
    ]
    assert store.has("abcd")


def test_the_first_label_of_a_key_stays(tmp_path: Path) -> None:
    store = LabelStore(tmp_path)
    store.put("abcd", water(), label(-1.0))
    assert store.put("abcd", water(), label(-2.0)).label.energy == -1.0
    stored = store.get("abcd")
    assert stored is not None
    assert stored.label.energy == -1.0


def test_numbers_of_any_kind_are_written(tmp_path: Path) -> None:
    made = Label(np.float32(-1.5), np.zeros((3, 3), np.float32))  # type: ignore[arg-type]
    LabelStore(tmp_path).put("abcd", water(), made)
    stored = LabelStore(tmp_path).get("abcd")
    assert stored is not None
    assert stored.label.forces.dtype == float


def test_nan_is_never_stored(tmp_path: Path) -> None:
    store = LabelStore(tmp_path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.put("abcd", water(), label(np.nan))
    assert not any(p.is_file() for p in tmp_path.rglob("*"))


def damaged(content: dict[str, Any]) -> list[str]:
    text = json.dumps(content)
    return [
        text[:-20],
        "",
        "[]",
        json.dumps(content | {"key": "abce"}),
        json.dumps(content | {"forces": [[0, 0, 0]]}),
        json.dumps({k: v for k, v in content.items() if k != "energy"}),
    ]


@pytest.mark.parametrize("case", range(6))
def test_a_damaged_label_is_set_aside_and_counts_as_absent(tmp_path: Path, case: int) -> None:
    store = LabelStore(tmp_path)
    store.put("abcd", water(), label(-1.0))
    path = store.path("abcd")
    text = damaged(json.loads(path.read_text(encoding="utf-8")))[case]
    path.write_text(text, encoding="utf-8")
    assert store.get("abcd") is None
    assert not store.has("abcd")
    assert path.with_suffix(".damaged").read_text(encoding="utf-8") == text
    store.put("abcd", water(), label(-2.0))
    stored = store.get("abcd")
    assert stored is not None
    assert stored.label.energy == -2.0


def put_often(folder: Path, energy: float) -> None:
    for number in range(30):
        stored = LabelStore(folder).put(f"ab{number}", water(), label(energy))
        assert stored.label.energy in (1.0, 2.0)


def test_two_processes_may_store_the_same_labels(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=put_often, args=(tmp_path, e)) for e in (1.0, 2.0)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    found = [LabelStore(tmp_path).get(f"ab{number}") for number in range(30)]
    assert all(stored is not None and stored.label.energy in (1.0, 2.0) for stored in found)
    assert len([p for p in tmp_path.rglob("*") if p.is_file()]) == 30


# ---- the key --------------------------------------------------------------------------------


def test_key_is_the_same_for_whoever_asks() -> None:
    """A fixed value: a key that changed would make every label of every user worthless."""
    assert label_key(molecule("H2"), {"b": 1, "a": [0.1]}) == label_key(
        molecule("H2"), {"a": [0.1], "b": 1}
    )
    fixed = Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.74]])
    assert label_key(fixed, {"engine": "x"}) == (
        "dc393a8ed12eed8aea5ae1128d794503a61c8e7a70b1b0a58126840fc8090364"
    )


def test_key_does_not_see_how_a_structure_got_there() -> None:
    atoms = water()
    moving = water()
    moving.set_momenta(np.ones((3, 3)))
    moving.info["step"] = 12
    moving.set_tags([1, 2, 3])
    assert label_key(moving, {}) == label_key(atoms, {})


NUDGED = water().positions + np.array([[0, 0, 0], [0, 0, 0], [0, 0, 2e-16]])


@pytest.mark.parametrize(
    "other",
    [
        water(numbers=[8, 1, 2]),
        water(positions=NUDGED),
        water(cell=[5.0, 6.0, 7.0 + 1e-15]),
        water(pbc=[True, True, False]),
        with_info(charge=0),
        with_info(spin=1),
        with_array("initial_magmoms"),
        with_array("initial_charges"),
    ],
)
def test_key_changes_with_everything_that_makes_a_structure(other: Atoms) -> None:
    assert label_key(other, {}) != label_key(water(), {})


@pytest.mark.parametrize(("first", "second"), [("charge", 0), ("spin", 1)])
def test_key_tells_values_apart(first: str, second: int) -> None:
    zero, one = with_info(**{first: second}), with_info(**{first: second + 1})
    assert label_key(zero, {}) != label_key(one, {})


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "GFN1-xTB"},
        {"charge": 1},
        {"spin": 2},
        {"accuracy": 0.1},
        {"electronic_temperature": 301.0},
    ],
)
def test_key_changes_with_every_setting_that_changes_the_answer(changes: dict[str, Any]) -> None:
    assert label_key(water(), identity(**changes)) != label_key(water(), identity())


def test_key_changes_with_the_version_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    before = label_key(water(), identity())
    monkeypatch.setattr("importlib.metadata.version", lambda _: "99.9")
    assert label_key(water(), identity()) != before


def test_key_does_not_change_with_the_limit_of_iterations() -> None:
    """It decides whether there is an answer, not which."""
    assert identity(max_iterations=7) == identity()


def test_no_other_setting_is_left_out_of_the_key() -> None:
    assert set(TbliteReference.model_fields) - set(identity()) == {"max_iterations"}


def test_labels_that_are_gone_with_their_structures_are_told_by_number_and_place(
    tmp_path: Path,
) -> None:
    store = LabelStore(tmp_path)
    with pytest.raises(CampaignError, match=r"2 labels .*first is .*aa/aa11.json"):
        gone_labels(store, ["aa11", "bb22"], lambda key: tmp_path / f"{key}.json")
    assert gone_labels(store, [], lambda key: tmp_path / key) == []


def test_a_label_that_the_device_does_not_give_is_set_aside_at_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.0)
    store = LabelStore(tmp_path / "labels")
    path = store.path("aa11")
    path.parent.mkdir(parents=True)
    path.symlink_to("/proc/self/mem")  # reading it from its beginning fails as a bad sector does
    (tmp_path / "aa11").touch()
    assert gone_labels(store, ["aa11"], lambda key: tmp_path / key) == ["aa11"]
    assert path.with_suffix(".damaged").is_symlink()


def test_a_start_waits_once_for_all_labels_that_the_device_does_not_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(storage, "sleep", pauses.append)
    monkeypatch.setattr(storage, "monotonic", lambda: sum(pauses))
    store, keys = LabelStore(tmp_path / "labels"), ["aa11", "bb22", "cc33"]
    for key in keys:
        path = store.path(key)
        path.parent.mkdir(parents=True)
        path.symlink_to("/proc/self/mem")
        (tmp_path / key).touch()
    assert gone_labels(store, keys, lambda key: tmp_path / key) == keys
    assert 0 < sum(pauses) <= module.PATIENCE_S


def test_labels_that_are_gone_or_damaged_can_be_computed_again_from_their_structures(
    tmp_path: Path,
) -> None:
    store = LabelStore(tmp_path)
    store.put("aa11", water(), label())
    store.put("bb22", water(), label())
    store.path("bb22").write_text("bad")
    for key in ("aa11", "bb22", "cc33"):
        (tmp_path / key).touch()
    assert gone_labels(store, ["aa11", "bb22", "cc33"], lambda key: tmp_path / key) == [
        "bb22",
        "cc33",
    ]


# ---- claims ---------------------------------------------------------------------------------


def _claims(folder: Path, number: int) -> None:
    """Compute a label as two campaigns may: who comes second finds it."""
    store = LabelStore(folder)
    with store.claim("abcd"):
        if store.get("abcd") is None:
            with (folder / "computed").open("a") as file:
                file.write(f"{number}\n")
            time.sleep(0.2)
            store.put("abcd", water(), label(float(-number)))


def test_of_many_processes_one_computes_a_label(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_claims, args=(tmp_path, n)) for n in range(1, 7)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 6
    (computed,) = (tmp_path / "computed").read_text().split()
    stored = LabelStore(tmp_path).get("abcd")
    assert stored is not None
    assert stored.label.energy == -float(computed)
    assert not list(tmp_path.rglob("*.lock"))


def _claims_for_ever(folder: Path) -> None:
    with LabelStore(folder).claim("abcd"):
        (folder / "claimed").touch()
        time.sleep(600)


def test_a_claim_ends_with_the_process_that_holds_it(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_claims_for_ever, args=(tmp_path,))
    process.start()
    while not (tmp_path / "claimed").exists():
        time.sleep(0.01)
    process.kill()
    with LabelStore(tmp_path).claim("abcd"):
        pass


def test_a_failure_gives_the_claim_back(tmp_path: Path) -> None:
    store = LabelStore(tmp_path)
    with pytest.raises(OSError, match="full"), store.claim("abcd"):
        raise OSError("full")
    with store.claim("abcd"):
        pass


# ---- what a key tells -----------------------------------------------------------------------


def test_only_the_species_of_its_own_elements_count_for_a_label() -> None:
    told = {"engine": "aims", "species": {"H": "1", "O": "2"}}
    more = {"engine": "aims", "species": {"H": "1", "O": "2", "Si": "3"}}
    other = {"engine": "aims", "species": {"H": "1", "O": "9"}}
    assert label_key(water(), told) == label_key(water(), more) != label_key(water(), other)


def test_a_label_of_another_structure_under_a_key_is_set_aside(tmp_path: Path) -> None:
    store, told = LabelStore(tmp_path), identity()
    key = label_key(water(), told)
    store.put(key, water(), label(), told)
    assert store.get(key) is not None
    content = json.loads(store.path(key).read_text())
    del content["checksum"]
    content["structure"]["positions"][0][0] += 1e-12
    store.path(key).write_text(json.dumps(content))
    assert store.get(key) is None
    assert store.path(key).with_suffix(".damaged").exists()


def test_labels_of_earlier_versions_are_read(tmp_path: Path) -> None:
    store = LabelStore(tmp_path)
    store.put("abcd", water(), label(-1.0))
    content = json.loads(store.path("abcd").read_text())
    assert "reference" not in content
    del content["checksum"]
    store.path("abcd").write_text(json.dumps(content))
    stored = store.get("abcd")
    assert stored is not None
    assert stored.label.energy == -1.0


def test_a_label_of_a_newer_release_is_refused_with_its_name_and_stays(tmp_path: Path) -> None:
    store = LabelStore(tmp_path)
    store.put("abcd", water(), label())
    content = json.loads(store.path("abcd").read_text())
    del content["checksum"]
    content |= {"format": FORMAT + 1, "aimspax": "9.8.7"}
    text = json.dumps(content | {"checksum": digest(content)})
    store.path("abcd").write_text(text)
    with pytest.raises(NewerReleaseError) as caught:
        store.get("abcd")
    assert caught.value.version == "9.8.7"
    assert store.path("abcd").read_text() == text
