"""Keys of the original that are not simply honoured: renamed, ignored, refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from aimspax_core.settings.known_engines import SECTIONS


class Moved(NamedTuple):
    """Where in REFERENCE a key of another section is, for which engines, and why for no other."""

    key: str
    engines: tuple[str, ...]
    otherwise: str


@dataclass(frozen=True)
class OtherKeys:
    """Keys of one settings file that its models do not have, by (section, key)."""

    renamed: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Second names; the first generation's name is ours."""
    moved: Mapping[tuple[str, str], Moved] = field(default_factory=dict)
    """Keys of the reference that the original has in other sections."""
    ignored: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Keys that have no effect here, and why."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Patterns of keys that are refused in any section, and why."""
    refused_values: Mapping[tuple[str, str], Mapping[Any, str]] = field(default_factory=dict)
    """Values of keys that we have, which are refused, and why."""
    refused_sections: Mapping[str, str] = field(default_factory=dict)
    """Sections that are refused, and why."""
    earlier: Mapping[str, str] = field(default_factory=dict)
    """Names that keys had before both generations, or in example files only: hints at ours."""

    def why_refused(self, key: str) -> str | None:
        """Return why a key is refused; None if it is not."""
        return next((why for name, why in self.refused.items() if fnmatchcase(key, name)), None)

    def names(self, section: str) -> list[str]:
        """Return the keys of a section that are known here."""
        tables: list[Mapping[tuple[str, str], Any]] = [self.renamed, self.moved, self.ignored]
        return [key for table in tables for place, key in table if place == section]


def _all(section: str, keys: str, value: Any) -> dict[tuple[str, str], Any]:
    return {(section, key): value for key in keys.split()}


_IDG, _AL = "INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"
_NOT_AIMS = "only FHI-aims needs it, and it is not the reference here"
_NO_PROGRAM = "the reference here runs no program of its own"
_START_PROGRAMS = tuple(s.engine_name() for s in SECTIONS if s.starts_programs)
_NO_MOLECULES = "uncertainty between molecules is not available"
_NO_LES_MODELS = "models with latent Ewald summation are not available"
_NO_DIPOLES = "MACE models that predict dipoles are not available; SO3LR predicts them"
_OTHER_MODELS = ("maceles",)
_NO_LES = "it belongs to models with latent Ewald summation, which are not available"
PARSL_OPTIONS = (
    *("run_dir", "function_dir", "parsl_info_dir", "port", "clean_parsl_dirs", "clean_task_dirs"),
)
"""The keys under `CLUSTER.blocks` that have no effect."""
NO_PARSL = "it configured PARSL, which aimspax does not use"

PROJECT = OtherKeys(
    renamed={("MD", "seed"): "MD_seed", ("CLUSTER", "parsl_options"): "blocks"},
    moved={
        (_IDG, "species_dir"): Moved("species_dir", ("aims",), _NOT_AIMS),
        (_AL, "species_dir"): Moved("species_dir", ("aims",), _NOT_AIMS),
        ("MISC", "path_to_control"): Moved("control", ("aims",), _NOT_AIMS),
        ("CLUSTER", "launch_str"): Moved("launch_str", ("aims",), _NOT_AIMS),
        ("CLUSTER", "calc_dir"): Moved("calc_dir", _START_PROGRAMS, _NO_PROGRAM),
        ("CLUSTER", "clean_dirs"): Moved("clean_dirs", _START_PROGRAMS, _NO_PROGRAM),
    },
    ignored={
        **_all("CLUSTER", "parsl_info_dir port executor", NO_PARSL),
        ("MISC", "all_teacher"): "REFERENCE alone says what labels",
        (_AL, "parallel"): "trajectories always run side by side",
    },
    refused={
        "mol_idxs": _NO_MOLECULES,
        "intermol_*": _NO_MOLECULES,
        "aims_lib_path": "FHI-aims as a library is not available",
        "MODIFY": "settings that change on the way are not available",
    },
    refused_sections={"DATA_FILTERING": "filtering a large dataset is not available"},
    earlier={
        "model_size": "mace_model",
        "max_epochs_worker": "epochs_per_worker",
        "max_final_epochs": "max_convergence_epochs",
        "max_set_size": "max_train_set_size",
        "patience": "convergence_patience",
        "sanity_skip": "analysis_skip",
    },
)
"""Of `aimsPAX.yaml`."""

MODEL = OtherKeys(
    ignored={
        ("TRAINING", "update_avg_num_neighbors"): "the average is renewed with the training set, "
        "unless compute_avg_num_neighbors is False",
        ("MISC", "enable_cueq_train"): "enable_cueq is for training too",
        ("MISC", "compute_stress"): "GENERAL.compute_stress says it",
        ("GENERAL", "compute_dipole"): "MISC.compute_dipole says it",
    },
    refused={
        **dict.fromkeys(["les_arguments", "atomic_inter_*"], _NO_LES),
    },
    refused_values={
        ("GENERAL", "model_choice"): dict.fromkeys(_OTHER_MODELS, _NO_LES_MODELS),
        ("ARCHITECTURE", "model_choice"): dict.fromkeys(_OTHER_MODELS, _NO_LES_MODELS),
        ("ARCHITECTURE", "model"): {
            **dict.fromkeys(_OTHER_MODELS, _NO_LES_MODELS),
            **dict.fromkeys(["so3krates", "so3lr"], "model_choice says the kind of model"),
        },
        ("TRAINING", "loss"): {
            **dict.fromkeys(["dipole", "dipole_polar", "energy_forces_dipole"], _NO_DIPOLES),
        },
    },
)
"""Of `mace.yaml`."""
