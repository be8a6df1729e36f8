"""A campaign of a radical cation: models are told the charge and spin that it is labelled with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import molecule

from aimspax_core.campaign.actions import Train
from aimspax_core.campaign.state import CampaignState, Trajectory
from aimspax_core.evaluation.calculator import CommitteeCalculator
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.inputs.electrons_of_models import told_to_models
from aimspax_core.inputs.provenance import require_unchanged, write_provenance
from aimspax_core.labels.dataset import DataKeys, labelled, read_labels, write
from aimspax_core.labels.store import LabelStore
from aimspax_core.model.family import family, load_any, load_foundation
from aimspax_core.model.worker_memory import worker_memory
from aimspax_core.reference.registry import build_reference
from aimspax_core.sampling.dynamics import load_state
from aimspax_core.settings.families.so3krates import why_not_installed
from aimspax_core.uncertainty.threshold import Window
from flows.commands.evaluate import EvaluationOptions, evaluate
from tasks.label import LabelRequest
from tasks.label import labelled as label
from tasks.propagate import PropagateRequest, propagate
from tasks.sample import SampleRequest, sample
from tasks.train import TrainRequest, train

if (why := why_not_installed()) is not None:
    pytest.skip(why, allow_module_level=True)

from aimspax_core.model.so3krates import evaluator, steps
from aimspax_core.model.so3krates.foundation import packaged_file

PROJECT = """
REFERENCE: {engine: tblite, charge: 1, spin: 2}
INITIAL_DATASET_GENERATION:
  {initial_sampling: rattle, n_points_per_sampling_step_idg: 6, ensemble_size: 2,
   max_initial_epochs: 4}
ACTIVE_LEARNING: {num_trajectories: 1, skip_step_mlff: 2, max_MD_steps: 2, max_train_set_size: 9}
MD: {stat_ensemble: NVT, temperature: 300}
CLUSTER: {type: local, max_workers: 1}
"""
MODEL = """
GENERAL: {name_exp: water, default_dtype: float64, model_choice: so3krates}
ARCHITECTURE:
  {num_features: 8, num_heads: 2, num_layers: 1, degrees: [1, 2], num_radial_basis_fn: 4,
   energy_regression_dim: 8, r_max: 3.5}
