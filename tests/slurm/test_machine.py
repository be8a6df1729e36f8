"""The Slurm of the tests is a real one: it runs jobs, loses them, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import psutil
import pytest

from tests.slurm.machine import Slurm, running

SLEEP = "#!/bin/bash\n#SBATCH --ntasks=4 --mem=100 --time=10\nexec sleep 600\n"


def test_a_job_runs_where_it_was_submitted(slurm: Slurm, tmp_path: Path) -> None:
    job = slurm.submit("#!/bin/bash\nsrun pwd > said\n", cwd=tmp_path)
    slurm.wait(lambda: slurm.state(job) == "COMPLETED", "the job is done")
    assert (tmp_path / "said").read_text().strip() == str(tmp_path)


def test_programs_find_it_by_the_environment(slurm: Slurm) -> None:
    said = subprocess.run(["sinfo", "-h", "-o", "%R"], capture_output=True, text=True, check=True)
    assert {*said.stdout.split()} == {"debug", "scavenge", "gpu"}


def test_a_job_sees_the_gpus_that_it_asked_for(slurm: Slurm, tmp_path: Path) -> None:
    script = "#!/bin/bash\n#SBATCH -p gpu --gres=gpu:1\necho $CUDA_VISIBLE_DEVICES > said\n"
    job = slurm.submit(script, cwd=tmp_path)
    slurm.wait(lambda: slurm.state(job) == "COMPLETED", "the job is done")
    assert (tmp_path / "said").read_text().strip() in {"0", "1"}


def test_a_cancelled_job_is_over(slurm: Slurm, sleeping: int) -> None:
    slurm.cancel(sleeping)
    slurm.wait(lambda: not slurm.jobs(), "the job is gone")
    assert slurm.state(sleeping) == "CANCELLED"


@pytest.mark.slow
def test_a_requeued_job_runs_again_under_its_id(slurm: Slurm, sleeping: int) -> None:
    slurm.requeue(sleeping)
    slurm.wait(lambda: slurm.state(sleeping) == "PENDING", "the job waits")
    slurm.wait(lambda: slurm.state(sleeping) == "RUNNING", "the job runs again")


def test_a_lost_node_sends_its_job_back_to_the_queue(slurm: Slurm, sleeping: int) -> None:
    slurm.node_down()
    slurm.wait(lambda: slurm.state(sleeping) == "PENDING", "the job waits")
    assert slurm.nodes()["cpu1"] == "down"


@pytest.mark.slow
def test_a_job_past_its_limit_is_ended(slurm: Slurm, sleeping: int) -> None:
    slurm.time_out(sleeping)
    slurm.wait(lambda: slurm.state(sleeping) == "TIMEOUT", "the limit is reached", seconds=60)


def test_a_job_gives_way_to_one_of_a_higher_partition(slurm: Slurm, tmp_path: Path) -> None:
    low = slurm.submit(SLEEP, "--partition=scavenge", cwd=tmp_path)
    slurm.wait(lambda: slurm.state(low) == "RUNNING", "the job runs")
    high = slurm.submit(SLEEP, "--partition=debug", cwd=tmp_path)
    slurm.wait(lambda: slurm.state(high) == "RUNNING", "the other one runs")
    assert slurm.state(low) == "PENDING"


def test_a_frozen_controller_answers_again_afterwards(slurm: Slurm) -> None:
    with slurm.controller_frozen():
        asked = subprocess.Popen(["squeue"], stdout=subprocess.DEVNULL)
        with pytest.raises(subprocess.TimeoutExpired):
            asked.wait(1)
    assert asked.wait() == 0


def test_nothing_is_left_of_it(sleeping: int) -> None:
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as folder:
        with running(Path(folder) / "run") as other:
            job = other.submit(SLEEP, cwd=Path(folder))
            other.wait(lambda: other.state(job) == "RUNNING", "the job runs")
            assert _processes_of(other)
        _, left = psutil.wait_procs(
            _processes_of(other), timeout=10
        )  # one that looks once a second
        assert not left


@pytest.fixture
def sleeping(slurm: Slurm, tmp_path: Path) -> int:
    """A job that fills its node and sleeps."""
    job = slurm.submit(SLEEP, cwd=tmp_path)
    slurm.wait(lambda: slurm.state(job) == "RUNNING", "the job runs")
    return job


def _processes_of(slurm: Slurm) -> list[psutil.Process]:
    """The daemons, and all that runs in jobs."""
    conf = str(slurm.conf)
    return [
        process
        for process in psutil.process_iter()
        if process.pid != os.getpid() and _names(process, conf)
    ]


def _names(process: psutil.Process, conf: str) -> bool:
    try:
        return conf in process.cmdline() or process.environ().get("SLURM_CONF") == conf
    except psutil.Error:  # it is over, or not ours
        return False
