"""Keys and what changes with them: training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ase.build import molecule

from aimspax_core.campaign.actions import Converge, Train
from aimspax_core.labels.store import LabelStore, label_key
from aimspax_core.model.worker_memory import worker_memory
from aimspax_core.reference.registry import build_reference
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.settings import Settings
from tasks.train import TrainRequest, converge, train
from tests.every_key.base import AL, IDG, with_values

TAG = "water-1"


class School:
    """Trains one member of these settings on a few labels of EMT."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.run = settings, RunDir.of(settings)
        engine, store = (
            build_reference(settings.reference, settings.directory),
            LabelStore(self.run.labels),
        )
        keys = []
        for seed in range(6):
            atoms = molecule("H2O")
            atoms.rattle(0.05, seed=seed)
            keys.append(label_key(atoms, engine.identity()))
            store.put(keys[-1], atoms, engine.label(atoms))
        self.dataset = self.run.dataset("all")
        self.dataset.parent.mkdir(parents=True, exist_ok=True)
        sets = {"training": keys[:4], "validation": keys[4:], "constants": keys[:4]}
        self.dataset.write_text(json.dumps({TAG: sets}), encoding="utf-8")
        worker_memory().clear()

    def _request(self, action: Any, budget_s: float) -> TrainRequest:
        return TrainRequest(action, self.run, self.settings, 11, (1, 8), self.dataset, budget_s)

    def train(self, stage: Any, epochs: int, budget_s: float = 1e9, name: str = "c") -> Any:
        action = Train(
            tag=TAG, stage=stage, round=1, start=None, checkpoint=name, epochs=epochs
        )  # fmt: skip
        if stage == "active":
            self.train("initial", 1, name="before")
            action = action.model_copy(update={"start": "before"})
        return train.fn(self._request(action, budget_s))

    def converge(self, stage: Any) -> Any:
        self.train("initial", 1, name="before")
        action = Converge(tag=TAG, stage=stage, start="before", first=True, checkpoint="done")
        return converge.fn(self._request(action, 1e9))


both_phases = pytest.mark.parametrize(
    ("section", "stage"), [(IDG, "initial"), (AL, "active")], ids=[IDG, AL]
)


@pytest.mark.key("ActiveLearning", "valid_skip")
@pytest.mark.key("InitialDatasetGeneration", "valid_skip")
@both_phases
def test_members_are_validated_as_often_as_asked(folder: Path, section: str, stage: str) -> None:
    schools = [School(with_values(folder, {section: {"valid_skip": skip}})) for skip in (1, 2)]
    epochs = [[e.epoch for e in school.train(stage, 4).errors] for school in schools]
    assert epochs == [[1, 2, 3, 4], [2, 4]]


@pytest.mark.key("ActiveLearning", "intermediate_epochs_al")
@pytest.mark.parametrize(
    ("section", "key", "stage"),
    [(IDG, "intermediate_epochs_idg", "initial"), (AL, "intermediate_epochs_al", "active")],
)
def test_a_step_of_training_has_the_epochs_asked_for(
    folder: Path, section: str, key: str, stage: str
) -> None:
    """Without any time left, one step is what a task does before it comes back."""
    done = [
        School(with_values(folder, {section: {key: step}})).train(stage, 6, budget_s=0.0).epochs
        for step in (1, 3)
    ]
    assert done == [1, 3]


@pytest.mark.key("InitialDatasetGeneration", "scheduler_initial")
def test_the_initial_training_has_a_scheduler_if_asked(folder: Path) -> None:
    decay = {"TRAINING": {"scheduler": "ExponentialLR", "lr_scheduler_gamma": 0.5, "lr": 0.01}}
    asked = [with_values(folder, decay, {IDG: {"scheduler_initial": on}}) for on in (True, False)]
    rates = [[e.lr for e in School(one).train("initial", 3).errors] for one in asked]
    assert rates == [[0.01, 0.005, 0.0025], [0.01, 0.01, 0.01]]


def test_epochs_per_worker_is_the_patience_for_the_optimizer(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aimspax_core.model.member import Member

    seen = []
    monkeypatch.setattr(Member, "train", lambda self, *_, **how: seen.append(how["patience"]) or [])
    for epochs in (2, 9):
        School(with_values(folder, {AL: {"epochs_per_worker": epochs}})).train("active", 1)
    assert seen == [None, 2, None, 9], "none in the initial training"


convergences = pytest.mark.parametrize(
    ("section", "stage"), [(IDG, "initial"), (AL, "final")], ids=[IDG, AL]
)


@pytest.mark.key("ActiveLearning", "margin", "convergence_patience", "max_convergence_epochs")
@pytest.mark.key(
    "InitialDatasetGeneration", "margin", "convergence_patience", "max_convergence_epochs"
)
@convergences
@pytest.mark.parametrize(("changes", "epochs"), [
    ({"max_convergence_epochs": 2}, 2),
    ({"max_convergence_epochs": 5, "margin": 1e9, "convergence_patience": 1}, 2),
    ({"max_convergence_epochs": 5, "margin": 1e9, "convergence_patience": 2}, 3),
    ({"max_convergence_epochs": 5, "margin": 0.0, "convergence_patience": 2}, 5),
])  # fmt: skip
def test_a_convergence_ends_where_its_phase_says(
    folder: Path, section: str, stage: str, changes: dict[str, Any], epochs: int
) -> None:
    calm = {"TRAINING": {"lr": 1e-4, "ema": False}}  # every epoch is a little better
    event = School(with_values(folder, calm, {section: changes})).converge(stage)
    assert (event.converged, event.epochs) == (True, epochs)
