"""Keys of the original that are read in another way: renamed, ignored, refused, or not available yet."""

from __future__ import annotations

from typing import Any

RENAMED: dict[tuple[str, str], str] = {("MD", "seed"): "MD_seed"}
"""Second names; the first generation's name is ours."""

_NO_PARSL = "it configured PARSL, which aimspax does not use"
IGNORED: dict[tuple[str, str], str] = {
    ("CLUSTER", "parsl_options"): _NO_PARSL,
    ("CLUSTER", "parsl_info_dir"): _NO_PARSL,
    ("CLUSTER", "port"): _NO_PARSL,
    ("CLUSTER", "executor"): _NO_PARSL,
    ("CLUSTER", "slurm_str"): "`type: local` starts no Slurm job",
    ("CLUSTER", "worker_str"): "`type: local` starts its workers in this environment",
    ("MISC", "all_teacher"): "REFERENCE alone says what labels",
}
"""Keys that have no effect here, and why."""

_IDG, _AL = "INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"
LATER: dict[tuple[str, str], Any] = {
    (_IDG, "analysis"): False,
    (_IDG, "distinct_model_sets"): True,
    (_IDG, "save_trajectories"): False,
    (_IDG, "save_trajectories_interval"): 5,
    (_AL, "analysis"): False,
    (_AL, "analysis_skip"): 50,
    (_AL, "seeds_tags_dict"): None,
    (_AL, "replay_strategy"): "full_dataset",
    (_AL, "train_subset_size"): None,
    (_AL, "valid_subset_size"): None,
    (_AL, "update_md_checkpoints"): True,
    (_AL, "extend_existing_final_ds"): False,
    (_AL, "save_trajectories"): False,
    (_AL, "save_trajectories_interval"): 5,
    (_AL, "initial_train_dataset"): None,
    (_AL, "initial_valid_dataset"): None,
    (_AL, "use_foundational"): False,
    (_AL, "foundational_model_settings"): None,
    **{
        ("MD", key): None
        for key in ["barostat", "external_stress", "pfactor", "pressure_au", "pressure", "ttime", "tdamp", "pdamp", "tchain", "pchain", "tloop", "ploop", "compressibility_au", "taut", "taup", "mask"]
    },
    ("MISC", "energy_key"): "REF_energy",
    ("MISC", "forces_key"): "REF_forces",
    ("MISC", "stress_key"): "REF_stress",
    **{
        ("MISC", f"{name}_key"): None
        for name in ["virials", "dipole", "polarizability", "hirshfeld_ratios", "charges", "head", "total_charge", "total_spin"]
    },
    ("CLUSTER", "tasks_per_node"): 1,
    ("CLUSTER", "cores_per_job"): None,
    ("CLUSTER", "memory_per_job"): None,
    ("CLUSTER", "disk_per_job"): None,
    ("TRAINING", "swa"): False,
    ("TRAINING", "start_swa"): None,
    ("TRAINING", "seed"): None,
    ("MISC", "keep_checkpoints"): False,
    ("MISC", "restart_latest"): False,
    ("MISC", "enable_cueq"): False,
}
"""Keys that this version does not act on yet, with the one value that asks for what it does anyway."""

LATER_VALUES: dict[tuple[str, str], dict[Any, str]] = {
    ("MD", "stat_ensemble"): {"npt": "NPT"},
    ("CLUSTER", "type"): {"slurm": "Slurm"},
    ("TRAINING", "loss"): {
        "stress": "training on stress",
        "weighted_stress": "training on stress",
        "virials": "training on virials",
    },
    ("GENERAL", "compute_stress"): {True: "stress"},
    ("REFERENCE", "engine"): {"aims": "FHI-aims", "fhi-aims": "FHI-aims", "pyscf": "PySCF"},
}
"""Values of keys that we have, which this version does not act on yet."""

_OTHER_MODELS = (
    "aimspax trains MACE models from the start; fine-tuning and other models are not planned yet"
)
REFUSED: dict[str, str] = {
    **dict.fromkeys(["perform_finetuning", "freeze_embedding", "freeze_interactions", "freeze_zbl", "freeze_hirshfeld", "freeze_partial_charges", "freeze_shifts", "freeze_scales", "convert_to_lora", "lora_rank", "lora_alpha", "lora_freeze_A", "convert_to_multihead", "pretrained_model", "pretrained_weights"], _OTHER_MODELS),
    "mol_idxs": "uncertainty between molecules is not available",
    "intermol_crossed_limit": "uncertainty between molecules is not available",
    "intermol_forces_weight": "uncertainty between molecules is not available",
    "compute_dipole": "dipoles are not trained on",
    "dipole_weight": "dipoles are not trained on",
    "hirshfeld_weight": "Hirshfeld ratios are not trained on",
}
"""Keys that are refused whatever their section and value, and why."""
