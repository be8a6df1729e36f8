"""What takes the place here of the keys of MACE's own training files (`mace_run_train`).

Source: `mace.tools.arg_parser` of MACE 0.3. Keys that have the same name here are not in the table.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from aimspax_core.settings.settings import MODEL_FILES, PROJECT_FILE

_MODEL = MODEL_FILES[0]
_SECOND_STAGE = (
    f"TRAINING.swa and start_swa of {_MODEL}; rate and weights of the second stage are MACE's "
    "defaults"
)
_SETS = (
    f"ACTIVE_LEARNING.initial_train_dataset and initial_valid_dataset of {PROJECT_FILE}, for sets "
    "that are there; all else is labelled by REFERENCE"
)
_FOUNDATION = f"TRAINING.perform_finetuning and pretrained_model of {_MODEL}"
_MACHINES = f"CLUSTER of {PROJECT_FILE}, which says what runs where"
_FOLDERS = f"MISC.output_dir of {PROJECT_FILE}"
_SHIFTS = f"ARCHITECTURE.scaling of {_MODEL}; the numbers are those of the training sets"
_FIGURES = "results/learning_curve.png, and the run's page in Prefect"

REPLACED = {
    "E0s": f"ARCHITECTURE.atomic_energies of {_MODEL}, which `aimspax atomic-energies` computes; "
    "without it they are fitted, as by `average`",
    "hidden_irreps": f"ARCHITECTURE.num_channels and max_L of {_MODEL}: 128x0e + 128x1o is "
    "num_channels: 128 with max_L: 1",
    "max_num_epochs": "ACTIVE_LEARNING.epochs_per_worker (on each new point) and "
    f"max_convergence_epochs (at the end) of {PROJECT_FILE}",
    "patience": f"ACTIVE_LEARNING.convergence_patience of {PROJECT_FILE}",
    "eval_interval": f"ACTIVE_LEARNING.valid_skip of {PROJECT_FILE}",
    "valid_fraction": f"ACTIVE_LEARNING.valid_ratio of {PROJECT_FILE}",
    "train_file": _SETS,
    "valid_file": _SETS,
    "test_file": f"MISC.test_dataset of {PROJECT_FILE}",
    "test_dir": f"MISC.test_dataset of {PROJECT_FILE}",
    "name": f"GENERAL.name_exp of {_MODEL}",
    "work_dir": _FOLDERS,
    "results_dir": _FOLDERS,
    "foundation_model": _FOUNDATION,
    "foundation_model_*": _FOUNDATION,
    "foundation_filter_*": _FOUNDATION,
    "foundation_head": _FOUNDATION,
    "lora": f"TRAINING.finetuning_choice of {_MODEL}: lora",
    "stage_two": _SECOND_STAGE,
    "stage_two_*": _SECOND_STAGE,
    "start_stage_two": f"TRAINING.start_swa of {_MODEL}",
    "swa_*": _SECOND_STAGE,
    "avg_num_neighbors": f"ARCHITECTURE.compute_avg_num_neighbors of {_MODEL}; the number is that "
    "of the training sets",
    "mean": _SHIFTS,
    "std": _SHIFTS,
    "compute_statistics": _SHIFTS,
    "statistics_file": _SHIFTS,
    "atomic_numbers": f"the structures of MISC.path_to_geometry of {PROJECT_FILE}",
    "compute_forces": "nothing: models are always trained on forces",
    "shuffle": f"nothing: batches are always shuffled, by TRAINING.seed of {_MODEL}",
    "save_all_checkpoints": f"MISC.keep_checkpoints of {_MODEL}",
    "save_cpu": "nothing: published models load on any device",
    "distributed": _MACHINES,
    "launcher": _MACHINES,
    "num_workers": _MACHINES,
    "pin_memory": _MACHINES,
    "dry_run": "`aimspax check`",
    "plot": _FIGURES,
    "plot_*": _FIGURES,
    "wandb": _FIGURES,
    "wandb_*": _FIGURES,
}
"""By the names, or patterns of names, of MACE's files: what takes their place."""


def replaced_by(key: str) -> str | None:
    """Return what takes the place of a key of MACE's files; None if it is none, or has its name."""
    return next((here for name, here in REPLACED.items() if fnmatchcase(key, name)), None)
