"""Keys and what changes with them: the exploring MD."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

import tasks.propagate
import tasks.sample
from aimspax_core.campaign.events import SegmentFinished
from aimspax_core.campaign.state import Trajectory
from aimspax_core.output.thinning import Thinning
from aimspax_core.output.trajectories import gather, part
from aimspax_core.prediction import Prediction
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.geometries.held_atoms import HeldAtoms
from aimspax_core.uncertainty.threshold import Window
from tasks.propagate import PropagateRequest, propagate
from tests.every_key.base import AL, with_values


def springs(structures: Sequence[Atoms], stress: bool = False) -> list[Prediction]:
    """Two members that pull on each atom with other strengths; the oxygen is the surest."""
    strengths = np.array([4.0, 6.0])[:, None, None] * np.array([[1.0], [2.0], [3.0]])
    found = []
    for atoms in structures:
        away = atoms.positions - molecule("H2O").positions
        forces, energies = -strengths * away, (strengths * away**2).sum(axis=(1, 2)) / 2
        found.append(Prediction(energies.mean(), forces.mean(axis=0), energies, forces))
    return found


def explored(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    values: Any = (),
    held: HeldAtoms | None = None,
) -> tuple[RunDir, SegmentFinished]:
    """A segment of one trajectory under cheap members; no time, so up to the first check."""
    settings = with_values(folder, {AL: changes})
    if held is not None:
        settings = replace(settings, held={0: held})
    run = RunDir.of(settings)
    monkeypatch.setattr(tasks.propagate, "_models", lambda request: (springs, None))
    request = PropagateRequest(
        "propagate:1", 1, run, settings, (Trajectory(index=0, geometry=0),), (1, 8), (),
        (Window().extend(values),), 0.0, ("a", "b"),
    )  # fmt: skip
    return run, propagate.fn(request)


HIGH = [1e9] * 400  # nothing crosses

# Changes, uncertainties seen before, and the outcome of the first check: what, and at which step.
SEGMENTS: list[tuple[str, dict[str, Any], list[float], tuple[str, int]]] = [
    ("skip_step_mlff", {}, HIGH, ("running", 25)),
    ("skip_step_mlff", {"skip_step_mlff": 4}, HIGH, ("running", 4)),
    ("max_MD_steps", {"max_MD_steps": 25}, HIGH, ("finished", 25)),
    ("max_MD_steps", {"max_MD_steps": 26}, HIGH, ("running", 25)),
    ("uncert_not_crossed_limit", {"uncert_not_crossed_limit": 25}, HIGH, ("crossed", 25)),
    ("uncert_not_crossed_limit", {"uncert_not_crossed_limit": 26}, HIGH, ("running", 25)),
    ("c_x", {"c_x": -0.99}, [1.0] * 400, ("crossed", 25)),
    ("c_x", {"c_x": 1e9}, [1.0] * 400, ("running", 25)),
]


@pytest.mark.key("ActiveLearning", "max_MD_steps", "skip_step_mlff", "uncert_not_crossed_limit")
@pytest.mark.parametrize(
    ("key", "changes", "values", "expected"),
    [pytest.param(*row, id=f"{row[0]}-{row[1].get(row[0], 'default')}") for row in SEGMENTS],
)
def test_a_trajectory_halts_where_the_key_says(
    folder: Path, monkeypatch: pytest.MonkeyPatch, key: str, changes: dict[str, Any],
    values: list[float], expected: tuple[str, int],
) -> None:  # fmt: skip
    _, event = explored(folder, monkeypatch, changes, values)
    (result,) = event.results
    assert (result.outcome, result.step) == expected


@pytest.mark.key("ActiveLearning", "uncertainty_type")
def test_every_measure_of_the_uncertainty_is_another(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = ("mean_atomic_sd", "ensemble_sd", "max_atomic_sd")
    found = [
        explored(folder, monkeypatch, {"uncertainty_type": kind})[1].uncertainties[0]
        for kind in kinds
    ]
    assert found == sorted(found)
    assert len({*found}) == 3


@pytest.mark.key("ActiveLearning", "uncertainty_of")
def test_fixed_atoms_may_be_left_out_of_the_uncertainty(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fixed atom is off its place, and the least sure."""

    def found(held: HeldAtoms, **changes: str) -> tuple[float, str]:
        _, event = explored(folder, monkeypatch, changes, [2.0] * 400, held)
        (result,) = event.results
        return event.uncertainties[0], result.outcome

    atoms = molecule("H2O")
    atoms.positions[2] += 1.5
    ase.io.write(folder / "geometry.in", atoms)
    fixed, in_a_plane = HeldAtoms(fixed=(2,)), HeldAtoms(planes=(((0.0, 0.0, 1.0), (2,)),))
    of_all, outcome = found(fixed)
    assert of_all > 2 and outcome == "crossed"
    of_free, outcome = found(fixed, uncertainty_of="free_atoms")
    assert of_free < 1 and outcome == "running"
    assert found(in_a_plane, uncertainty_of="free_atoms") == found(in_a_plane)


@pytest.mark.key("ActiveLearning", "analysis", "analysis_skip")
@pytest.mark.parametrize(("changes", "steps"), [
    ({}, []),
    ({"analysis": True}, [50]),
    ({"analysis": True, "analysis_skip": 20}, [20, 40]),
])  # fmt: skip
def test_structures_are_looked_at_as_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], steps: list[int]
) -> None:
    _, event = explored(folder, monkeypatch, {"skip_step_mlff": 50} | changes)
    assert [look.step for look in event.looks] == steps


@pytest.mark.key("ActiveLearning", "save_trajectories", "save_trajectories_interval")
@pytest.mark.parametrize(("changes", "steps"), [
    ({}, [5, 10]),
    ({"save_trajectories": False}, []),
    ({"save_trajectories_interval": 4}, [4, 8, 12]),
])  # fmt: skip
def test_the_exploring_md_is_kept_as_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], steps: list[int]
) -> None:
    run, _ = explored(folder, monkeypatch, {"skip_step_mlff": 12} | changes)
    file = part(run, "trajectory", 0, 1)
    frames = ase.io.read(file, ":") if file.exists() else []
    assert [frame.info["step"] for frame in frames] == steps


@pytest.mark.key("ActiveLearning", "save_trajectories_max_frames")
@pytest.mark.parametrize(("most", "steps"), [(None, [4, 8, 12]), (3, [4, 8, 12]), (2, [8])])
def test_a_saved_trajectory_that_is_full_is_thinned(
    folder: Path, monkeypatch: pytest.MonkeyPatch, most: int | None, steps: list[int]
) -> None:
    changes = {"skip_step_mlff": 12, "save_trajectories_interval": 4}
    changes |= {} if most is None else {"save_trajectories_max_frames": most}
    run, event = explored(folder, monkeypatch, changes)
    gather(run, event, Thinning.of(with_values(folder, {AL: changes})))
    frames = ase.io.read(run.trajectories / "trajectory_0.extxyz", ":")
    assert [frame.info["step"] for frame in frames] == steps
