"""`aimspax check` tells all mistakes at once, those that only the scheduler can see too."""

from __future__ import annotations

from pathlib import Path

import ase.io
import pytest
from ase.build import molecule

from aimspax_core.errors import SettingsError
from flows.commands.check import check

PROJECT = """
REFERENCE: {engine: tblite, spin: 2}
INITIAL_DATASET_GENERATION:
  initial_sampling: aimd
  n_points_per_sampling_step_idg: 3
  max_initial_epochs: 4
ACTIVE_LEARNING: {num_trajectories: 3, max_train_set_size: 16}
MD: {stat_ensemble: NVT}
MISC: {path_to_geometry: water.xyz}
CLUSTER:
  type: slurm
  host: 127.0.0.1
  slurm_str: |
    #SBATCH --partition=nosuch --time=60
"""

SBATCH = """#!/bin/sh
echo "sbatch: error: invalid partition specified: nosuch" >&2
exit 1
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run directory with a multiplicity that cannot be, and a Slurm that refuses its jobs."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sbatch", "squeue", "scancel"):
        (programs / name).write_text(SBATCH)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    (tmp_path / "aimsPAX.yaml").write_text(PROJECT)
    (tmp_path / "mace.yaml").write_text("GENERAL: {name_exp: test, seed: 3}")
    ase.io.write(tmp_path / "water.xyz", molecule("H2O"))
    return tmp_path


def test_what_slurm_refuses_is_told_beside_the_other_mistakes(directory: Path) -> None:
    with pytest.raises(SettingsError) as found:
        check(directory, {})
    lines = str(found.value).splitlines()
    assert any(line.startswith("aimsPAX.yaml:2  REFERENCE.spin: water.xyz") for line in lines)
    (refused,) = (line for line in lines if line.startswith("aimsPAX.yaml:10  CLUSTER: "))
    assert "reference pool" in refused and "invalid partition" in refused


def test_without_a_cluster_the_mistakes_are_told_as_they_are(directory: Path) -> None:
    project = PROJECT[: PROJECT.index("CLUSTER")]
    (directory / "aimsPAX.yaml").write_text(project)
    with pytest.raises(SettingsError, match=r"spin: water\.xyz") as found:
        check(directory, {})
    assert "CLUSTER" not in str(found.value)
