"""What is published at the end: the models in any case, and what errors to expect of them."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import molecule
from ase.constraints import FixAtoms

from aimspax_core.campaign.final_sets import Unseen
from aimspax_core.evaluation.calculator import CommitteeCalculator
from aimspax_core.labels.dataset import labelled, write
from aimspax_core.labels.label import Label
from aimspax_core.labels.store import LabelStore
from aimspax_core.model.committee import Committee
from aimspax_core.model.family import family_of
from aimspax_core.model.member import Member
from aimspax_core.output.results import Holdings
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.load import load
from aimspax_core.settings.settings import Settings
from tasks.publish import PublishRequest, publish
from tests.tasks.conftest import MODEL, PROJECT

TRAINED = ("ab0", "ab1")
VALIDATED = tuple(f"cd{number}" for number in range(7))


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Those of one run directory, which all tests publish in."""
    folder = tmp_path_factory.mktemp("published")
    (folder / "aimsPAX.yaml").write_text(PROJECT, encoding="utf-8")
    (folder / "mace.yaml").write_text(MODEL, encoding="utf-8")
    ase.io.write(folder / "geometry.in", molecule("H2O"), format="aims")
    return load(folder)


@pytest.fixture(scope="module")
def members(settings: Settings) -> tuple[Holdings, ...]:
    """Two members as they begin; labels are noise, which is all that a calibration needs."""
    run = RunDir.of(settings)
    store = LabelStore(run.labels)
    random = np.random.default_rng(1)
    structures = []
    for seed, key in enumerate((*TRAINED, *VALIDATED)):
        atoms = molecule("H2O")
        atoms.rattle(0.05, seed=seed)
        store.put(key, atoms, Label(-100.0, random.normal(0, 0.3, (3, 3)), None, {}))
        structures.append(atoms)
    held = []
    for number, seed in enumerate((3, 4)):
        atoms = [one.copy() for one in structures[:2]]
        for one in atoms:
            one.info["REF_energy"], one.arrays["REF_forces"] = -100.0, np.zeros((3, 3))
        graphs = family_of(settings.model).graphs(atoms, (1, 8), settings.model)
        member = Member.create(settings.model, (1, 8), f"water-{number}", seed, graphs)
        path = run.checkpoint(member.tag, "train-1")
        member.save(path)
        held.append(
            Holdings(
                tag=member.tag,
                checkpoint=path,
                converged=None,
                initial_training=TRAINED,
                initial_validation=(),
                training=TRAINED,
                validation=VALIDATED,
                errors=None,
            )
        )
    return tuple(held)


@pytest.fixture
def asked(settings: Settings, members: tuple[Holdings, ...]) -> PublishRequest:
    run = RunDir.of(settings)
    return PublishRequest(
        "final", run, settings, members, unseen=Unseen(validation=dict.fromkeys(VALIDATED, 0))
    )


def calibration(run: RunDir) -> dict[str, Any]:
    return dict(json.loads((run.results / "calibration.json").read_bytes()))


@pytest.fixture(autouse=True)
def _own_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = {"water-0": 3, "water-1": 4}
    monkeypatch.setattr(Settings, "member_seeds", property(lambda _: seeds))


