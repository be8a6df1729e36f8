"""Every key of both generations' documents is known in one way; no other key is known."""

from __future__ import annotations

import math
from functools import cache

import pytest
from pydantic import BaseModel

from aimspax_core.settings.known_engines import SECTIONS
from aimspax_core.settings.model import ModelSettings
from aimspax_core.settings.original import keys
from aimspax_core.settings.project import ProjectSettings
from aimspax_core.stopping.table import rules_of

IDG, AL = "INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"

# Typed out from the README of the first generation, tables and commented-out rows, by section.
FIRST_PROJECT = {
    IDG: "species_dir n_points_per_sampling_step_idg analysis desired_acc desired_acc_scale_idg "
    "ensemble_size initial_foundational_size initial_sampling intermediate_epochs_idg "
    "max_initial_epochs max_initial_set_size progress_dft_update scheduler_initial "
    "skip_step_initial valid_ratio valid_skip converge_initial convergence_patience margin "
    "max_convergence_epochs aims_lib_path",
    AL: "species_dir num_trajectories analysis analysis_skip c_x desired_acc ensemble_size "
    "epochs_per_worker freeze_threshold_dataset intermediate_epochs_al margin max_MD_steps "
    "max_train_set_size seeds_tags_dict skip_step_mlff uncertainty_type uncert_not_crossed_limit "
    "valid_ratio valid_skip converge_al converge_best convergence_patience max_convergence_epochs "
    "aims_lib_path parallel intermol_crossed_limit intermol_forces_weight",
    "CLUSTER": "type project_name parsl_options slurm_str worker_str launch_str calc_dir "
    "clean_dirs",
    "MD": "stat_ensemble barostat external_stress friction MD_seed pfactor pressure_au "
    "temperature thermostat timestep ttime",
    "MISC": "create_restart dataset_dir log_dir path_to_control path_to_geometry mol_idxs",
}
FIRST_MODEL = {
    "GENERAL": "name_exp checkpoints_dir compute_stress default_dtype loss_dir model_dir seed",
    "ARCHITECTURE": "atomic_energies compute_avg_num_neighbors correlation gate interaction "
    "interaction_first max_ell max_L MLP_irreps model num_channels num_cutoff_basis "
    "num_interactions num_radial_basis r_max radial_MLP radial_type scaling",
    "TRAINING": "amsgrad batch_size clip_grad config_type_weights ema ema_decay energy_weight "
    "forces_weight loss lr lr_factor lr_scheduler_gamma optimizer scheduler scheduler_patience "
    "stress_weight swa valid_batch_size virials_weight weight_decay",
    "MISC": "device error_table log_level keep_checkpoints restart_latest",
}

# Typed out from the page on both generations.
SECOND_PROJECT = {
    IDG: "initial_sampling foundational_model foundational_model_settings distinct_model_sets "
    "save_trajectories save_trajectories_interval use_teacher_reference "
    "teacher_reference_settings",
    AL: "use_teacher_reference teacher_reference_settings replay_strategy train_subset_size "
    "valid_subset_size update_md_checkpoints extend_existing_final_ds save_trajectories "
    "save_trajectories_interval initial_train_dataset initial_valid_dataset use_foundational "
    "foundational_model foundational_model_settings",
    "CLUSTER": "type max_workers launch_str calc_dir clean_dirs tasks_per_node cores_per_job "
    "memory_per_job disk_per_job project_name parsl_options parsl_info_dir port executor",
    "MD": "seed pressure tdamp pdamp tchain pchain tloop ploop compressibility_au taut taup fixcm "
    "mask barostat MODIFY",
    "MISC": "output_dir path_to_geometry path_to_control energy_key forces_key stress_key "
    "virials_key dipole_key polarizability_key hirshfeld_ratios_key charges_key head_key "
    "total_charge_key total_spin_key all_teacher mol_idxs",
}
SECOND_MODEL = {
    "GENERAL": "model_choice compute_dipole",
    "ARCHITECTURE": "model_choice use_multihead_model num_multihead_heads r_max_lr num_features "
    "num_radial_basis_fn degrees num_heads num_layers final_mlp_layers energy_regression_dim "
    "message_normalization initialize_ev_to_zeros radial_basis_fn trainable_rbf "
    "energy_learn_atomic_type_shifts energy_learn_atomic_type_scales layer_normalization_1 "
    "layer_normalization_2 residual_mlp_1 residual_mlp_2 use_charge_embed use_spin_embed "
    "interaction_bias qk_non_linearity cutoff_fn cutoff_p activation_fn energy_activation_fn "
    "layers_behave_like_identity_fn_at_init output_is_zero_at_init input_convention "
    "zbl_repulsion_bool electrostatic_energy_bool electrostatic_energy_scale "
    "dispersion_energy_bool dispersion_energy_scale dispersion_energy_cutoff_lr_damping "
    "neighborlist_format_lr les_arguments atomic_inter_scale atomic_inter_shift",
    "TRAINING": "start_swa update_avg_num_neighbors config_type_weights virials_weight "
    "stress_weight seed "
    "perform_finetuning finetuning_choice pretrained_model pretrained_weights freeze_embedding "
    "freeze_zbl freeze_hirshfeld freeze_partial_charges freeze_shifts freeze_scales "
    "convert_to_lora convert_to_multihead lora_rank lora_alpha lora_freeze_A dipole_weight "
    "hirshfeld_weight",
    "MISC": "keep_checkpoints restart_latest enable_cueq enable_cueq_train compute_dipole "
    "compute_stress",
}
OURS = {
    "REFERENCE": " ".join(key for section in SECTIONS for key in section.model_fields),
    AL: " ".join(
        ["save_trajectories_max_frames", "round_points_counted", "md_steps_while_training"]
        + ["converge_on", "converge_on_analysis", "uncertainty_of", "threshold_scope"]
        + ["threshold", "force_error", "selection", "random_share", "candidates", "novelty"]
        + ["rattle", "restart_from_labels"]
        + [rule.key.name for rule in rules_of("active")]
    ),
    "GATE": "min_distance max_force max_energy_deviation",
    "BUDGET": "labels core_hours hours",
    IDG: " ".join(
        ["sampling_engine", "save_trajectories_max_frames", "rattle", "restart_from_labels"]
        + [rule.key.name for rule in rules_of("initial")]
    ),
    "CLUSTER": "ml blocks idle_time queue_notice interface host python",
    "MISC": "label_store restarts server_password without_server test_dataset",
}

