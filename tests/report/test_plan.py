"""What `aimspax check` says would run."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ase import Atoms

from aimspax_core.report.plan import plan, split_table
from aimspax_core.settings.model import ModelSettings
from aimspax_core.settings.project import ProjectSettings
from aimspax_core.settings.settings import Settings

IDG, AL = "INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"
GFN1 = {"engine": "tblite", "method": "GFN1-xTB"}
MACE_MP = {"engine": "mace-mp", "mace_model": "medium"}
TAGS = ("test-1", "test-2")
CRYSTAL = Atoms("Si", cell=[3, 3, 3], pbc=True)
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
        replaced = 0 in content or "engine" in content  # another engine, or sections by index
        project[name] = content if replaced else {**project.get(name, {}), **content}
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


SLURM = {
    "type": "slurm", "project_name": "water", "worker_str": "module load aims",
    "slurm_str": "#SBATCH --ntasks-per-node=128 --time=1-12",
    "blocks": {"nodes_per_block": 2, "min_blocks": 1, "max_blocks": 4},
}  # fmt: skip


def test_a_local_cluster_says_nothing_of_jobs():
    begins = {line.partition(":")[0] for line in plan(_settings(), [WATER], TAGS)}
    assert not begins & {"labels", "training and MD"}


def test_labels_on_slurm_are_told_with_their_jobs():
    assert _line("reference", CLUSTER=SLURM) == "tblite GFN2-xTB, 4 labels at a time"
    assert _line("labels", CLUSTER=SLURM) == (
        "in Slurm jobs 'water', 1 to 4 at a time (1 at the start), each with 2 nodes, "
        "1 calculation at once, at most 36 h; one without work for 5 min is given back"
    )


def test_several_labels_in_a_job_are_told_with_what_each_has():
    several = {**SLURM, "cores_per_job": 32, "slurm_str": "#SBATCH -n 256 --mem=64G"}
    assert _line("reference", CLUSTER=several) == "tblite GFN2-xTB, 32 labels at a time"
    told = _line("labels", CLUSTER=several)
    assert "8 calculations at once (32 cores, 16384 MB each), no time limit said; " in told


def test_training_beside_labels_on_slurm_is_told_to_be_here():
    here = {**SLURM, "ml": {"max_workers": 2}}
    assert _line("training and MD", CLUSTER=here) == "on this machine, 2 processes"


def test_training_on_slurm_is_told_with_its_jobs():
    jobs = {**SLURM, "ml": {"slurm_str": "#SBATCH -G 2 -t 90"}, "idle_time": 45}
    assert _line("training and MD", CLUSTER=jobs) == (
        "in Slurm jobs 'water-ml', 1 at a time (1 at the start), each with 1 node, "
        "2 processes at once, at most 90 min; one without work for 45 s is given back"
    )


def test_a_teacher_is_named_with_its_file():
    teacher = {"engine": "mace", "model_path": "teacher.model"}
    assert _line("reference", REFERENCE=teacher) == "mace teacher.model, 3 labels at a time"


def test_the_dynamics_are_told_with_units():
    assert _line("dynamics") == "NVT langevin, 500 K, 1 fs"


def test_a_foundation_model_as_reference_is_named_with_its_size():
    assert _line("reference", REFERENCE=MACE_MP) == "mace-mp medium, 3 labels at a time"


def test_an_ase_calculator_is_named_with_its_path():
    emt = {"engine": "ase", "calculator": "ase.calculators.emt.EMT"}
    told = _line("reference", REFERENCE=emt)
    assert told == "ase ase.calculators.emt.EMT, 3 labels at a time"


@pytest.mark.parametrize(
    ("md", "told"),
    [
        ({"stat_ensemble": "NVE"}, "NVE, begun at 500 K, 1 fs"),
        ({"stat_ensemble": "NPT"}, "NPT berendsen, 0.5447 bar, 500 K, 1 fs"),
        ({"stat_ensemble": "NPT", "barostat": "npt"}, "NPT npt, 0.9998 bar, 500 K, 1 fs"),
        ({"stat_ensemble": "NPT", "barostat": "MTK"}, "NPT mtk, 1.013 bar, 500 K, 1 fs"),
        (
            {"stat_ensemble": "NPT", "barostat": "isomtk", "pressure": 1e8},
            "NPT isomtk, 1000 bar, 500 K, 1 fs",
        ),
    ],
)
def test_other_ensembles_are_told_with_their_pressure(md, told):
    assert _line("dynamics", MD=md) == told


def test_the_dynamics_of_each_geometry_are_told_if_they_differ():
    md = {0: {"stat_ensemble": "nvt"}, 1: {"stat_ensemble": "nve", "temperature": 400}}
    lines = plan(_settings(MD=md), [WATER, WATER], TAGS)
    assert [line for line in lines if line.startswith("dynamics")] == [
        "dynamics of geometry 0 (H2O): NVT langevin, 300 K, 0.5 fs",
        "dynamics of geometry 1 (H2O): NVE, begun at 400 K, 0.5 fs",
    ]


@pytest.mark.parametrize(
    ("idg", "sampler"),
    [
        ({}, "the MACE-MP foundation model 'small'"),
        ({"initial_foundational_size": "medium"}, "the MACE-MP foundation model 'medium'"),
        ({"initial_sampling": "aimd"}, "the reference itself"),
        ({"initial_sampling": "engine", "sampling_engine": GFN1}, "tblite GFN1-xTB"),
        (
            {"foundational_model_settings": {"mace_model": "large", "dispersion": True}},
            "the MACE-MP foundation model 'large' with D3 dispersion",
        ),
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
        ({}, "the best member, on all members' points, at most 500 epochs, or 50 without progress"),
        (
            {"converge_best": False, "converge_on": "own"},
            "all members, on own points, at most 500 epochs, or 50 without progress",
        ),
        (
            {"analysis": True, "converge_on_analysis": True},
            "the best member, on all members' points and those of analysis, at most 500 epochs, or "
            "50 without progress",
        ),
        ({"converge_al": False}, "none"),
    ],
)
def test_the_convergence_is_told(al, told):
    assert _line("convergence", **{AL: al}) == told


# What is told only if it is asked for


def test_nothing_is_said_of_what_is_not_asked_for():
    begins = [line.partition(":")[0] for line in plan(_settings(), [WATER], TAGS)]
    assert begins == [
        "geometries",
        "members",
        "reference",
        "dynamics",
        "initial dataset",
        "active learning",
        "convergence",
    ]


def test_a_step_of_shared_points_is_told():
    line = _line("initial dataset", **{IDG: {"distinct_model_sets": False}})
    assert ", 5 labels a step, the same for all members, " in line


def test_a_campaign_without_an_initial_dataset_adopts_what_is_there():
    lines = _adopting({})
    assert "initial dataset: none; the models and datasets that are there are adopted" in lines


def test_a_foundation_model_that_drives_is_named():
    driven = {"use_foundational": True, "foundational_model_settings": {"mace_model": "medium"}}
    told = _line("active learning", **{AL: driven})
    assert told.startswith("8 trajectories driven by the MACE-MP foundation model 'medium', ")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("train.xyz", "train.xyz"),
        ({"test-1": "a.xyz", "test-2": "b.xyz"}, "a.xyz (test-1), b.xyz (test-2)"),
    ],
)
def test_given_datasets_are_named(given, told):
    lines = _adopting({"initial_train_dataset": given, "initial_valid_dataset": given})
    assert f"training set given: {told}" in lines
    assert f"validation set given: {told}" in lines


def test_extended_datasets_are_named():
    assert "datasets extended: those in data/final" in _adopting({"extend_existing_final_ds": True})


def test_given_datasets_are_not_named_where_they_have_no_effect():
    lines = plan(_settings(**{AL: {"extend_existing_final_ds": True}}), [WATER], TAGS)
    assert not any(line.startswith("datasets extended") for line in lines)


def test_without_active_learning_the_command_that_does_without_is_named():
    settings = _settings()
    project = settings.project.model_copy(update={AL: None})
    lines = plan(replace(settings, project=project), [WATER], TAGS)
    (told,) = (line for line in lines if line.startswith(("active learning", "convergence")))
    assert told.startswith("active learning: none; `aimspax initial-dataset` ")


def _adopting(al: dict[str, Any]) -> list[str]:
    """The plan of a campaign without an initial dataset of its own."""
    settings = _settings(**{AL: al})
    project = settings.project.model_copy(update={IDG: None})
    return plan(replace(settings, project=project), [WATER], TAGS)


@pytest.mark.parametrize(
    ("valid", "told"),
    [
        (None, "at most 20 random training points of each member, all of its validation points"),
        (5, "at most 20 random training points of each member, at most 5 of its validation points"),
    ],
)
def test_a_random_subset_is_told_with_its_sizes(valid, told):
    al = {"replay_strategy": "random_subset", "train_subset_size": 20, "valid_subset_size": valid}
    assert _line("training rounds", **{AL: al}) == told


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({IDG: {"analysis": True}}, "metrics of the initial dataset"),
        (
            {AL: {"analysis": True, "analysis_skip": 100}},
            "in active learning a label every 100 steps of a trajectory, not trained on",
        ),
        (
            {IDG: {"analysis": True}, AL: {"analysis": True}},
            "metrics of the initial dataset; "
            "in active learning a label every 50 steps of a trajectory, not trained on",
        ),
    ],
)
def test_analysis_is_told_with_what_it_costs(sections, told):
    assert _line("analysis", **sections) == told


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


@pytest.mark.parametrize(("most", "steps"), [(30, 1), (31, 2), (90, 3), (600, 5)])
def test_only_sampling_steps_that_there_can_be_are_shown(most, steps):
    idg = {"intermediate_epochs_idg": 30, "max_initial_epochs": most}
    idg["n_points_per_sampling_step_idg"] = 10
    assert len(split_table(_settings(**{IDG: idg}), 1)) == steps


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


@pytest.mark.parametrize(("geometries", "told"), [(1, False), (2, True)])
def test_thresholds_of_their_own_are_told_where_there_are_several_geometries(geometries, told):
    line = _line("active learning", geometries=geometries, **{AL: {"threshold_scope": "geometry"}})
    assert ("threshold of its geometry" in line) is told


def test_the_acceptable_error_of_a_calibrated_threshold_is_told():
    al = {"threshold": "calibrated", "force_error": 0.3}
    assert "a force error above 0.3 eV/Å" in _line("active learning", **{AL: al})


def test_a_control_is_told():
    line = _line("active learning", **{AL: {"selection": "random", "random_share": 0.25}})
    assert "by chance at 25%" in line


def test_several_temperatures_are_told_by_trajectory_and_sampling_step():
    md = {"temperature": [300, 400, 500]}
    assert _line("dynamics", MD=md) == "NVT langevin, 300 / 400 / 500 K, 1 fs"
    told = _line("trajectories of geometry 1", geometries=2, MD=md)
    assert told == "1, 7 at 300 K; 3 at 400 K; 5 at 500 K"
    assert _line("sampling steps", MD=md) == "1 at 300 K; 2 at 400 K; 3 at 500 K, and again"


def test_temperatures_by_geometry_are_told_by_geometry():
    own = {0: {"stat_ensemble": "nvt"}, 1: {"stat_ensemble": "npt", "pressure": [1e5, 1e9]}}
    told = _line("trajectories of geometry 1", geometries=2, MD=own)
    assert told == "1, 5 at 300 K, 1 bar; 3, 7 at 300 K, 1e+04 bar"
    assert _line("sampling steps of geometry 1", geometries=2, MD=own).startswith("1 at 300 K, 1 b")
    lines = plan(_settings(MD=own), [WATER] * 2, TAGS)
    assert not [line for line in lines if line.startswith("trajectories of geometry 0")]


def test_many_temperatures_and_trajectories_are_told_in_short():
    md = {"temperature": {"from": 100, "to": 1000, "steps": 10}}
    told = _line("trajectories of geometry 0", MD=md, ACTIVE_LEARNING={"num_trajectories": 500})
    assert told.startswith("0, 10, 20, 30, 40, … (50 in all) at 100 K; ")
    assert told.endswith("; … (10 in all)")


def test_rattled_copies_are_told_by_geometry():
    how = {"displacement": [0.05, 0.1], "strain": 0.03}
    told = {IDG: {"initial_sampling": "rattle", "rattle": {0: how}}, AL: {"rattle": {1: how}}}
    assert _line("initial dataset", **told).startswith("sampled by rattling the geometries, ")
    second = "atoms displaced by 0.1 Å (standard deviations)"
    assert _line("copies of geometry 1", geometries=2, **told) == second
    lines = plan(_settings(**told), [CRYSTAL, WATER], TAGS)
    whole = "atoms displaced by 0.05 / 0.1 Å, cell strained by 0.03 (standard deviations)"
    assert f"copies of geometry 0: {whole}" in lines
    begins = [line for line in lines if line.startswith("trajectories of geometry")]
    assert [line.split(":")[0] for line in begins] == [
        "trajectories of geometry 1 begin with copies of their own"
    ]


def test_restarts_from_labels_are_told_by_geometry():
    told = {IDG: {"restart_from_labels": 0.5}, AL: {"restart_from_labels": {1: 0.25}}}
    begin = "new beginnings from labelled points of geometry"
    assert _line(f"{begin} 0", geometries=2, **told) == "50% of sampling steps"
    both = "50% of sampling steps, after 25% of labels in active learning"
    assert _line(f"{begin} 1", geometries=2, **told) == both


def test_restarts_of_sampling_steps_are_not_told_where_there_is_no_md():
    told = {IDG: {"initial_sampling": "rattle", "restart_from_labels": 0.5}}
    told |= {AL: {"restart_from_labels": 0.25}}
    begin = "new beginnings from labelled points of geometry"
    assert _line(f"{begin} 0", **told) == "after 25% of labels in active learning"
