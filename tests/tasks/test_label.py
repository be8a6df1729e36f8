"""The label task, called as the plain function that it is."""

from __future__ import annotations

import errno
import json
import pickle
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes

import tasks.label as module
from aimspax_core import storage
from aimspax_core.errors import CampaignError, LabelError, LabelFailure
from aimspax_core.labels import spare
from aimspax_core.labels.label import Label
from aimspax_core.labels.store import LabelStore
from aimspax_core.labels.waiting import keep_structure
from aimspax_core.machine import WORKER_ADDRESS
from aimspax_core.reference.ase.section import AseReference
from aimspax_core.reference.registry import build_reference
from aimspax_core.reference.tblite.section import TbliteReference
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.engines import Gate
from aimspax_core.settings.settings import Settings
from tasks.label import LabelRequest, label, label_cache_key
from tests.disks import fill


class OnlyIfAsked(Calculator):
    """A calculator that computes a dipole only if it is asked for it, as sums of others do."""

    implemented_properties = ("energy", "forces", "dipole")  # type: ignore[assignment]

    def calculate(
        self, atoms: Any = None, properties: Any = (), system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": -1.0, "forces": np.ones((len(atoms), 3))}
        if "dipole" in properties:
            self.results["dipole"] = np.array([0.1, 0.2, 0.3])


class Counting:
    """An engine that counts how often it is asked."""

    def __init__(self, answer: Label | Exception, identity: dict[str, Any]) -> None:
        self.answer, self.calls, self._identity = answer, 0, identity

    def identity(self) -> dict[str, Any]:
        return self._identity

    def label(self, atoms: Atoms) -> Label:
        self.calls += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def request(settings: Settings, run: RunDir, atoms: Atoms | None = None) -> LabelRequest:
    identity = build_reference(settings.reference, settings.directory).identity()
    key = keep_structure(run, atoms or molecule("H2O"), identity)
    return LabelRequest.of(
        key, run, settings.reference, settings.gate, settings.directory, stress=False
    )


@pytest.fixture
def engine(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Counting:
    identity = build_reference(settings.reference, settings.directory).identity()
    made = Counting(Label(-1.0, np.ones((3, 3))), identity)
    monkeypatch.setattr(module, "build_reference", lambda *_: made)
    return made


def test_the_label_is_in_the_store_when_the_task_returns(settings: Settings, run: RunDir) -> None:
    asked = request(settings, run)
    record = label.fn(asked)
    stored = LabelStore(run.labels).get(asked.key)
    expected = build_reference(settings.reference, settings.directory).label(molecule("H2O"))
    assert stored is not None
    assert stored.label.energy == pytest.approx(expected.energy, abs=1e-10)
    assert stored.atoms == molecule("H2O")
    assert record.key == asked.key
    assert record.wall_s == stored.label.provenance["wall_s"] > 0
    assert record.host == stored.label.provenance["host"]


def test_it_looks_before_it_computes(settings: Settings, run: RunDir, engine: Counting) -> None:
    asked = request(settings, run)
    first = label.fn(asked)
    assert label.fn(asked) == first.model_copy(
        update={"core_hours": 0.0, "from_store": True}
    )  # it costs nothing now
    assert first.core_hours > 0
    assert engine.calls == 1


def test_a_label_of_another_campaign_serves(
    settings: Settings, run: RunDir, engine: Counting, tmp_path: Path
) -> None:
    """The structure's file is not even read."""
    asked = request(settings, run)
    LabelStore(run.labels).put(asked.key, molecule("H2O"), engine.answer)  # type: ignore[arg-type]
    record = label.fn(replace(asked, structure=tmp_path / "gone.json"))
    assert (record.wall_s, engine.calls) == (0.0, 0)


def test_a_structure_that_the_gate_refuses_never_reaches_the_engine(
    settings: Settings, run: RunDir, engine: Counting
) -> None:
    asked = request(settings, run, Atoms("H2", [[0, 0, 0], [0, 0, 0.1]]))
    with pytest.raises(LabelError, match=r"by the gate: atoms \d \(H\) and \d \(H\)") as found:
        label.fn(asked)
    assert not found.value.transient
    assert engine.calls == 0


def test_a_label_that_the_gate_refuses_never_reaches_the_store(
    settings: Settings, run: RunDir, engine: Counting
) -> None:
    asked = replace(request(settings, run), gate=Gate(max_force=1.0))
    with pytest.raises(LabelError, match=r"a force of 1\.7 eV/Å"):
        label.fn(asked)
    assert not LabelStore(run.labels).has(asked.key)


def test_stress_is_asked_of_a_crystal_if_the_models_train_on_it(
    settings: Settings, run: RunDir, engine: Counting
) -> None:
    engine.answer = Label(-1.0, np.zeros((1, 3)))
    asked = replace(request(settings, run, bulk("Cu")), stress=True)
    with pytest.raises(LabelError, match="no stress of a periodic structure") as found:
        label.fn(asked)
    assert not found.value.transient
    assert not LabelStore(run.labels).has(asked.key)
    engine.answer = Label(-1.0, np.zeros((1, 3)), np.eye(3))
    assert label.fn(asked).key == asked.key


def test_a_stored_label_without_the_stress_that_is_needed_is_refused(
    settings: Settings, run: RunDir, engine: Counting
) -> None:
    """It is not computed again either: what is stored is never replaced, and others use it."""
    engine.answer = Label(-1.0, np.zeros((1, 3)))
    asked = request(settings, run, bulk("Cu"))
    label.fn(asked)
    path = LabelStore(run.labels).path(asked.key)
    before = path.read_bytes()
    with pytest.raises(LabelError, match=rf"no stress .* store, .* remove {path} to") as found:
        label.fn(replace(asked, stress=True))
    assert not found.value.transient
    assert (engine.calls, path.read_bytes()) == (1, before)


def test_prefects_cache_does_not_answer_for_a_stress_that_was_not_asked_for(
    settings: Settings, run: RunDir
) -> None:
    asked = request(settings, run)
    keys = {
        label_cache_key(None, {"request": r})  # type: ignore[arg-type]
        for r in (asked, replace(asked, stress=True))
    }
    assert len(keys) == 2


def test_a_request_survives_the_way_to_a_worker(settings: Settings, run: RunDir) -> None:
    lj = AseReference(
        engine="ase", calculator="ase.calculators.lj.LennardJones", arguments={"sigma": [1, {}]}
    )
    asked = replace(request(settings, run), reference=lj, stress=True)
    assert pickle.loads(pickle.dumps(asked)) == asked


def test_prefects_key_is_the_labels_own(settings: Settings, run: RunDir) -> None:
    asked = request(settings, run)
    elsewhere = replace(asked, store=Path("b"), directory=Path("c"), gate=Gate(max_force=2))
    keys = {label_cache_key(None, {"request": r}) for r in (asked, elsewhere)}  # type: ignore[arg-type]
    assert keys == {f"label-{asked.key}"}
    assert label.cache_key_fn is label_cache_key


def test_what_may_pass_is_not_tried_again_on_the_same_worker() -> None:
    assert label.retries == 0


def test_a_worker_with_another_reference_does_not_label_under_the_key_of_the_first(
    settings: Settings, run: RunDir
) -> None:
    asked = request(settings, run)
    other = replace(asked, reference=settings.reference.model_copy(update={"accuracy": 0.1}))
    with pytest.raises(CampaignError, match="is not the one that was asked for"):
        label.fn(other)
    assert not LabelStore(run.labels).has(asked.key)


def test_a_label_tells_how_it_came_about(settings: Settings, run: RunDir) -> None:
    asked = request(settings, run)
    record = label.fn(asked)
    stored = LabelStore(run.labels).get(asked.key)
    assert stored is not None
    told = stored.label.provenance
    assert (told["engine"], told["method"]) == ("tblite", "GFN1-xTB")
    assert told["core_hours"] == pytest.approx(told["wall_s"] / 3600) == record.core_hours
    assert len(told["settings"]) == 64
    assert told["version"]
    assert told["host"]


# ---- bad labels -----------------------------------------------------------------------------


def _kept(run: RunDir) -> Atoms:
    (file,) = run.refused.iterdir()
    atoms = ase.io.read(file)
    assert isinstance(atoms, Atoms)
    return atoms


def test_what_the_gate_refuses_is_kept_aside_with_the_reason(
    settings: Settings, run: RunDir, engine: Counting
) -> None:
    engine.answer = Label(-7.0, np.full((3, 3), 900.0))
    with pytest.raises(LabelError, match="refused by the gate: a force of 1558") as found:
        label.fn(request(settings, run))
    assert found.value.refused
    assert not found.value.transient
    kept = _kept(run)
    assert kept.info["reason"].startswith("a force of 1558")
    assert kept.info["refused_energy"] == -7.0
    assert kept.arrays["refused_forces"].shape == (3, 3)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Label(float("nan"), np.zeros((3, 3))), "not finite"),
        (Label(-1.0, np.full((3, 3), np.nan)), "not finite"),
        (Label(-1.0, np.zeros((2, 3))), "forces of shape"),
        (Label(-1.0, np.zeros((3, 3))), "exactly zero"),
        (Label(-1.0, np.ones((3, 3), complex)), "complex"),
        (Label(-1.0j, np.ones((3, 3))), "complex"),  # type: ignore[arg-type]
        (Label(-1.0, [[0.1, 0.2, 0.3], [0.1]]), "forces"),  # type: ignore[arg-type]
        (Label(-1.0, np.full((3, 3), 1e4)), "a force of"),
        (Label(-1.0, np.zeros((3, 3)), structure=molecule("H2O")[[1, 0, 2]]), "another order"),
        (Label(-1.0, np.zeros((3, 3)), structure=molecule("H2O")[[0, 2, 1]]), "another order"),
        (Label(-1.0, np.zeros((2, 3)), structure=molecule("H2O")[:2]), "tells of 2 atoms"),
    ],
)
def test_no_bad_answer_of_an_engine_reaches_the_store(
    settings: Settings, run: RunDir, engine: Counting, answer: Label, why: str
) -> None:
    engine.answer = answer
    asked = request(settings, run)
    with pytest.raises(LabelError, match=f"refused by the gate: .*{why}"):
        label.fn(asked)
    assert not LabelStore(run.labels).has(asked.key)
    assert len(_kept(run)) == 3


