"""Keys of the original that are not simply honoured: renamed, ignored, refused, not there yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any


@dataclass(frozen=True)
class OtherKeys:
    """Keys of one settings file that its models do not have, by (section, key)."""

    renamed: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Second names; the first generation's name is ours."""
    ignored: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Keys that have no effect here, and why."""
    later: Mapping[tuple[str, str], Any] = field(default_factory=dict)
    """Keys that this version does not act on, with the one value that asks for what it does."""
    later_values: Mapping[tuple[str, str], Mapping[Any, str]] = field(default_factory=dict)
    """Values of keys that we have, which this version does not act on, and what they ask for."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Patterns of keys that are refused in any section, and why."""
    refused_values: Mapping[tuple[str, str], Mapping[Any, str]] = field(default_factory=dict)
    """Values of keys that we have, which are refused, and why."""

    def why_refused(self, key: str) -> str | None:
        """Return why a key is refused; None if it is not."""
        return next((why for name, why in self.refused.items() if fnmatchcase(key, name)), None)

    def names(self, section: str) -> list[str]:
        """Return the keys of a section that are known here."""
        tables: list[Mapping[tuple[str, str], Any]] = [self.renamed, self.ignored, self.later]
        return [key for table in tables for place, key in table if place == section]


def _all(section: str, keys: str, value: Any) -> dict[tuple[str, str], Any]:
    return {(section, key): value for key in keys.split()}


_IDG, _AL = "INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"
_NO_PARSL = "it configured PARSL, which aimspax does not use"
_NOT_AIMS = "only FHI-aims needs it, and it is not the reference here"
_NOT_NPT = "only NPT has a barostat"
_NO_MOLECULES = "uncertainty between molecules is not available"
_MACE_ONLY = "aimspax trains MACE models; other kinds are not planned yet"
_FROM_THE_START = "aimspax trains models from the start; fine-tuning is not planned yet"
_NO_DIPOLES = "dipoles are not trained on"

PARSL_OPTIONS = (
    *("nodes_per_block", "init_blocks", "min_blocks", "max_blocks", "label"),
    *("run_dir", "function_dir", "parsl_info_dir", "port"),
)
"""The keys under `CLUSTER.parsl_options`."""

PROJECT = OtherKeys(
    renamed={("MD", "seed"): "MD_seed"},
    ignored={
        (_IDG, "species_dir"): _NOT_AIMS,
        (_AL, "species_dir"): _NOT_AIMS,
        ("MISC", "path_to_control"): _NOT_AIMS,
        **_all("CLUSTER", "launch_str calc_dir clean_dirs", _NOT_AIMS),
        **_all("CLUSTER", "parsl_options parsl_info_dir port executor", _NO_PARSL),
        ("CLUSTER", "project_name"): "runs are named by GENERAL.name_exp",
        ("CLUSTER", "slurm_str"): "`type: local` starts no Slurm job",
        ("CLUSTER", "worker_str"): "`type: local` starts its workers in this environment",
        ("MISC", "all_teacher"): "REFERENCE alone says what labels",
        (_IDG, "progress_dft_update"): "each label is reported as it arrives",
        (_AL, "parallel"): "trajectories always run side by side",
        **_all("MD", "barostat external_stress pfactor pressure_au pressure ttime", _NOT_NPT),
        **_all("MD", "tdamp pdamp tchain pchain tloop ploop", _NOT_NPT),
        **_all("MD", "compressibility_au taut taup mask", _NOT_NPT),
    },
    later={
        (_IDG, "analysis"): False,
        (_IDG, "distinct_model_sets"): True,
        (_IDG, "save_trajectories"): False,
        (_IDG, "save_trajectories_interval"): 5,
        (_AL, "analysis"): False,
        (_AL, "analysis_skip"): 50,
        (_AL, "seeds_tags_dict"): None,
        (_AL, "replay_strategy"): "full_dataset",
        **_all(_AL, "train_subset_size valid_subset_size", None),
        (_AL, "update_md_checkpoints"): True,
        (_AL, "extend_existing_final_ds"): False,
        (_AL, "save_trajectories"): False,
        (_AL, "save_trajectories_interval"): 5,
        **_all(_AL, "initial_train_dataset initial_valid_dataset", None),
        (_AL, "use_foundational"): False,
        **_all(_AL, "foundational_model foundational_model_settings", None),
        ("MISC", "energy_key"): "REF_energy",
        ("MISC", "forces_key"): "REF_forces",
        ("MISC", "stress_key"): "REF_stress",
        **_all("MISC", "virials_key dipole_key polarizability_key", None),
        **_all("MISC", "hirshfeld_ratios_key charges_key head_key", None),
        **_all("MISC", "total_charge_key total_spin_key", None),
        ("CLUSTER", "tasks_per_node"): 1,
        **_all("CLUSTER", "cores_per_job memory_per_job disk_per_job", None),
    },
    later_values={
        ("MD", "stat_ensemble"): {"npt": "NPT"},
        ("CLUSTER", "type"): {"slurm": "Slurm"},
        ("REFERENCE", "engine"): {"aims": "FHI-aims", "fhi-aims": "FHI-aims", "pyscf": "PySCF"},
    },
    refused={
        "mol_idxs": _NO_MOLECULES,
        "intermol_*": _NO_MOLECULES,
        "aims_lib_path": "FHI-aims as a library is not available",
    },
    refused_values={
        (_IDG, "foundational_model"): {"so3lr": "the foundation model is a MACE-MP model"},
    },
)
"""Of `aimsPAX.yaml`."""

MODEL = OtherKeys(
    later={
        ("TRAINING", "swa"): False,
        ("TRAINING", "start_swa"): None,
        ("TRAINING", "seed"): None,
        ("MISC", "error_table"): "PerAtomMAE",
        ("MISC", "keep_checkpoints"): False,
        ("MISC", "restart_latest"): False,
        ("MISC", "enable_cueq"): False,
    },
    later_values={
        ("GENERAL", "compute_stress"): {True: "stress"},
        ("TRAINING", "loss"): {
            "stress": "training on stress",
            "weighted_stress": "training on stress",
            "virials": "training on virials",
        },
    },
    refused={
        "perform_finetuning": _FROM_THE_START,
        "finetuning_choice": _FROM_THE_START,
        "pretrained_*": _FROM_THE_START,
        "freeze_*": _FROM_THE_START,
        "lora_*": _FROM_THE_START,
        "convert_to_*": _FROM_THE_START,
        "*multihead*": "models with several heads are not available",
        "compute_dipole": _NO_DIPOLES,
        "dipole_weight": _NO_DIPOLES,
        "hirshfeld_weight": "Hirshfeld ratios are not trained on",
    },
    refused_values={
        ("GENERAL", "model_choice"): dict.fromkeys(["so3krates", "so3lr"], _MACE_ONLY),
        ("ARCHITECTURE", "model_choice"): dict.fromkeys(["so3krates", "so3lr"], _MACE_ONLY),
        ("ARCHITECTURE", "model"): dict.fromkeys(["so3krates", "so3lr"], _MACE_ONLY),
        ("TRAINING", "loss"): dict.fromkeys(["dipole", "energy_forces_dipole"], _NO_DIPOLES),
    },
)
"""Of `mace.yaml`."""
