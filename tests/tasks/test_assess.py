"""The held-out set: its errors are those of the weights that are validated, and nothing else's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from aimspax_core.campaign.actions import Assess, Converge, Train
from aimspax_core.errors import CampaignError
from aimspax_core.labels.dataset import labelled
from aimspax_core.labels.store import LabelStore, label_key
from aimspax_core.model.committee import Committee
from aimspax_core.model.family import family_of, load_any
from aimspax_core.model.trained import trained_model
from aimspax_core.output.results import Holdings
from aimspax_core.reference.registry import build_reference
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.load import load
from aimspax_core.settings.settings import Settings
from tasks.assess import AssessRequest, assess_models
from tasks.publish import PublishRequest, publish
from tasks.train import TrainRequest, converge, train

TAG = "water-1"


@pytest.fixture
def keys(settings: Settings, run: RunDir) -> list[str]:
    """Labelled structures in the store; the last two are written as two held-out sets."""
    engine = build_reference(settings.reference, settings.directory)
    store, found = LabelStore(run.labels), []
    for seed in range(8):
        atoms = molecule("H2O")
        atoms.rattle(0.05, seed=seed)
        found.append(label_key(atoms, engine.identity()))
        store.put(found[-1], atoms, engine.label(atoms))
    for number, key in enumerate(found[6:]):
        stored = store.get(key)
        assert stored is not None
        ase.io.write(settings.directory / f"test{number}.xyz", labelled(stored))
    return found


def judged_by(settings: Settings, text: str) -> Settings:
    return load(settings.directory, {"MISC.test_dataset": text})


def trained(settings: Settings, run: RunDir, keys: list[str]) -> dict[str, Path]:
    """Checkpoints: of a round, and of a convergence."""
    path = run.dataset("any")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({TAG: {"training": keys[:4], "validation": keys[4:6]}}))
    first = Train(tag=TAG, stage="initial", round=1, start=None, checkpoint="c1", epochs=3)
    then = Converge(tag=TAG, stage="final", start="c1", first=True, checkpoint="c2")
    asked = TrainRequest(first, run, settings, 11, (1, 8), path, 1e9)
    train.fn(asked)
    converge.fn(replace(asked, action=then))
    return {name: run.checkpoint(TAG, name) for name in ("c1", "c2")}


def request(settings: Settings, checkpoint: Path) -> AssessRequest:
    action = Assess(number=1, checkpoints={TAG: checkpoint.stem})
    return AssessRequest(action, settings, (1, 8), {TAG: checkpoint})


def misses(settings: Settings, checkpoint: Path, files: list[str]) -> tuple[float, float]:
    """Force MAE (eV/Å) and energy MAE (eV) of a model by a path of its own."""
    return misses_of(settings, trained_model(checkpoint, settings.model), files)


def misses_of(settings: Settings, model: torch.nn.Module, files: list[str]) -> tuple[float, float]:
    committee = Committee(family_of(settings.model).evaluator([model], kernel="mace"))
    forces, energies = [], []
    for file in files:
        atoms = ase.io.read(settings.directory / file)
        assert isinstance(atoms, Atoms)
        (found,) = committee.evaluate([atoms])
        forces.append(np.abs(found.forces - atoms.arrays["REF_forces"]).mean())
        energies.append(abs(found.energy - atoms.info["REF_energy"]))
    return float(np.mean(forces)), float(np.mean(energies))


@pytest.mark.parametrize("checkpoint", ["c1", "c2"])
def test_errors_are_those_of_the_model_that_is_published(
    settings: Settings, run: RunDir, keys: list[str], checkpoint: str
) -> None:
    file = trained(settings, run, keys)[checkpoint]
    event = assess_models.fn(request(judged_by(settings, "test0.xyz"), file))
    force, energy = misses(settings, file, ["test0.xyz"])
    assert event.errors[TAG].mae_f == pytest.approx(force, rel=1e-6)
    assert event.errors[TAG].mae_e == pytest.approx(energy, rel=1e-6)
    assert (event.number, event.by_geometry) == (1, {})


def test_each_geometry_may_have_a_file_of_its_own(
    settings: Settings, run: RunDir, keys: list[str]
) -> None:
    file = trained(settings, run, keys)["c1"]
    both = load(settings.directory, {"MISC.test_dataset": {0: "test0.xyz", 1: "test1.xyz"}})
    event = assess_models.fn(request(both, file))
    names = ["test0.xyz", "test1.xyz"]
    assert event.errors[TAG].mae_f == pytest.approx(misses(settings, file, names)[0], rel=1e-6)
    for index, name in enumerate(names):
        found = event.by_geometry[str(index)][TAG].mae_f
        assert found == pytest.approx(misses(settings, file, [name])[0], rel=1e-6)


def test_what_was_cut_short_is_told_with_the_errors_of_the_model_that_is_published(
    settings: Settings, run: RunDir, keys: list[str]
) -> None:
    """Its energies are solved for only then: those of its checkpoint are off by a constant."""
    chosen = judged_by(settings, "test0.xyz")
    path = run.dataset("any")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({TAG: {"training": keys[:4], "validation": keys[4:6]}}))
    cut = Train(tag=TAG, stage="initial", round=1, start=None, checkpoint="c", epochs=4, at_most=2)
    train.fn(TrainRequest(cut, run, settings, 11, (1, 8), path, 1e9))
    before = assess_models.fn(request(chosen, run.checkpoint(TAG, "c"))).errors[TAG]
    held = Holdings(
        tag=TAG, checkpoint=run.checkpoint(TAG, "c"), converged=None, initial_training=(),
        initial_validation=(), training=tuple(keys[:4]), validation=tuple(keys[4:6]), errors=None,
        assessed=before,
    )  # fmt: skip
    event = publish.fn(PublishRequest("final", run, chosen, (held,)))
    _, model = load_any(run.results / f"{TAG}.model")
    force, energy = misses_of(settings, model, ["test0.xyz"])
    assert event.assessed[TAG].mae_e == pytest.approx(energy, rel=1e-4)
    assert event.assessed[TAG].mae_e != pytest.approx(before.mae_e, rel=1e-2)
    assert event.assessed[TAG].mae_f == pytest.approx(force, rel=1e-4)


def test_a_file_that_was_replaced_is_read_anew(
    settings: Settings, run: RunDir, keys: list[str]
) -> None:
    file = trained(settings, run, keys)["c1"]
    chosen = judged_by(settings, "test0.xyz")
    before = assess_models.fn(request(chosen, file)).errors[TAG].mae_f
    (settings.directory / "test1.xyz").replace(settings.directory / "test0.xyz")
    assert assess_models.fn(request(chosen, file)).errors[TAG].mae_f != before


def test_a_checkpoint_that_is_gone_is_no_damage_of_the_campaign(
    settings: Settings, run: RunDir, keys: list[str]
) -> None:
    with pytest.raises(CampaignError):
        assess_models.fn(request(judged_by(settings, "test0.xyz"), run.checkpoint(TAG, "none")))
