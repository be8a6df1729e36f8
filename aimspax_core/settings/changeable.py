"""Which settings a person may change while a campaign runs: those that take force at once."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from aimspax_core.settings.model import ModelSettings
from aimspax_core.settings.project import ProjectSettings
from aimspax_core.settings.reading.nested import leaves
from aimspax_core.settings.settings import Settings
from aimspax_core.stopping.table import rules_of

_IDG, _AL = "INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"


def _of(section: str, keys: str) -> tuple[str, ...]:
    return tuple(f"{section}.{key}" for key in keys.split())


CHANGEABLE = (
    *(f"{_IDG}.{rule.key.name}" for rule in rules_of("initial")),
    *_of(
        _IDG,
        "desired_acc_scale_idg n_points_per_sampling_step_idg intermediate_epochs_idg valid_ratio "
        "valid_skip margin convergence_patience max_convergence_epochs converge_initial "
        "progress_dft_update skip_step_initial",
    ),
    *(f"{_AL}.{rule.key.name}" for rule in rules_of("active")),
    *_of(
        _AL,
        "c_x threshold force_error random_share candidates novelty "
        "num_trajectories epochs_per_worker "
        "round_points_counted md_steps_while_training "
        "intermediate_epochs_al freeze_threshold_dataset "
        "valid_ratio valid_skip margin convergence_patience max_convergence_epochs converge_al "
        "converge_best converge_on converge_on_analysis skip_step_mlff uncert_not_crossed_limit "
        "train_subset_size valid_subset_size update_md_checkpoints",
    ),
    *(f"BUDGET.{rule.key.name}" for rule in rules_of("campaign")),
    *(f"{name}.restart_from_labels{index}" for name in (_IDG, _AL) for index in ("", ".*")),
    "MD.temperature",
    "MD.*.temperature",
    *_of(
        "CLUSTER",
        "max_workers blocks.min_blocks blocks.max_blocks blocks.init_blocks ml.blocks.min_blocks "
        "ml.blocks.max_blocks ml.blocks.init_blocks idle_time queue_notice",
    ),
)
"""Keys of `aimsPAX.yaml` that the rules, the next task or the pools read anew; `*` is an index."""


def changeable(key: str) -> bool:
    """Return whether a key, with dots between its parts, takes force at once."""
    return any(fnmatchcase(key, pattern) for pattern in CHANGEABLE)


def full_keys(name: str, settings: Settings) -> list[str]:
    """Return the keys that a name may mean: it is whole, or the last parts of keys.

    Those that can be changed go before others; what both phases have is ACTIVE_LEARNING's.

    Args:
        name: What a person calls the key, such as `c_x` or `blocks.max_blocks`.
        settings: The settings in force.
    """
    sections = {*ProjectSettings.model_fields, *ModelSettings.model_fields}
    if name.partition(".")[0] in sections:
        return [name]
    known = [*value_by_key(settings), *_model_keys(settings)]
    ending = [key for key in known if key.endswith(f".{name}")]
    found = [key for key in ending if changeable(key)] or ending
    return [key for key in found if key == f"{_AL}.{name}"] or found


def _model_keys(settings: Settings) -> list[str]:
    return [".".join(map(str, path)) for path, _ in leaves(settings.model.model_dump())]


def short_names(settings: Settings) -> Iterable[str]:
    """Return the last parts of all keys that can be changed."""
    return {key.rpartition(".")[2] for key in value_by_key(settings) if changeable(key)}


def value_by_key(settings: Settings) -> dict[str, Any]:
    """Return all values in force of `aimsPAX.yaml`, defaults included, by their key with dots."""
    content = settings.project.model_dump()
    content[_IDG], content[_AL] = settings.idg.model_dump(), settings.al.model_dump()
    content["CLUSTER"] = settings.cluster.model_dump()
    return {".".join(map(str, path)): value for path, value in leaves(content)}
