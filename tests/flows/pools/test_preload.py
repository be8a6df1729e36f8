"""What a worker does first: its orders, whether it fits the flow, its GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aimspax_core.machine import WORKER_ADDRESS
from aimspax_core.settings.cluster import Cluster
from aimspax_core.versions import versions
from flows.pools.batch import orders
from flows.pools.environment import IMPORTS
from flows.pools.jobs.slurm import Slurm
from flows.pools.preload import AWAY, GPUS, POOL, REFUSED, Orders, mismatch
from flows.pools.warm_parent import NAMES
from tests.conftest import free_port

HERE = {"python": "3.11.7", "prefect": "3.8.8", "torch": "2.13.0"}
START = """
import os, sys
from distributed import Security, Worker
from flows.pools import preload as worker
worker._API_PATIENCE_S = 0.5
starting = Worker.__new__(Worker)  # one that need not find a scheduler
starting.name = sys.argv[1]
starting._address = "tls://here:1"
starting.security = Security()
worker.dask_setup(starting)
print({name: os.environ.get(name) for name in sys.argv[2:]})
"""


def _start(
    name: str = "reference-0", asked: tuple[str, ...] = (), **variables: str
) -> subprocess.CompletedProcess[str]:
    """Do in a process of its own what a worker does first; its output tells of variables."""
    return subprocess.run(
        [sys.executable, "-c", START, name, *asked],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def _seen(done: subprocess.CompletedProcess[str]) -> dict[str, str | None]:
    assert done.returncode == 0, done.stderr
    found: dict[str, str | None] = eval(done.stdout)
    return found


def test_a_worker_has_no_variables_of_who_started_its_parent():
    sent = ",".join(("FLOWS", *(name for name in os.environ if name != "ANOTHERS")))
    variables = {"FLOWS": "1", "ANOTHERS": "1", NAMES: sent, IMPORTS: "none"}
    seen = _seen(_start(asked=("FLOWS", "ANOTHERS", NAMES, IMPORTS), **variables))
    assert {name for name, value in seen.items() if value is not None} == {"FLOWS"}


# Whether it fits


def test_the_same_versions_fit():
    assert mismatch(HERE, dict(HERE)) == ""


def test_another_version_is_named_with_ours():
    told = mismatch(HERE, {**HERE, "torch": "2.1.0"})
    assert told == "torch is 2.1.0 there, 2.13.0 here"


def test_all_that_differs_is_named():
    told = mismatch(HERE, {**HERE, "torch": "2.1.0", "python": "3.9.2"})
    assert all(word in told for word in ("2.1.0", "2.13.0", "3.9", "3.11"))


def test_a_patch_release_of_python_does_not_matter():
    assert mismatch(HERE, {**HERE, "python": "3.11.14"}) == ""


def test_a_package_that_is_not_there_is_named():
    told = mismatch(HERE, {"python": "3.11.7", "prefect": "3.8.8"})
    assert told == "torch is none there, 2.13.0 here"


def test_a_worker_with_other_versions_ends_and_says_why(tmp_path: Path):
    Orders(versions={**versions(), "numpy": "0.0.1"}).write(tmp_path)
    done = _start(**{POOL: str(tmp_path)})
    assert done.returncode == 3
    told = (tmp_path / REFUSED).read_text()
    assert f"numpy is {versions()['numpy']} there, 0.0.1 here" in told
    assert sys.executable in told
    assert told in done.stderr


# Orders


def test_orders_are_read_as_they_were_written(tmp_path: Path):
    written = Orders(
        variables={"A": "b c"}, unset=("D",), versions={"python": "3.11.7"}, api="http://here"
    )
    written.write(tmp_path)
    read = Orders.read(tmp_path)
    assert (read.variables, tuple(read.unset), read.versions, read.api) == (
        written.variables, written.unset, written.versions, written.api,
    )  # fmt: skip


def test_only_their_owner_can_read_orders(tmp_path: Path):
    before = os.umask(0)
    try:
        Orders(variables={"PREFECT_API_AUTH_STRING": "a:b"}).write(tmp_path)
    finally:
        os.umask(before)
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_worker_gets_what_the_flow_has_of_prefect_and_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:hunter2")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    jobs = Cluster.model_validate({"type": "slurm", "slurm_str": "#SBATCH -t 1"}).reference_jobs
    assert jobs is not None
    orders(Slurm(), jobs, gpus=False).write(tmp_path)
    monkeypatch.delenv("PREFECT_API_AUTH_STRING")
    seen = _seen(_start(asked=("PREFECT_API_AUTH_STRING",), **{POOL: str(tmp_path)}))
    assert seen == {"PREFECT_API_AUTH_STRING": "admin:hunter2"}


def test_srun_hands_on_the_environment_of_a_job_that_had_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    jobs = Cluster.model_validate({"type": "slurm", "slurm_str": "#SBATCH -t 1"}).reference_jobs
    assert jobs is not None
    orders(Slurm(), jobs, gpus=False).write(tmp_path)
    job = {POOL: str(tmp_path), "SLURM_EXPORT_ENV": "NONE", "SLURM_NTASKS": "8"}
    seen = _seen(_start(asked=("SLURM_EXPORT_ENV", "SLURM_NTASKS"), **job))
    assert seen == {"SLURM_EXPORT_ENV": None, "SLURM_NTASKS": "8"}  # the whole job is its


def test_a_share_of_a_job_does_not_have_the_tasks_of_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    header = "#SBATCH --ntasks-per-node=4 --cpus-per-task=2"
    given = {"type": "slurm", "slurm_str": header, "cores_per_job": 4}
    jobs = Cluster.model_validate(given).reference_jobs
    assert jobs is not None
    orders(Slurm(), jobs, gpus=False).write(tmp_path)
    job = {"SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "4", "SLURM_MEM_PER_CPU": "512"}
    asked = (*job, "SRUN_CPUS_PER_TASK", "SLURM_EXACT", "SLURM_NNODES")
    assert _seen(_start(asked=asked, **job, **{POOL: str(tmp_path)})) == {
        "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": None, "SLURM_MEM_PER_CPU": None,
        "SRUN_CPUS_PER_TASK": "2", "SLURM_EXACT": "1", "SLURM_NNODES": "1",
    }  # fmt: skip


def test_a_worker_that_cannot_reach_the_api_ends_and_says_so(tmp_path: Path):
    api = f"http://127.0.0.1:{free_port()}/api"
    Orders(api=api).write(tmp_path)
    done = _start(**{POOL: str(tmp_path)})
    assert done.returncode == 3
    assert f"the Prefect API at {api} cannot be reached" in done.stderr
    assert "refused" in done.stderr
    # Nobody can reach it, as the flow knows: that is no reason to end a job.
    (tmp_path / AWAY).touch()
    assert _start(**{POOL: str(tmp_path)}).returncode == 0


# GPUs


@pytest.mark.parametrize(
    ("name", "gpu"), [("ml-0-0", "4"), ("ml-0-1", "GPU-5f"), ("ml-3-2", "4"), ("ml-3", "GPU-5f")]
)
def test_the_workers_of_a_job_share_its_gpus(tmp_path: Path, name: str, gpu: str):
    Orders(variables={GPUS: "job"}).write(tmp_path)
    job = {POOL: str(tmp_path), "CUDA_VISIBLE_DEVICES": "4,GPU-5f"}
    seen = _seen(_start(name, ("CUDA_VISIBLE_DEVICES",), **job))
    assert seen == {"CUDA_VISIBLE_DEVICES": gpu}


def test_a_job_without_gpus_has_none_to_deal(tmp_path: Path):
    Orders(variables={GPUS: "job"}).write(tmp_path)
    job = {POOL: str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    assert _seen(_start("ml-0", ("CUDA_VISIBLE_DEVICES",), **job)) == {"CUDA_VISIBLE_DEVICES": ""}


# Where it starts


def test_a_worker_tells_its_tasks_its_address() -> None:
    assert _seen(_start(asked=(WORKER_ADDRESS,))) == {WORKER_ADDRESS: "tls://here:1"}


def test_a_worker_takes_no_code_from_where_it_starts(tmp_path: Path):
    for name in ("flows", "tasks", "aimspax_core"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('not this one')")
    Orders().write(tmp_path)
    command = [sys.executable, "-P", "-m", "distributed.cli.dask_worker", "tcp://127.0.0.1:1"]
    command += ["--no-nanny", "--preload", "flows.pools.preload", "--death-timeout", "1"]
    done = subprocess.run(
        [*command, "--no-dashboard", "--name", "reference-0"],
        cwd=tmp_path,
        env={**os.environ, POOL: str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "not this one" not in done.stderr
    assert "Run preload setup: flows.pools.preload" in done.stderr
