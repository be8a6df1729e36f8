"""What `aimspax check` says of job scripts."""

from __future__ import annotations

from pathlib import Path

import pytest

from aimspax_core.errors import SettingsError
from aimspax_core.settings.cluster import BatchJobs, Cluster
from flows.pools.jobs.script_check import _wrong, host_for_jobs


def jobs(**keys: object) -> BatchJobs:
    content = {"type": "slurm", "slurm_str": "#SBATCH --time=60", **keys}
    found = Cluster.model_validate(content).reference_jobs
    assert found is not None
    return found


def script(folder: Path, text: str) -> Path:
    file = folder / "job.sh"
    file.write_text(f"#!/bin/bash\n{text}\n")
    return file


def test_shell_lines_that_bash_cannot_read_are_told_with_their_line(tmp_path: Path):
    told = _wrong(script(tmp_path, "if true; then"), jobs())
    assert "worker_str" in told
    assert "line 3" in told


def test_a_python_that_is_not_there_is_told(tmp_path: Path):
    assert "/nope/python" in _wrong(script(tmp_path, "true"), jobs(python="/nope/python"))


def test_a_good_script_has_nothing_wrong(tmp_path: Path):
    assert _wrong(script(tmp_path, "module load intel"), jobs(python="python3")) == ""


def test_without_slurm_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))

    class Given:
        cluster = Cluster.model_validate({"type": "slurm", "slurm_str": "#SBATCH -t 60"})

    with pytest.raises(SettingsError, match="sbatch, squeue, scancel"):
        host_for_jobs(Given())  # type: ignore[arg-type]
