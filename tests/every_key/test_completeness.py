"""Keys and what changes with them: no key is forgotten."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from aimspax_core.settings import cluster, engines, md, project
from aimspax_core.settings.pyscf import PyscfReference
from tests.every_key.base import AL, IDG
from tests.every_key.test_cluster import LABELS, ML
from tests.every_key.test_dynamics import DYNAMICS
from tests.every_key.test_files import QUANTITIES
from tests.every_key.test_reference import TBLITE
from tests.every_key.test_rules import RULES
from tests.every_key.test_sampling import FOUNDATION
from tests.model.test_keys import NOT_OF_THE_MODEL

_ME = "tests/every_key::"
_VALIDATED = _ME + "test_members_are_validated_as_often_as_asked"
_CONVERGED = _ME + "test_a_convergence_ends_where_its_phase_says"
_TEACHER = "tests/settings/test_project.py::test_a_teacher_is_the_reference"
_TEACHER_MP = "tests/settings/test_project.py::test_a_teacher_may_be_a_foundation_model"
_PHASE = {
    "valid_skip": _VALIDATED,
    "margin": _CONVERGED,
    "convergence_patience": _CONVERGED,
    "max_convergence_epochs": _CONVERGED,
    "use_teacher_reference": _TEACHER,
    "teacher_reference_settings": _TEACHER,
}
_HALTS = _ME + "test_a_trajectory_halts_where_the_key_says"
_SAMPLER = _ME + "test_the_sampler_is_the_foundation_model_asked_for"
_ONE_VALUE = _ME + "test_keys_with_one_value_leave_no_choice"
_QUANTITY = _ME + "test_a_quantity_is_read_and_written_under_its_name"
_TBLITE = _ME + "test_labels_follow_the_key"
_WORKERS = _ME + "test_labels_and_training_have_as_many_workers_as_asked"
_JOBS = _ME + "test_jobs_of_labels_follow_the_key"
_ML_JOBS = _ME + "test_jobs_of_training_follow_the_key"
_PYSCF = "tests/reference/pyscf/test_engine.py::"
_AIMS_SETTINGS = "tests/settings/aims_control/test_engine_settings.py::"
_AIMS = "tests/reference/aims/test_engine.py::"
_FOLDER = _ME + "test_a_folder_lies_where_it_is_wanted_in_output_dir"
_PRETRAINED = _ME + "test_members_begin_from_the_dataset_given"
_SAVED = _ME + "test_the_exploring_md_is_kept_as_asked"
_SAMPLING_SAVED = _ME + "test_the_sampling_md_is_kept_as_asked"
_ASE, _MACE = "tests/reference/ase/test_engine.py::", "tests/reference/test_mace_engine.py::"
_TEACHER_RUNS = _ME + "test_a_teacher_runs_where_and_how_it_is_asked_to"
_TEACHER_IS = _ME + "test_a_teacher_is_the_foundation_model_asked_for"

RULED = _ME + "test_the_rules_follow_the_key"
TESTS: dict[type[BaseModel], dict[str, str]] = {
    project.InitialDatasetGeneration: {
        **{key: RULED for section, key, *_ in RULES if section == IDG},
        **_PHASE,
        "save_trajectories": _SAMPLING_SAVED,
        "save_trajectories_interval": _SAMPLING_SAVED,
        "initial_sampling": _ME + "test_the_sampling_md_has_the_engine_asked_for",
        "sampling_engine": _ME + "test_the_sampling_md_has_the_engine_asked_for",
        "foundational_model": _ONE_VALUE,
        "initial_foundational_size": _ME + "test_the_first_generations_size_names_the_sampler",
        "foundational_model_settings": _SAMPLER,
        "analysis": "tests/output/test_analysis.py::test_each_phase_has_its_own_switch",
        "scheduler_initial": _ME + "test_the_initial_training_has_a_scheduler_if_asked",
        "skip_step_initial": _ME + "test_skip_step_initial_is_the_steps_between_points",
    },
    project.ActiveLearning: {
        **{key: RULED for section, key, *_ in RULES if section == AL},
        **_PHASE,
        "ensemble_size": "tests/settings/test_project.py::"
        "test_a_phase_without_a_section_is_absent_but_has_the_others_members",
        "save_trajectories": _SAVED,
        "save_trajectories_interval": _SAVED,
        "intermediate_epochs_al": _ME + "test_a_step_of_training_has_the_epochs_asked_for",
        "max_MD_steps": _HALTS,
        "skip_step_mlff": _HALTS,
        "uncert_not_crossed_limit": _HALTS,
        "uncertainty_type": _ME + "test_every_measure_of_the_uncertainty_is_another",
        "analysis": _ME + "test_structures_are_looked_at_as_asked",
        "analysis_skip": _ME + "test_structures_are_looked_at_as_asked",
        "seeds_tags_dict": "tests/settings/test_seeds.py::test_seeds_that_are_given_by_tag_hold",
        "extend_existing_final_ds": _ME
        + "test_members_begin_from_the_final_sets_if_these_are_to_be_extended",
        "initial_train_dataset": _PRETRAINED,
        "initial_valid_dataset": _PRETRAINED,
        "use_foundational": "tests/tasks/test_propagate.py::test_a_foundation_model_drives",
        "foundational_model": _ONE_VALUE,
        "foundational_model_settings": _ME + "test_the_driver_is_the_foundation_model_asked_for",
    },
    md.MD: {
        **{key: _ME + "test_atoms_move_otherwise_with_another_value" for key, *_ in DYNAMICS},
        "thermostat": _ONE_VALUE,
    },
    project.Misc: {
        **{f"{quantity}_key": _QUANTITY for quantity in QUANTITIES},
        "create_restart": _ME + "test_a_campaign_is_taken_up_again_unless_create_restart_is_off",
        "dataset_dir": _FOLDER,
        "log_dir": _FOLDER,
        "output_dir": _ME + "test_all_that_a_campaign_writes_lies_in_output_dir",
        "label_store": _ME + "test_campaigns_share_the_label_store_that_they_name",
        "path_to_geometry": _ME + "test_geometries_are_those_of_the_path",
    },
    cluster.Cluster: {
        **{key: _JOBS for key, _ in LABELS},
        "max_workers": _WORKERS,
        "idle_time": _ME + "test_a_pool_of_jobs_is_as_patient_as_asked",
        "queue_notice": _ME + "test_a_pool_of_jobs_is_as_patient_as_asked",
        "interface": _ME + "test_jobs_reach_the_flow_where_they_are_asked_to",
        "host": _ME + "test_jobs_reach_the_flow_where_they_are_asked_to",
        "ml": _WORKERS,
    },
    cluster.Blocks: {key: _JOBS for each, content in LABELS if each == "blocks" for key in content},
    cluster.MlPool: {**{key: _ML_JOBS for key, _ in ML}, "max_workers": _WORKERS},
    cluster.MlBlocks: {
        **{key: _ML_JOBS for each, content in ML if each == "blocks" for key in content},
        "nodes_per_block": _ONE_VALUE,
    },
    engines.Gate: {
        "min_distance": _ME + "test_the_gate_is_as_narrow_as_asked",
        "max_force": _ME + "test_the_gate_lets_forces_pass_up_to_the_limit",
        "max_energy_deviation": "tests/labels/test_gate.py::"
        "test_an_energy_far_from_those_of_the_same_composition_is_refused",
    },
    engines.TbliteReference: {
        "engine": "tests/settings/test_project.py::test_tblite_is_an_engine",
        **{key: _TBLITE for key, *_ in TBLITE},
        "max_iterations": _ME + "test_max_iterations_is_when_a_calculation_counts_as_failed",
    },
    engines.AseReference: {
        "engine": "tests/settings/test_project.py::"
        "test_foundation_models_and_ase_calculators_are_engines",
        "calculator": _ASE + "test_labels_are_the_calculators_own",
        "arguments": _ASE + "test_arguments_reach_the_calculator",
        "version": _ASE + "test_the_users_version_counts",
        "calc_dir": _ASE + "test_the_folder_of_a_good_calculation_stays_if_asked_for",
        "clean_dirs": _ASE + "test_the_folder_of_a_good_calculation_is_removed",
    },
    engines.AimsReference: {
        "engine": _AIMS_SETTINGS + "test_a_file_of_the_original_is_one_for_fhi_aims",
        "species_dir": _AIMS + "test_the_species_of_its_elements_are_in_the_key",
        "launch_str": _AIMS + "test_the_line_is_a_shell_line",
        "control": _AIMS + "test_forces_are_added_and_the_rest_passes_through",
        "calc_dir": _AIMS + "test_calculations_lie_in_the_folder_that_was_asked_for",
        "clean_dirs": _AIMS + "test_good_folders_go_and_failed_ones_stay",
        "timeout": _AIMS + "test_a_hanging_calculation_is_ended_in_its_time",
        "energy": _AIMS + "test_the_energy_is_the_one_asked_for",
        "compute_stress": _AIMS + "test_the_stress_of_a_cell_is_asked_for_if_it_is_wanted",
        "version": _AIMS + "test_what_changes_the_answer_is_in_the_key",
    },
    PyscfReference: {
        "engine": _PYSCF + "test_a_functionals_energy_and_forces_are_pyscfs_own",
        **dict.fromkeys(
            ("basis", "pseudo", "ke_cutoff"), _PYSCF + "test_a_cell_without_is_that_of_multigrid"
        ),
        "k_grid": _PYSCF + "test_a_cell_with_k_points_is_pyscfs_own",
        "xc": _PYSCF + "test_hartree_fock_is_pyscfs_own",
        **dict.fromkeys(
            ("charge", "spin", "grids_level", "auxbasis"),
            _PYSCF + "test_what_changes_the_answer_changes_the_identity",
        ),
        "dispersion": _PYSCF + "test_dispersion_is_pyscfs_own",
        "unrestricted": _PYSCF + "test_a_stretched_bond_can_break_its_spin_symmetry",
        "density_fit": _PYSCF + "test_density_fitting_is_pyscfs_own",
        "compute_stress": _PYSCF + "test_stress_is_left_out_if_it_is_not_wanted",
        "conv_tol": _PYSCF + "test_convergence_thresholds_count",
        "conv_tol_grad": _PYSCF + "test_convergence_thresholds_count",
        "max_cycle": _PYSCF + "test_one_that_does_not_converge_to_second_order_either_has_no_label",
        "threads": _PYSCF + "test_threads_of_the_process_are_as_before",
        "max_memory": _PYSCF + "test_what_a_calculation_may_use_does_not",
    },
    engines.MaceReference: {
        "engine": "tests/settings/test_project.py::test_mace_is_an_engine",
        "model_path": _MACE + "test_labels_are_those_of_maces_calculator",
        "device": _TEACHER_RUNS,
        "default_dtype": _TEACHER_RUNS,
    },
    engines.MaceMpReference: {
        "engine": "tests/settings/test_project.py::"
        "test_foundation_models_and_ase_calculators_are_engines",
        **dict.fromkeys((*(key for key, *_ in FOUNDATION), "device", "default_dtype"), _TEACHER_IS),
    },
    engines.FoundationalModel: {key: _SAMPLER for key, *_ in FOUNDATION},
    engines.Teacher: {"model_type": _TEACHER_MP, "model_path": _TEACHER, "mace_model": _TEACHER_MP},
}
"""For each section of aimsPAX.yaml the test that shows what a key does."""

OF_THE_CAMPAIGN = {
    "name_exp": _ME + "test_the_experiments_name_and_seed_make_the_members",
    "seed": _ME + "test_the_experiments_name_and_seed_make_the_members",
    "checkpoints_dir": _FOLDER,
    "loss_dir": _FOLDER,
    "model_dir": _FOLDER,
    "error_table": "tests/report/test_narrative.py::test_errors_are_those_of_the_error_table",
    "keep_checkpoints": _ME + "test_checkpoints_of_earlier_rounds_are_kept_if_asked",
    "log_level": _ME + "test_the_log_has_what_its_level_lets_pass",
}
"""Keys of mace.yaml that tests/model/test_keys.py leaves to others."""

ROOT = Path(__file__).parents[2]


def sections(schema: Any) -> set[type[BaseModel]]:
    """The models of a settings file, one inside the other, without the file's own."""
    found: set[type[BaseModel]] = set()
    for part_of in [schema, *get_args(schema)]:
        if isinstance(part_of, type) and issubclass(part_of, BaseModel):
            found |= {part_of}
            for field in part_of.model_fields.values():
                found |= sections(field.annotation)
        elif part_of is not schema:
            found |= sections(part_of)
    return found - {project.ProjectSettings}