def _plant(run: RunDir, asked: LabelRequest, **changes: Any) -> None:
    """Write a label into the store as somebody might who knows the format."""
    path = LabelStore(run.labels).path(asked.key)
    content = json.loads(path.read_text())
    content.pop("checksum")
    path.write_text(json.dumps({**content, **changes}))


@pytest.mark.parametrize("checksum", [True, False])
@pytest.mark.parametrize(
    "changes",
    [
        {"energy": float("nan")},
        {"forces": [[float("nan")] * 3] * 3},
        {"forces": [[0.0, 0.0, 0.0]] * 2},
        {"forces": "none"},
        {"key": "0" * 64},
    ],
)
def test_a_planted_label_that_is_none_is_computed_again(
    settings: Settings, run: RunDir, changes: dict[str, Any], checksum: bool
) -> None:
    asked = request(settings, run)
    label.fn(asked)
    right = LabelStore(run.labels).get(asked.key)
    kept = {"checksum": "0"} if checksum else {}
    _plant(run, asked, **changes, **kept)
    label.fn(asked)
    again = LabelStore(run.labels).get(asked.key)
    assert right is not None
    assert again is not None
    assert again.label.energy == pytest.approx(right.label.energy, abs=1e-9)
    np.testing.assert_allclose(again.label.forces, right.label.forces, atol=1e-9)


