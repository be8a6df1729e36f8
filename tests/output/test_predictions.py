"""Predictions that were kept, held against labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule

from aimspax_core.labels.label import Label
from aimspax_core.labels.store import StoredLabel
from aimspax_core.output.predictions import judged, read_prediction
from aimspax_core.prediction import Prediction
from aimspax_core.run_directory import RunDir
from aimspax_core.sampling.snapshots import save_prediction

FORCES = np.stack([np.full((3, 3), 0.1), np.full((3, 3), 0.3)])
SAID = Prediction(1.5, FORCES.mean(axis=0), np.array([1.0, 2.0]), FORCES)
STORED = StoredLabel("abc", molecule("H2O"), Label(1.0, np.full((3, 3), 0.4)))


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path, *(tmp_path / name for name in ("data", "log", "loss", "model", "chk")))


@pytest.mark.parametrize("threshold", [0.05, None])
def test_a_label_is_held_against_what_was_kept(run: RunDir, threshold: float | None) -> None:
    save_prediction(run.prediction("abc"), SAID, 3, 25, threshold)
    found = judged(run, STORED, 1, "max_atomic_sd")
    assert found is not None
    assert (found.geometry, found.above) == (1, threshold is not None)
    assert (found.spread, found.error) == pytest.approx((0.1, 0.2))
    assert (found.energy_spread, found.energy_error) == pytest.approx((0.5, 0.5))


def test_atoms_that_cannot_move_do_not_count_where_they_did_not_for_the_threshold(
    run: RunDir,
) -> None:
    away = FORCES.copy()
    away[0, 0] += 9.0  # the oxygen, which is held
    said = Prediction(1.5, away.mean(axis=0), np.array([1.0, 2.0]), away)
    save_prediction(run.prediction("abc"), said, 3, 25, 0.05, np.array([False, True, True]))
    found = judged(run, STORED, 1, "max_atomic_sd")
    assert found is not None
    assert (found.spread, found.error) == pytest.approx((0.1, 0.2))
    assert ({*found.elements}, found.atoms) == ({"H"}, 3)


def test_the_dipole_that_was_said_is_kept(run: RunDir) -> None:
    dipole = np.array([0.1, -0.2, 0.3])
    said = Prediction(1.5, SAID.forces, SAID.member_energies, FORCES, beside={"dipole": dipole})
    save_prediction(run.prediction("abc"), said, 3, 25, 0.05)
    kept = read_prediction(run.prediction("abc"))
    assert kept is not None
    np.testing.assert_array_equal(kept[0].beside["dipole"], dipole)


def test_without_a_prediction_nothing_is_held_against_a_label(run: RunDir) -> None:
    assert judged(run, STORED, 0, "max_atomic_sd") is None


def test_a_prediction_that_was_cut_off_or_knows_no_threshold_does_not_count(run: RunDir) -> None:
    path = run.prediction("abc")
    save_prediction(path, SAID, 3, 25, 0.1)
    with np.load(path) as found:
        arrays = {name: found[name] for name in found if name != "threshold"}
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert read_prediction(path) is None
    np.savez(path, **arrays)  # as releases before 0.2 wrote it
    assert read_prediction(path) is None