TRAINING: {batch_size: 2, valid_batch_size: 2}
"""
TAGS = ("water-1", "water-2")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "aimsPAX.yaml").write_text(PROJECT, encoding="utf-8")
    (tmp_path / "mace.yaml").write_text(MODEL, encoding="utf-8")
    ase.io.write(tmp_path / "geometry.in", molecule("H2O"))
    return tmp_path


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[float, float]]]:
    """Charge and unpaired electrons of every structure that a network is given."""
    worker_memory().clear()
    seen: list[tuple[float, float]] = []

    def seeing(original: Any) -> Any:
        def call(model: Any, inputs: Any, **asked: bool) -> Any:
            spins = (2 * inputs["total_spin"]).tolist()
            seen.extend(zip(inputs["total_charge"].tolist(), spins, strict=True))
            return original(model, inputs, **asked)

        return call

    for module in (steps, evaluator):
        monkeypatch.setattr(module, "call", seeing(module.call))
    yield seen
    worker_memory().clear()


def state_of(inputs: Inputs, **rules: Any) -> CampaignState:
    return CampaignState.begin(inputs.rules.but(**rules))


def test_networks_are_given_what_was_labelled_from_the_first_structure_to_the_last(
    directory: Path, given: list[tuple[float, float]]
) -> None:
    inputs = Inputs.read(directory)
    settings, run = inputs.settings, inputs.run
    found = sample.fn(SampleRequest("sample:1:0", run, settings, 0, 0, 6)).found
    for key in found:
        label(LabelRequest.of(key, run, settings.reference, settings.gate, directory, False))
    sets = run.dataset("d")
    sets.parent.mkdir(parents=True, exist_ok=True)
    both = {"training": list(found[:4]), "validation": list(found[4:])}
    sets.write_text(json.dumps(dict.fromkeys(TAGS, both)), encoding="utf-8")
    for seed, tag in enumerate(TAGS):
        action = Train(tag=tag, stage="initial", round=1, start=None, checkpoint="c", epochs=1)
        train.fn(TrainRequest(action, run, settings, seed, (1, 8), sets, 1e9))
    trained = len(given)
    request = PropagateRequest(
        action_id="p", number=1, run=run, settings=settings, elements=(1, 8),
        trajectories=(Trajectory(index=0, geometry=0),), windows=(Window(),), time_budget_s=1e9,
        checkpoints=tuple(run.checkpoint(tag, "c") for tag in TAGS),
    )  # fmt: skip
    propagate.fn(request)
    assert len(given) > trained > 0
    assert {*given} == {(1.0, 1.0)}
    state = load_state(run.trajectory(0, 1))
    stored = LabelStore(run.labels).get(found[0])
    assert stored is not None
    for atoms in (state.structure, stored.atoms):
        assert (atoms.info["charge"], atoms.info["spin"]) == (1.0, 2.0)
    assert labelled(stored).info["total_charge"] == 1.0
    bare = stored.atoms.copy()
    bare.info.clear()
    same = build_reference(settings.reference, directory).label(bare)
    np.testing.assert_array_equal(same.forces, stored.label.forces)


def test_what_a_structure_says_of_itself_goes_before_the_reference(directory: Path) -> None:
    ase.io.write(directory / "a.xyz", molecule("H2O"))
    water = molecule("H2O")
    water.info |= {"charge": 0, "spin": 3}
    ase.io.write(directory / "b.xyz", water)
    asked = {"MISC.path_to_geometry": {0: "a.xyz", 1: "b.xyz"}}
    inputs = Inputs.read(directory, asked)
    own = [(atoms.info["charge"], atoms.info["spin"]) for atoms in inputs.geometries]
    assert own == [(1.0, 2.0), (0.0, 3.0)]
    assert [atoms.info for atoms in inputs.settings.geometries([1, 0])] == [
        atoms.info for atoms in inputs.geometries[::-1]
    ], "tasks read them as the flow has"


def test_models_that_read_no_charge_leave_structures_as_their_files_say(directory: Path) -> None:
    (directory / "mace.yaml").write_text("GENERAL: {name_exp: water}", encoding="utf-8")
    assert Inputs.read(directory).geometries[0].info == {}


def test_a_campaign_that_was_begun_without_goes_on_without(directory: Path) -> None:
    inputs = Inputs.read(directory)
    assert told_to_models(inputs.settings, state_of(inputs)) == {0: {"charge": 1.0, "spin": 2.0}}
    assert told_to_models(inputs.settings, state_of(inputs, tells_electrons=False)) == {}


def test_the_record_of_the_geometry_is_of_its_file(directory: Path) -> None:
    inputs = Inputs.read(directory)
    write_provenance(inputs.run, inputs.settings, inputs.geometries)
    bare = [molecule("H2O")]
    untold = replace(inputs.settings, electrons={})
    ase.io.write(directory / "same.xyz", bare[0])
    require_unchanged(inputs.run, inputs.settings, inputs.geometries)
    require_unchanged(inputs.run, untold, untold.geometries())


def test_frames_of_datasets_that_say_nothing_are_told_too(directory: Path) -> None:
    one, other = molecule("H2O"), molecule("H2O")
    other.info["total_charge"] = 0
    for atoms in (one, other):
        atoms.info["REF_energy"], atoms.arrays["REF_forces"] = -1.0, np.zeros((3, 3))
    write(directory / "held.xyz", [one, other])
    inputs = Inputs.read(directory, {"MISC.test_dataset": "held.xyz"})
    settings = inputs.settings
    assert any("charge=1 spin=2" in note for note in settings.notes)
    told = settings.electrons_of_set("0")
    graphs = worker_memory().held_out(
        directory / "held.xyz", DataKeys.of(settings.misc), settings.model, (1, 8), told
    )
    assert [(graph.charge, graph.unpaired) for graph in graphs] == [(1.0, 1.0), (0.0, 1.0)]
    frames = read_labels(directory / "held.xyz", electrons=told)
    assert [atoms.info["charge"] for atoms, _ in frames] == [1.0, 0.0]


def test_a_foundation_model_that_drives_is_told(directory: Path) -> None:
    asked = {
        "GENERAL.model_choice": "mace",
        "ARCHITECTURE": {},
        "INITIAL_DATASET_GENERATION.initial_sampling": "foundational",
        "INITIAL_DATASET_GENERATION.foundational_model": "so3lr",
    }
    (directory / "mace.yaml").write_text("GENERAL: {name_exp: water}", encoding="utf-8")
    atoms = Inputs.read(directory, asked).geometries[0]
    driver = load_foundation("so3lr").calculator
    told = driver.get_potential_energy(atoms)
    assert abs(told - driver.get_potential_energy(molecule("H2O"))) > 1.0


@pytest.mark.parametrize("said", [{}, {"total_charge": 0, "total_spin": 1}])
def test_frames_that_are_evaluated_have_a_charge(
    directory: Path, said: dict[str, int], given: list[tuple[float, float]]
) -> None:
    water = molecule("H2O")
    water.info |= {"REF_energy": -1.0, "REF_dipole": np.array([0.1, 0.0, 0.5]), **said}
    water.arrays["REF_forces"] = np.zeros((3, 3))
    water.arrays["REF_hirshfeld_ratios"] = np.array([0.8, 0.6, 0.6])
    write(directory / "held.xyz", [water])
    model = load_any(packaged_file())[1]
    family("so3lr").save(model, directory / "model" / "a.model")
    options = EvaluationOptions(directory=directory, save=directory / "out")
    found = evaluate(directory / "held.xyz", options)
    assert {*given} == ({(0.0, 0.0)} if said else {(1.0, 1.0)})
    total, dipole = found.scores["a"].total, found.predictions.beside["dipole"][0]
    assert total.dipole is not None
    assert total.dipole.mae == pytest.approx(np.abs(dipole - [[0.1, 0.0, 0.5]]).mean())
    assert total.hirshfeld_ratios is not None
    ratios = found.predictions.beside["hirshfeld_ratios"][0]
    assert total.hirshfeld_ratios.mae == pytest.approx(np.abs(ratios - [0.8, 0.6, 0.6]).mean())
    written = json.loads((directory / "out" / "evaluation.json").read_text(encoding="utf-8"))
    errors = written["models"]["a"]["errors"]["total"]
    assert errors["mae_dipole_me_A"] == pytest.approx(1000 * total.dipole.mae)


@pytest.mark.parametrize("said", [{}, {"total_charge": 0}])
def test_models_without_their_campaign_are_said_to_take_frames_for_neutral(
    directory: Path, said: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    water = molecule("H2O")
    water.info |= {"REF_energy": -1.0, **said}
    write(directory / "held.xyz", [water])
    family("so3lr").save(load_any(packaged_file())[1], directory / "model" / "a.model")
    options = EvaluationOptions((directory / "model",), save=directory / "out")
    evaluate(directory / "held.xyz", options)
    shown = " ".join(capsys.readouterr().out.split())
    assert ("1 of 1 frames say nothing of charge" in shown) == (not said)


def test_a_calculator_computes_anew_what_has_another_charge(directory: Path) -> None:
    results = directory / "results"
    family("so3lr").save(load_any(packaged_file())[1], results / "a.model")
    (results / "errors.csv").write_text("member,state,training,validation\na,converged,1,1\n")
    for calculator in (load_foundation("so3lr").calculator, CommitteeCalculator(results)):
        water = molecule("H2O")
        water.calc = calculator
        neutral = water.get_potential_energy()
        water.info |= {"charge": 1.0, "spin": 2.0}
        assert abs(water.get_potential_energy() - neutral) > 1.0