def test_a_planted_label_of_other_atoms_is_computed_again(settings: Settings, run: RunDir) -> None:
    asked = request(settings, run)
    label.fn(asked)
    content = json.loads(LabelStore(run.labels).path(asked.key).read_text())
    turned = {k: content["structure"][k][::-1] for k in ("numbers", "positions")}
    _plant(run, asked, structure={**content["structure"], **turned}, forces=content["forces"][::-1])
    label.fn(asked)
    stored = LabelStore(run.labels).get(asked.key)
    assert stored is not None
    assert stored.atoms == molecule("H2O")


def test_forces_that_change_places_in_the_store_are_noticed(
    settings: Settings, run: RunDir
) -> None:
    asked = request(settings, run)
    label.fn(asked)
    path = LabelStore(run.labels).path(asked.key)
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "forces": content["forces"][::-1]}))
    assert LabelStore(run.labels).get(asked.key) is None


def test_a_planted_explosion_is_refused(settings: Settings, run: RunDir) -> None:
    asked = request(settings, run)
    label.fn(asked)
    _plant(run, asked, forces=[[1e4, 0.0, 0.0], [-1e4, 0.0, 0.0], [0.0, 0.0, 0.0]])
    with pytest.raises(
        LabelError, match=r"refused by the gate: a force of 10000\.0 .* remove"
    ) as found:
        label.fn(asked)
    assert found.value.kind is LabelFailure.FORCE
    assert _kept(run).info["refused_energy"] < 0


