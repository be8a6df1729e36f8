"""What `aimspax init` sets of both phases: for a force field, or for a first result in minutes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Sections = dict[str, dict[str, Any]]
"""Keys with their values, by section."""

QUICK = (
    "For a first result in minutes: 60 labels at most, and models that are trained for a short "
    "time. For a force field that is to be used, turn these up: `BUDGET.labels` and "
    "`max_train_set_size`, or leave both out and say `desired_acc`; `num_trajectories`; "
    "`temperature`, to what you will simulate and somewhat above; `max_convergence_epochs`, to "
    "500, with `lr` and `scheduler` at their defaults; and the network. `aimspax init` without "
    "--quick writes that."
)
"""What stands at the top of the quick one."""


def phases(sampling: Mapping[str, Any], count: int) -> Sections:
    """Return what is set for a force field that is to be used.

    Args:
        sampling: What drives the first MD.
        count: How many geometries there are.
    """
    return {
        "INITIAL_DATASET_GENERATION": {
            **sampling,
            "n_points_per_sampling_step_idg": 10,
            "skip_step_initial": 25,
            "ensemble_size": 4,
            "valid_ratio": 0.1,
            "intermediate_epochs_idg": 5,
            "desired_acc": 0.05,
            "desired_acc_scale_idg": 5.0,
        },
        "ACTIVE_LEARNING": {
            "num_trajectories": max(8, count),
            "desired_acc": 0.05,
            "max_train_set_size": 500,
            "c_x": 0.0,
            "skip_step_mlff": 25,
            "valid_ratio": 0.1,
            "epochs_per_worker": 2,
            "converge_al": True,
            "max_convergence_epochs": 500,
        },
        "BUDGET": {},
    }


def quick_phases(sampling: Mapping[str, Any], count: int, tuned: bool) -> Sections:
    """Return what is set for a first result: few labels, far apart in time, and many epochs.

    Args:
        sampling: What drives the first MD.
        count: How many geometries there are.
        tuned: Whether members begin from one model. They differ by their sets alone then: each has
            points of its own, so that there are fewer for each, of as many labels in all.
    """
    return {
        "INITIAL_DATASET_GENERATION": {
            **sampling,
            "n_points_per_sampling_step_idg": max(2, (7 if tuned else 20) // count),
            "skip_step_initial": 40,
            "distinct_model_sets": tuned,
            "ensemble_size": 3,
            "valid_ratio": 0.1,
            "intermediate_epochs_idg": 30,
            "max_initial_epochs": 30,
        },
        "ACTIVE_LEARNING": {
            "num_trajectories": max(6, count),
            "max_train_set_size": 40 if tuned else 48,
            "skip_step_mlff": 50,
            "valid_ratio": 0.1,
            "epochs_per_worker": 2,
            "valid_skip": 2,
            "converge_al": True,
            "max_convergence_epochs": 80,
        },
        "BUDGET": {"labels": 60},
    }