def test_a_calibration_is_of_as_many_structures_at_a_time_as_validation(
    asked: PublishRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, usual = [], Committee.evaluate

    def evaluate(self: Committee, structures: Any, *more: Any, **named: Any) -> Any:
        sizes.append(len(structures))
        return usual(self, structures, *more, **named)

    monkeypatch.setattr(Committee, "evaluate", evaluate)
    publish.fn(asked)
    assert max(sizes) == asked.settings.model.TRAINING.valid_batch_size == 2
    assert calibration(asked.run)["calculator"]["by_measure"]["max_atomic_sd"]["points"] == 7


def test_a_calibration_that_fails_costs_no_model_and_is_told_once(
    asked: PublishRequest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    publish.fn(asked)
    stale = asked.run.results / "calibration.json"
    assert stale.is_file()

    def evaluate(*_: Any, **__: Any) -> Any:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(Committee, "evaluate", evaluate)
    with caplog.at_level(logging.WARNING, "aimspax.tasks.publish"):
        event = publish.fn(asked)
    assert event.what == "final"
    (told,) = (r for r in caplog.records if r.name == "aimspax.tasks.publish")
    assert "CUDA out of memory" in told.getMessage() and "calibration.json" in told.getMessage()
    assert not stale.exists()
    assert len([*asked.run.results.glob("*.model")]) == 2


def test_a_damaged_calibration_of_before_is_replaced(asked: PublishRequest) -> None:
    publish.fn(asked)
    (asked.run.results / "calibration.json").write_text("{", encoding="utf-8")
    publish.fn(asked)
    assert "calculator" in calibration(asked.run)


def test_a_structure_on_which_a_model_breaks_down_does_not_count(
    asked: PublishRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = Committee.evaluate

    def evaluate(self: Committee, structures: Any, *more: Any, **named: Any) -> Any:
        found = usual(self, structures, *more, **named)
        for one, atoms in zip(found, structures, strict=True):
            if abs(atoms.positions[0, 0] - broken) < 1e-9:
                one.member_forces[:] = np.nan
        return found

    stored = LabelStore(asked.run.labels).get(VALIDATED[0])
    assert stored is not None
    broken = stored.atoms.positions[0, 0]
    monkeypatch.setattr(Committee, "evaluate", evaluate)
    publish.fn(asked)
    found = calibration(asked.run)["calculator"]
    assert found["by_measure"]["mean_atomic_sd"]["points"] == 6
    assert set(found["by_element"]) == {"H", "O"}


# ---- by which labels, and of which atoms ----------------------------------------------------


def test_labels_that_steered_nothing_go_before_those_that_chose_the_weights(
    asked: PublishRequest,
) -> None:
    few = Unseen(dict.fromkeys(VALIDATED[:4], 0), dict.fromkeys(VALIDATED[4:], 0))
    publish.fn(replace(asked, unseen=few))
    assert calibration(asked.run)["labels"] == {"test_dataset": 0, "analysis": 4, "validation": 3}
    enough = Unseen(dict.fromkeys(VALIDATED[:5], 0), dict.fromkeys(VALIDATED[5:], 0))
    publish.fn(replace(asked, unseen=enough))
    assert calibration(asked.run)["labels"] == {"test_dataset": 0, "analysis": 5, "validation": 0}


def test_the_held_out_set_is_taken_where_there_is_one(asked: PublishRequest) -> None:
    store, folder = LabelStore(asked.run.labels), asked.settings.directory
    frames = [store.get(key) for key in VALIDATED[:6]]
    write(folder / "test.xyz", [labelled(one) for one in frames if one is not None])
    given = load(folder, {"MISC.test_dataset": "test.xyz"})
    publish.fn(replace(asked, settings=given))
    found = calibration(asked.run)
    assert found["labels"] == {"test_dataset": 6, "analysis": 0, "validation": 0}
    assert found["models"]["by_measure"]["ensemble_sd"]["points"] == 6


def test_uncertainty_and_expected_error_are_of_the_atoms_that_the_campaign_looked_at(
    asked: PublishRequest,
) -> None:
    folder, oxygen = asked.settings.directory, FixAtoms([0])
    water = molecule("H2O")
    water.set_constraint(oxygen)
    ase.io.write(folder / "geometry.in", water, format="aims")
    own = {"uncertainty_of": "free_atoms", "uncertainty_type": "mean_atomic_sd"}
    chosen = load(folder, {f"ACTIVE_LEARNING.{key}": value for key, value in own.items()})
    assert chosen.held_atoms(0).fixed == (0,)
    publish.fn(replace(asked, settings=chosen))
    calculator = CommitteeCalculator(asked.run.results)
    expected, true = 0.0, 0.0
    for key in VALIDATED:
        stored = LabelStore(asked.run.labels).get(key)
        assert stored is not None
        atoms = stored.atoms
        atoms.set_constraint(oxygen)
        atoms.calc = calculator
        off = atoms.get_forces(apply_constraint=False) - stored.label.forces
        true += float(np.sqrt((off**2).mean(axis=1))[1:].mean())
        found = calculator.results
        assert found["uncertainty"] == pytest.approx(found["forces_sd"][1:].mean())
        expected += found["expected_error"]
    assert expected == pytest.approx(true)
    atoms.set_constraint()
    atoms.get_forces()  # what is held is part of what was asked
    found = calculator.results
    assert found["uncertainty"] == pytest.approx(found["forces_sd"].mean())