@pytest.mark.parametrize("address", ["tls://node7:8786", ""])
def test_an_error_tells_on_which_worker_it_happened(
    settings: Settings,
    run: RunDir,
    engine: Counting,
    monkeypatch: pytest.MonkeyPatch,
    address: str,
) -> None:
    monkeypatch.setenv(WORKER_ADDRESS, address)
    engine.answer = LabelError("node lost", transient=True, kind=LabelFailure.SCF)
    with pytest.raises(LabelError) as found:
        label.fn(request(settings, run))
    assert (found.value.transient, found.value.worker) == (True, address)
    assert found.value.kind is LabelFailure.SCF


# ---- no room --------------------------------------------------------------------------------


@pytest.fixture
def spare_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where labels are kept that all machines see; they do not wait for room."""
    monkeypatch.setattr(module, "KEPT_S", 0.0)
    monkeypatch.setattr(module, "HELD_S", 0.0)
    monkeypatch.setenv(spare.STATE, str(tmp_path / "state"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / "state" / "aimspax" / "labels"


@pytest.fixture
def full(
    settings: Settings, run: RunDir, engine: Counting, small_disk: Path
) -> tuple[LabelRequest, Path]:
    """A request whose label store is on a disk that is full once the claim is made."""
    asked = replace(request(settings, run), store=small_disk / "labels")
    answer, filler = engine.label, small_disk / "filler"

    def label_and_fill(atoms: Atoms) -> Label:
        fill(small_disk)
        return answer(atoms)

    engine.label = label_and_fill  # type: ignore[method-assign]
    return asked, filler


def kept(folder: Path) -> list[str]:
    return [path.stem for path in folder.glob("*/*.json")]


def test_a_label_waits_for_room_and_is_kept_elsewhere_meanwhile(
    full: tuple[LabelRequest, Path],
    spare_room: Path,
    engine: Counting,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, filler = full
    monkeypatch.setattr(module, "KEPT_S", 30.0)
    seen: list[list[str]] = []

    def make_room(_: float) -> None:
        seen.append(kept(spare_room))
        if len(seen) == 2:
            filler.unlink()

    monkeypatch.setattr(storage, "sleep", make_room)
    record = label.fn(asked)
    assert seen == [[asked.key], [asked.key]]
    assert LabelStore(asked.store).has(asked.key)
    assert record.core_hours > 0
    assert kept(spare_room) == []
    assert engine.calls == 1


def test_a_label_that_found_no_room_is_not_computed_again(
    full: tuple[LabelRequest, Path],
    spare_room: Path,
    engine: Counting,
) -> None:
    asked, filler = full
    with pytest.raises(OSError, match="is kept in") as found:
        label.fn(asked)
    assert storage.cannot_take(found.value)
    assert found.value.filename == str(LabelStore(asked.store).path(asked.key))
    with pytest.raises(OSError) as again:
        label.fn(asked)
    assert storage.cannot_take(again.value)
    filler.unlink()
    record = label.fn(asked)
    stored = LabelStore(asked.store).get(asked.key)
    assert stored is not None
    assert stored.label.energy == -1.0
    assert record.core_hours == stored.label.provenance["core_hours"] > 0
    assert kept(spare_room) == []
    assert engine.calls == 1


def test_a_label_is_kept_beside_temporary_files_where_there_is_no_home(
    full: tuple[LabelRequest, Path],
    spare_room: Path,
    tmp_path: Path,
    engine: Counting,
) -> None:
    asked, filler = full
    (tmp_path / "state").write_text("a file, not a folder")
    with pytest.raises(OSError, match=f"is kept in {tmp_path}/aimspax-labels-"):
        label.fn(asked)
    filler.unlink()
    label.fn(asked)
    assert engine.calls == 1


def test_a_label_that_others_could_have_written_is_not_taken(
    full: tuple[LabelRequest, Path],
    spare_room: Path,
    engine: Counting,
) -> None:
    asked, filler = full
    with pytest.raises(OSError):
        label.fn(asked)
    filler.unlink()
    spare_room.chmod(0o777)
    with pytest.raises(OSError):  # computed again, and the disk is full again
        label.fn(asked)
    assert engine.calls == 2


def test_a_program_that_fails_for_want_of_room_is_not_blamed(
    settings: Settings, run: RunDir, engine: Counting, small_disk: Path
) -> None:
    engine.answer = LabelError("SCF not converged", kind=LabelFailure.SCF)
    asked = request(settings, run)
    with pytest.raises(LabelError):
        label.fn(asked)
    fill(small_disk)
    with pytest.raises(OSError) as found:
        label.fn(replace(asked, directory=small_disk))
    assert storage.cannot_take(found.value)
    assert found.value.filename == str(small_disk)


def test_a_store_that_may_not_be_written_to_stops_all_and_the_label_is_kept(
    settings: Settings,
    run: RunDir,
    engine: Counting,
    spare_room: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = request(settings, run)
    put = LabelStore.put

    def refused(store: LabelStore, *arguments: Any) -> Any:
        if store.path("") == LabelStore(run.labels).path(""):
            raise PermissionError(errno.EACCES, "Permission denied", "labels")
        return put(store, *arguments)

    monkeypatch.setattr(LabelStore, "put", refused)
    with pytest.raises(CampaignError, match=r"cannot be stored: labels: Permission.* is kept in"):
        label.fn(asked)
    monkeypatch.undo()
    assert kept(spare_room) == [asked.key]


def test_a_label_that_was_computed_for_this_campaign_costs_what_it_cost(
    settings: Settings, run: RunDir, engine: Counting
) -> None:
    """Its process was killed before it could take the label in."""
    ours = replace(request(settings, run), campaign="ours")
    cost = label.fn(ours).core_hours
    assert cost > 0
    assert label.fn(ours).core_hours == cost
    assert label.fn(replace(ours, campaign="theirs")).core_hours == 0
    assert label.fn(replace(ours, campaign="theirs")).from_store
    assert not label.fn(ours).from_store
    assert label.fn(replace(ours, campaign="")).core_hours == 0
    assert engine.calls == 1


def test_a_label_that_another_campaign_doubts_is_refused_with_its_reason_and_not_computed_again(
    settings: Settings, run: RunDir, engine: Counting
) -> None:
    asked = request(settings, run)
    label.fn(asked)
    store = LabelStore(run.labels)
    store.doubt(asked.key, "an energy +90.00 eV/atom from the median")
    with pytest.raises(LabelError) as found:
        label.fn(asked)
    assert engine.calls == 1
    assert found.value.kind is LabelFailure.ENERGY
    assert "an energy +90.00 eV/atom" in str(found.value)
    assert str(store.path(asked.key)) in str(found.value)
    store.path(asked.key).unlink()
    assert label.fn(asked).key == asked.key
    assert engine.calls == 2
    assert not store.doubted(asked.key)


@pytest.mark.parametrize("digit", [False, True])
def test_a_damaged_structure_costs_its_point_and_is_not_computed(
    settings: Settings, run: RunDir, engine: Counting, digit: bool
) -> None:
    """It is not taken for the mistake of a reference that is another one on this machine."""
    asked = request(settings, run)
    text = asked.structure.read_text(encoding="utf-8")
    asked.structure.write_text(text.replace("0.11", "0.12", 1) if digit else text[:-9], "utf-8")
    with pytest.raises(LabelError, match=asked.structure.name) as found:
        label.fn(asked)
    assert not found.value.transient
    assert found.value.kind is LabelFailure.STRUCTURE
    assert engine.calls == 0
    assert request(settings, run) == asked  # whoever finds the structure again writes it anew
    assert asked.structure.read_text(encoding="utf-8") == text


# ---- the same label under another key, and one that has not all that is needed ---------------


@pytest.mark.parametrize("swapped", [False, True])
def test_a_structure_that_is_told_what_the_reference_says_has_its_label_already(
    settings: Settings, run: RunDir, swapped: bool
) -> None:
    """A campaign whose models read no charge has labelled it; or one whose models do, first."""
    ion = TbliteReference(engine="tblite", charge=1, spin=2)
    settings = replace(settings, project=settings.project.model_copy(update={"REFERENCE": ion}))
    told = molecule("H2O")
    told.info |= {"charge": 1.0, "spin": 2.0}
    first, second = (told, molecule("H2O")) if swapped else (molecule("H2O"), told)
    cost = label.fn(request(settings, run, first)).core_hours
    again = request(settings, run, second)
    record = label.fn(replace(again, campaign="theirs"))
    assert cost > 0
    assert (record.core_hours, record.from_store) == (0.0, True)
    stored = LabelStore(run.labels).get(again.key)
    assert stored is not None
    assert stored.atoms.info == second.info
    other = molecule("H2O")
    other.info["charge"] = -1.0
    with_others = label.fn(request(settings, run, other))
    assert not with_others.from_store


def test_a_doubt_goes_with_the_label(settings: Settings, run: RunDir, engine: Counting) -> None:
    first, told = request(settings, run), molecule("H2O")
    label.fn(first)
    LabelStore(run.labels).doubt(first.key, "an energy of another state")
    told.info["spin"] = 1.0
    with pytest.raises(LabelError, match="an energy of another state"):
        label.fn(request(settings, run, told))
    assert engine.calls == 1


def test_a_stored_label_without_a_dipole_that_is_needed_is_computed_again(
    settings: Settings, run: RunDir, engine: Counting
) -> None:
    ratios = np.ones(3)
    engine.answer = Label(-1.0, np.ones((3, 3)), hirshfeld_ratios=ratios)
    asked, store = request(settings, run), LabelStore(run.labels)
    label.fn(asked)
    needed = replace(asked, beside=("dipole",))
    engine.answer = LabelError("the node failed", transient=True)
    with pytest.raises(LabelError, match="the node failed"):
        label.fn(needed)
    assert store.has(asked.key), "the old one is there while there is no other"
    engine.answer = Label(-2.0, np.ones((3, 3)), dipole=np.zeros(3))
    record = label.fn(needed)
    assert record.core_hours > 0
    stored = store.get(asked.key)
    assert stored is not None
    assert stored.label.energy == -2.0
    np.testing.assert_array_equal(stored.label.dipole, np.zeros(3))
    np.testing.assert_array_equal(stored.label.hirshfeld_ratios, ratios)
    calls = engine.calls
    assert label.fn(needed).from_store
    assert engine.calls == calls


def test_a_label_without_what_the_engine_never_gives_is_not_computed_for_it(
    settings: Settings, run: RunDir, engine: Counting
) -> None:
    asked = request(settings, run)
    label.fn(asked)
    with pytest.raises(LabelError, match="no Hirshfeld ratios"):
        label.fn(replace(asked, beside=("hirshfeld_ratios",)))
    assert engine.calls == 1


def test_a_dipole_that_found_no_room_takes_the_place_of_a_label_without(
    settings: Settings, run: RunDir, engine: Counting, tmp_path: Path
) -> None:
    asked, store = request(settings, run), LabelStore(run.labels)
    label.fn(asked)
    kept = LabelStore(tmp_path / "spare")
    kept.put(asked.key, molecule("H2O"), replace(engine.answer, dipole=np.zeros(3)))  # type: ignore[type-var]
    store.take_over(asked.key, kept)
    stored = store.get(asked.key)
    assert stored is not None
    assert stored.label.dipole is not None
    assert not kept.has(asked.key)


def test_an_engine_is_asked_for_what_is_trained_on(settings: Settings, run: RunDir) -> None:
    ase_section = AseReference(engine="ase", calculator=f"{__name__}.OnlyIfAsked")
    settings = replace(
        settings, project=settings.project.model_copy(update={"REFERENCE": ase_section})
    )
    asked = replace(request(settings, run), beside=("dipole",))
    label.fn(asked)
    stored = LabelStore(run.labels).get(asked.key)
    assert stored is not None
    np.testing.assert_array_equal(stored.label.dipole, [0.1, 0.2, 0.3])
    other = request(settings, run, molecule("CH3OH"))
    label.fn(other)
    plain = LabelStore(run.labels).get(other.key)
    assert plain is not None
    assert plain.label.dipole is None, "who does not need it does not pay for it"
