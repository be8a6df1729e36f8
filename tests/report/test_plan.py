"""What `aimspax check` says would run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from ase import Atoms

from aimspax_core.report.plan import plan, split_table
from aimspax_core.settings.load import Settings
from aimspax_core.settings.model import ModelSettings
from aimspax_core.settings.project import ProjectSettings

IDG, AL = "INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"
GFN1 = {"engine": "tblite", "method": "GFN1-xTB"}
TAGS = ("test-1", "test-2")
WATER = Atoms("OH2", [[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]])


def _settings(**sections: dict[str, Any]) -> Settings:
    project: dict[str, dict[str, Any]] = {
        "REFERENCE": {"engine": "tblite"},
        IDG: {"n_points_per_sampling_step_idg": 5, "desired_acc": 0.1},
        AL: {"num_trajectories": 8, "desired_acc": 0.05},
        "MD": {"stat_ensemble": "nvt", "temperature": 500, "timestep": 1.0},
        "CLUSTER": {"type": "local", "max_workers": 3},
    }
    for name, content in sections.items():
        project[name] = {**project.get(name, {}), **content}
    model = ModelSettings.model_validate({"GENERAL": {"name_exp": "test"}})
    return Settings(Path(), ProjectSettings.model_validate(project), model)


def _line(begin: str, geometries: int = 1, **sections: dict[str, Any]) -> str:
    lines = plan(_settings(**sections), [WATER] * geometries, TAGS)
    (found,) = (line for line in lines if line.startswith(f"{begin}: "))
    return found.removeprefix(f"{begin}: ")


def test_geometries_are_counted_and_named():
    assert _line("geometries", geometries=2) == "2 (H2O, H2O)"


def test_members_are_named_with_device_and_number_format():
    assert _line("members") == "test-1, test-2 on cpu, float32"


def test_the_reference_is_named_with_its_method():
    assert _line("reference") == "tblite GFN2-xTB, 3 labels at a time"


def test_a_teacher_is_named_with_its_file():
    teacher = {"engine": "mace", "model_path": "teacher.model"}
    assert _line("reference", REFERENCE=teacher) == "mace teacher.model, 3 labels at a time"


def test_the_dynamics_are_told_with_units():
    assert _line("dynamics") == "NVT langevin, 500 K, 1 fs"


@pytest.mark.parametrize(
    ("idg", "sampler"),
    [
        ({}, "the MACE-MP foundation model 'small'"),
        ({"initial_foundational_size": "medium"}, "the MACE-MP foundation model 'medium'"),
        ({"initial_sampling": "aimd"}, "the reference itself"),
        ({"initial_sampling": "engine", "sampling_engine": GFN1}, "tblite GFN1-xTB"),
    ],
)
def test_the_sampler_is_named(idg, sampler):
    assert _line("initial dataset", **{IDG: idg}).startswith(f"sampled by {sampler}, ")


def test_a_step_labels_points_for_each_member_and_geometry():
    assert ", 30 labels a step, " in _line("initial dataset", geometries=3)


@pytest.mark.parametrize(
    ("idg", "end"),
    [
        ({}, "the validation force MAE is 1000 meV/Å"),
        ({"desired_acc_scale_idg": 2.5}, "the validation force MAE is 250 meV/Å"),
        ({"desired_acc": 0, "max_initial_epochs": 20}, "20 epochs"),
        ({"desired_acc": 0, "max_initial_set_size": 40}, "40 points"),
        (
            {"max_initial_epochs": 20, "max_initial_set_size": 40},
            "the validation force MAE is 1000 meV/Å or 20 epochs or 40 points",
        ),
    ],
)
def test_the_ends_of_the_initial_phase_are_told(idg, end):
    assert _line("initial dataset", **{IDG: idg}).endswith(f", until {end}")


@pytest.mark.parametrize(
    ("al", "end"),
    [
        ({}, "the validation force MAE is below 50 meV/Å"),
        ({"desired_acc": 0, "max_train_set_size": 90}, "a training set has 90 points"),
        ({"desired_acc": 0, "max_MD_steps": 1e4}, "every trajectory has made 10000 steps"),
        ({"desired_acc": 0}, "you stop it"),
        (
            {"max_train_set_size": 90},
            "the validation force MAE is below 50 meV/Å or a training set has 90 points",
        ),
    ],
)
def test_the_ends_of_active_learning_are_told(al, end):
    assert _line("active learning", **{AL: al}).endswith(f", until {end}")


@pytest.mark.parametrize(("geometries", "trajectories"), [(1, 8), (8, 8), (9, 9)])
def test_every_geometry_has_a_trajectory(geometries, trajectories):
    line = _line("active learning", geometries=geometries)
    assert line.startswith(f"{trajectories} trajectories, a check every 25 steps")


@pytest.mark.parametrize(
    ("al", "told"),
    [
        ({}, "the best member, at most 500 epochs, or 50 without progress"),
        ({"converge_best": False}, "all members, at most 500 epochs, or 50 without progress"),
        ({"converge_al": False}, "none"),
    ],
)
def test_the_convergence_is_told(al, told):
    assert _line("convergence", **{AL: al}) == told


# Points of each member


@pytest.mark.parametrize(
    ("points", "ratio", "geometries", "rows"),
    [
        (10, 0.1, 1, [(1, 9, 1), (2, 18, 2), (3, 27, 3), (4, 36, 4), (5, 45, 5)]),
        (5, 0.1, 1, [(1, 4, 1), (2, 9, 1), (3, 14, 1), (4, 18, 2), (5, 23, 2)]),
        (5, 0.1, 2, [(1, 9, 1), (2, 18, 2), (3, 27, 3), (4, 36, 4), (5, 45, 5)]),
        (1, 0.1, 1, [(1, 1, 0), (2, 1, 1), (3, 2, 1), (4, 3, 1), (5, 4, 1)]),
        (4, 0.5, 1, [(1, 2, 2), (2, 4, 4), (3, 6, 6), (4, 8, 8), (5, 10, 10)]),
    ],
)
def test_training_and_validation_grow_by_the_ratio(points, ratio, geometries, rows):
    idg = {"n_points_per_sampling_step_idg": points, "valid_ratio": ratio}
    assert split_table(_settings(**{IDG: idg}), geometries) == rows


@pytest.mark.parametrize("points", [1, 2, 3, 7, 10, 33])
@pytest.mark.parametrize("ratio", [0.0, 0.05, 0.1, 0.3, 0.9])
def test_no_point_is_lost_and_both_sets_get_one(points, ratio):
    idg = {"n_points_per_sampling_step_idg": points, "valid_ratio": ratio}
    for step, training, validation in split_table(_settings(**{IDG: idg}), 1):
        total = step * points
        assert training + validation == total
        assert training >= 1
        assert validation >= min(1, total - 1)
        assert validation <= max(1, math.floor(ratio * total + 1e-9))
