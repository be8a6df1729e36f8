"""Which settings may not change while a campaign goes on."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple

from aimspax_core.settings.families.known_families import FAMILIES
from aimspax_core.settings.known_engines import SECTIONS

_IDG, _AL = "INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"


class Frozen(NamedTuple):
    """Keys that may not change on the way."""

    file: str
    pattern: str
    why: str


_LABELS = "labels of two methods do not go together"


METHOD = "REFERENCE identity"
"""Begins the keys of an engine's identity: versions, sources, contents of files."""


FROZEN = (
    Frozen("aimsPAX.yaml", "REFERENCE*", _LABELS),
    Frozen("aimsPAX.yaml", f"{_IDG}.ensemble_size", "the members are there"),
    Frozen("aimsPAX.yaml", f"{_IDG}.distinct_model_sets", "the members have their own points"),
    Frozen("aimsPAX.yaml", f"{_AL}.seeds_tags_dict*", "it names the members"),
    Frozen("aimsPAX.yaml", f"{_AL}.initial_train_dataset*", "the members are trained on it"),
    Frozen("aimsPAX.yaml", f"{_AL}.initial_valid_dataset*", "the members are judged by it"),
    Frozen("aimsPAX.yaml", f"{_AL}.uncertainty_type", "the threshold follows from earlier ones"),
    Frozen("aimsPAX.yaml", f"{_AL}.uncertainty_of", "the threshold follows from earlier ones"),
    Frozen("aimsPAX.yaml", "MD*.MD_seed", "the trajectories are drawn from it"),
    Frozen("mace.yaml", "ARCHITECTURE*", "weights of another network do not fit"),
    Frozen("mace.yaml", "GENERAL.name_exp", "it names the members"),
    Frozen("mace.yaml", "GENERAL.checkpoints_dir", "the members' checkpoints are there"),
    Frozen("mace.yaml", "GENERAL.seed", "the members are drawn from it"),
    Frozen("mace.yaml", "GENERAL.model_choice", "weights of another network do not fit"),
    Frozen("mace.yaml", "GENERAL.default_dtype", "weights of another kind do not fit"),
    Frozen("mace.yaml", "GENERAL.compute_stress", "labels so far have stress, or have none"),
    Frozen("mace.yaml", "TRAINING.perform_finetuning", "the members have begun"),
    Frozen("mace.yaml", "TRAINING.finetuning_choice", "the members' weights are held so"),
    Frozen("mace.yaml", "TRAINING.convert_to_lora", "the members' weights are held so"),
    Frozen("mace.yaml", "TRAINING.convert_to_multihead", "the members have begun"),
    Frozen("mace.yaml", "TRAINING.freeze*", "the optimizer's moments are kept"),
    Frozen("mace.yaml", "TRAINING.multiheads_finetuning", "the members have such heads, or not"),
    Frozen("mace.yaml", "TRAINING.pt_train_file", "the members are trained on it"),
    Frozen("mace.yaml", "TRAINING.lora_*", "the members' weights are held so"),
    Frozen("mace.yaml", "TRAINING.pretrained_*", "the members have begun from it"),
    Frozen("mace.yaml", "TRAINING.seed", "the order of the batches follows from it"),
    Frozen("mace.yaml", "TRAINING.ema", "the averages are kept, or are not"),
    Frozen("mace.yaml", "TRAINING.optimizer", "its moments are kept"),
    Frozen("mace.yaml", "TRAINING.amsgrad", "the optimizer's moments are kept"),
    Frozen("mace.yaml", "TRAINING.scheduler", "its state is kept"),
    *(Frozen("mace.yaml", *keys) for family in FAMILIES for keys in family.frozen),
)
"""What may not change, beside the geometries and the content of the files that these keys name."""


FREE_WITHIN = (
    *dict.fromkeys(f"REFERENCE.{key}" for section in SECTIONS for key in section.free),
    "ARCHITECTURE.solve_energies",
)
"""What may change although a pattern of `FROZEN` has it."""


def why_frozen(file: str, key: str) -> str | None:
    """Return why a key of a settings file may not change while a campaign goes on; None if it may.

    Args:
        file: `aimsPAX.yaml` or `mace.yaml`.
        key: Section and keys inside it, with dots between.
    """
    if any(fnmatchcase(key, pattern) for pattern in FREE_WITHIN):
        return None
    return next((f.why for f in FROZEN if f.file == file and fnmatchcase(key, f.pattern)), None)