OURS_MODEL = {
    "ARCHITECTURE": "use_reduced_cg solve_energies",
    "TRAINING": "freeze multiheads_finetuning pt_train_file num_samples_pt weight_pt_head",
    "MISC": "compile kernel",
}


def _together(*tables: dict[str, str]) -> dict[str, set[str]]:
    return {
        section: {key for table in tables for key in table.get(section, "").split()}
        for table in tables
        for section in table
    }


PROJECT_KEYS = _together(FIRST_PROJECT, SECOND_PROJECT, OURS)
MODEL_KEYS = _together(FIRST_MODEL, SECOND_MODEL, OURS_MODEL)
FILES = [
    (ProjectSettings, keys.PROJECT, PROJECT_KEYS),
    (ModelSettings, keys.MODEL, MODEL_KEYS),
]
DOCUMENTED = [
    (schema, others, section, key)
    for schema, others, table in FILES
    for section in table
    for key in sorted(table[section])
]


@cache
def _honoured(schema: type[BaseModel], section: str) -> set[str]:
    """The keys that are fields of a section, whichever of several models it has."""
    content = schema.model_json_schema()
    node = content["properties"][section]
    parts = [node, *node.get("anyOf", ()), *node.get("oneOf", ())]
    models = [part["$ref"].rpartition("/")[2] for part in parts if "$ref" in part]
    return {key for model in models for key in content["$defs"][model]["properties"]}


@pytest.mark.parametrize(("schema", "others", "section", "key"), DOCUMENTED)
def test_a_documented_key_is_known_in_exactly_one_way(schema, others, section, key):
    ways = [
        key in _honoured(schema, section),
        (section, key) in others.renamed,
        (section, key) in others.moved,
        (section, key) in others.ignored,
        others.why_refused(key) is not None and key != "freeze_threshold_dataset",
    ]
    assert sum(ways) == 1, (section, key, ways)


@pytest.mark.parametrize(("schema", "others", "table"), FILES)
def test_no_other_key_is_known(schema, others, table):
    for section in schema.model_fields:
        known = _honoured(schema, section) | set(others.names(section))
        assert known <= table[section], section


@pytest.mark.parametrize(("schema", "others", "table"), FILES)
def test_tables_are_of_sections_that_exist(schema, others, table):
    tables = (
        others.renamed,
        others.moved,
        others.ignored,
        others.refused_values,
    )
    sections = {section for content in tables for section, _ in content}
    assert sections <= set(schema.model_fields)


@pytest.mark.parametrize("section", sorted(PROJECT_KEYS))
def test_any_other_key_of_the_project_is_refused(inputs, section):
    if section == "CLUSTER":
        inputs.plant("aimsPAX.yaml", section, "type", "local")
    told = inputs.mistake("aimsPAX.yaml", section, "xyzzy", "1")
    assert told.startswith(f"{section}.xyzzy: unknown key")