def test_no_section_is_forgotten() -> None:
    assert set(TESTS) == sections(project.ProjectSettings)


@pytest.mark.parametrize("section", TESTS, ids=lambda section: section.__name__)
def test_no_key_is_forgotten(section: type[BaseModel]) -> None:
    assert set(TESTS[section]) == set(section.model_fields)


def test_no_key_of_the_models_is_forgotten() -> None:
    assert set(OF_THE_CAMPAIGN) == NOT_OF_THE_MODEL


@cache
def functions(file: str) -> set[str]:
    path = ROOT / file
    files = sorted(path.glob("test_*.py")) if path.is_dir() else [path]
    trees = [ast.parse(each.read_text(encoding="utf-8")) for each in files]
    return {
        node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
    }


@pytest.mark.parametrize(
    "node", sorted({*OF_THE_CAMPAIGN.values()}.union(*(t.values() for t in TESTS.values())))
)
def test_the_test_of_a_key_exists(node: str) -> None:
    file, _, name = node.partition("::")
    assert name.startswith("test_")
    assert name in functions(file)


@pytest.mark.parametrize(("section", "key", "refused"), [
    (project.InitialDatasetGeneration, "foundational_model", "so3lr"),
    (project.ActiveLearning, "foundational_model", "so3lr"),
    (md.MD, "thermostat", "berendsen"),
    (cluster.MlBlocks, "nodes_per_block", 2),
    *((engine, "engine", "other") for engine in get_args(get_args(engines.EngineSettings)[0])),
])  # fmt: skip
def test_keys_with_one_value_leave_no_choice(
    section: type[BaseModel], key: str, refused: object
) -> None:
    (only,) = get_args(section.model_fields[key].annotation)
    with pytest.raises(ValidationError) as caught:
        section.model_validate({key: refused})
    assert any(error["loc"] == (key,) for error in caught.value.errors())
    with pytest.raises(ValidationError) as caught:
        section.model_validate({key: only, "unknown": 1})
    assert not any(error["loc"] == (key,) for error in caught.value.errors())
