"""Numbers far from what is usual are questioned; usual ones are not."""

from __future__ import annotations

import pytest

AL = "ACTIVE_LEARNING"


@pytest.mark.parametrize(
    ("file", "section", "key", "doubtful", "usual"),
    [
        ("aimsPAX.yaml", "MD", "timestep", ["50", "5e-16", "0.01"], ["0.25", "2"]),
        ("aimsPAX.yaml", AL, "desired_acc", ["50", "1e-5"], ["0.05", "0.001"]),
        ("mace.yaml", "ARCHITECTURE", "r_max", ["500", "0.5"], ["4", "6.0"]),
        ("mace.yaml", "ARCHITECTURE", "atomic_energies", ["{H: 13.6}", "{H: -0.5}"], ["{H: -13}"]),
    ],
)  # fmt: skip
def test_what_is_unusual_is_questioned(inputs, file, section, key, doubtful, usual):
    for texts, told in ((doubtful, True), (usual, False)):
        for text in texts:
            inputs.plant(file, section, key, text)
            notes = inputs.load().notes
            assert any(f"{section}.{key}" in note for note in notes) is told, text


def test_cells_that_move_by_models_without_stress(inputs):
    inputs.plant("aimsPAX.yaml", "MD", "stat_ensemble", "NPT")
    assert any("do not train on stress" in note for note in inputs.load().notes)
    inputs.plant("mace.yaml", "GENERAL", "compute_stress", "True")
    inputs.plant("mace.yaml", "TRAINING", "loss", "stress")
    assert not any("do not train on stress" in note for note in inputs.load().notes)