@pytest.mark.parametrize("section", sorted(MODEL_KEYS))
def test_any_other_key_of_the_model_is_refused(inputs, section):
    told = inputs.mistake("mace.yaml", section, "xyzzy", "1")
    assert told.startswith(f"{section}.xyzzy: unknown key")


NO_LES = "models with latent Ewald summation are not available"
NO_LES_KEYS = "it belongs to models with latent Ewald summation, which are not available"
NO_MOLECULES = "uncertainty between molecules is not available"
NO_DIPOLES = "MACE models that predict dipoles are not available; SO3LR predicts them"


def _with_needs(inputs, section):
    if section == "CLUSTER":
        inputs.plant("aimsPAX.yaml", section, "type", "local")
    return inputs


@pytest.mark.parametrize(
    ("file", "place", "why"),
    [
        *(("aimsPAX.yaml", place, why) for place, why in keys.PROJECT.ignored.items()),
        *(("mace.yaml", place, why) for place, why in keys.MODEL.ignored.items()),
    ],
)
def test_an_ignored_key_is_noted_once(inputs, file, place, why):
    section, key = place
    _with_needs(inputs, section).plant(file, section, key, "{}")
    assert inputs.load().notes == (f"{file}: {section}.{key} has no effect: {why}",)


@pytest.mark.parametrize(
    ("file", "section", "key", "value", "told"),
    [
        ("mace.yaml", "TRAINING", "loss", "dipole", NO_DIPOLES),
        ("mace.yaml", "GENERAL", "model_choice", "maceles", NO_LES),
        ("mace.yaml", "ARCHITECTURE", "model", "maceles", NO_LES),
        ("mace.yaml", "ARCHITECTURE", "model", "so3lr", "model_choice says the kind of model"),
        ("mace.yaml", "ARCHITECTURE", "model_choice", "maceles", NO_LES),
    ],
)
def test_a_value_that_is_refused_is_told(inputs, file, section, key, value, told):
    expected = f"{section}.{key}: refused '{value}' ({told})"
    assert inputs.mistake(file, section, key, value) == expected


@pytest.mark.parametrize(
    ("file", "section", "key", "value", "why"),
    [
        ("mace.yaml", "ARCHITECTURE", "atomic_inter_scale", "1.0", NO_LES_KEYS),
        ("aimsPAX.yaml", "MISC", "mol_idxs", "[[0, 1]]", NO_MOLECULES),
        ("aimsPAX.yaml", AL, "intermol_forces_weight", "100", NO_MOLECULES),
    ],
)  # fmt: skip
def test_a_refused_key_is_told_with_the_reason(inputs, file, section, key, value, why):
    told = inputs.mistake(file, section, key, value)
    assert told.startswith(f"{section}.{key}: refused (")
    assert told.endswith(f"{why})")


@pytest.mark.parametrize(
    ("file", "section", "key", "value"),
    [
        ("mace.yaml", "ARCHITECTURE", "atomic_inter_scale", "False"),
        ("mace.yaml", "ARCHITECTURE", "les_arguments", "null"),
        ("aimsPAX.yaml", "MISC", "mol_idxs", ""),
    ],
)
def test_a_refused_key_that_is_switched_off_is_only_noted(inputs, file, section, key, value):
    inputs.plant(file, section, key, value)
    (note,) = inputs.load().notes
    assert note.startswith(f"{file}: {section}.{key} has no effect: ")


def test_a_second_name_beside_the_first_is_a_mistake(inputs):
    inputs.plant("aimsPAX.yaml", "MD", "MD_seed", "1")
    told = inputs.mistake("aimsPAX.yaml", "MD", "seed", "2")
    assert told == "MD.seed: twice beside MD_seed"


def test_a_wrong_value_under_a_second_name_is_found_in_its_line(inputs):
    inputs.plant("aimsPAX.yaml", "MD", "seed", "-2")
    assert inputs.mistakes() == ["aimsPAX.yaml:11  MD.MD_seed: wrong value -2"]


def test_a_typo_inside_parsl_options_is_told(inputs):
    inputs.plant("aimsPAX.yaml", "CLUSTER", "type", "local")
    told = inputs.mistake("aimsPAX.yaml", "CLUSTER", "parsl_options", "{max_block: 1}")
    assert told == "CLUSTER.blocks.max_block: unknown key -> max_blocks"


def test_limits_are_infinite_unless_given(inputs):
    idg, al = inputs.load().idg, inputs.load().al
    limits = (idg.max_initial_epochs, idg.max_initial_set_size, al.max_MD_steps)
    assert {*limits, al.max_train_set_size, al.freeze_threshold_dataset} == {math.inf}
