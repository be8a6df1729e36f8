"""The script of a pool's jobs, with Slurm: what users wrote, one worker, and no secret."""

from __future__ import annotations

import json
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aimspax_core.settings.cluster import BatchJobs, Cluster
from flows.pools.environment import MEMORY
from flows.pools.jobs.script import BatchCluster, BatchJob, key_files, keys
from flows.pools.jobs.slurm import Slurm as Queue
from flows.pools.preload import POOL
from tests.slurm.machine import Slurm

slurm_queue = Queue()
SCHEDULER = "tls://127.0.0.1:4711"
HEADER = """
#SBATCH --partition=debug      # the small one
#SBATCH -t 10 -J "two words"
#SBATCH --ntasks-per-node=2
#SBATCH --mem=500
##SBATCH --account=nobody
#SBATCH --comment="as it is, with blanks"
"""
PYTHON = """#!{python}
import json, os, sys
told = {{"argv": sys.argv[1:], "pool": os.environ["AIMSPAX_POOL"], "own": os.environ.get("OWN"),
        "trim": os.environ.get("MALLOC_TRIM_THRESHOLD_"),
        "mmap": os.environ.get("MALLOC_MMAP_THRESHOLD_"),
        "pid": os.getpid(), "parent": open(f"/proc/{{os.getppid()}}/comm").read().strip()}}
print(json.dumps(told), file=open(os.path.join(os.path.dirname(__file__), "told.json"), "w"))
print("it has run")
"""


def _jobs(**content: object) -> BatchJobs:
    given = {"type": "slurm", "slurm_str": HEADER, **content}
    jobs = Cluster.model_validate(given).reference_jobs
    assert jobs is not None
    return jobs


def _job(folder: Path, jobs: BatchJobs, output: str = "out-") -> str:
    """The script of a job; the folder gets its keys."""
    header = slurm_queue.header(jobs, output)
    given: dict[str, Any] = {"jobs": jobs, "header": header, "security": keys(folder)}
    return str(BatchJob(SCHEDULER, "reference-0", folder=folder, **given).job_script())


def _directives(script: str) -> list[str]:
    found = [line.removeprefix("#SBATCH ") for line in script.splitlines()]
    return [line for line in found if line.startswith("--")]


def _option(argv: list[str], name: str) -> str:
    return argv[argv.index(name) + 1]


# What users wrote


def test_the_options_of_users_are_all_there(tmp_path: Path) -> None:
    assert {*_directives(_job(tmp_path, _jobs()))} >= {
        "--partition=debug", "--time=10", '--job-name="two words"', "--ntasks-per-node=2",
        "--mem=500", '--comment="as it is, with blanks"',
    }  # fmt: skip


def test_nothing_is_added_but_nodes_and_what_is_printed(tmp_path: Path) -> None:
    names = [re.match(r"--[\w-]+", line)[0] for line in _directives(_job(tmp_path, _jobs()))]  # type: ignore[index]
    asked = ["partition", "time", "job-name", "ntasks-per-node", "mem", "comment"]
    assert sorted(names) == sorted(f"--{n}" for n in [*asked, "nodes", "output", "open-mode"])


def test_a_job_has_its_nodes(tmp_path: Path) -> None:
    jobs = _jobs(blocks={"nodes_per_block": 3})
    assert "--nodes=3" in _directives(_job(tmp_path, jobs))


def test_where_users_have_their_output_it_stays(tmp_path: Path) -> None:
    jobs = _jobs(slurm_str=f"{HEADER}\n#SBATCH -o mine-%j.txt")
    found = [line for line in _directives(_job(tmp_path, jobs)) if line.startswith("--output")]
    assert found == ["--output=mine-%j.txt"]


def test_the_shell_lines_of_users_come_before_the_worker(tmp_path: Path) -> None:
    lines = _job(tmp_path, _jobs(worker_str="module load x\nexport OWN=1")).splitlines()
    own = lines.index("module load x")
    assert lines[own + 1] == "export OWN=1"
    assert own < lines.index(next(line for line in lines if "dask_worker" in line))


def test_the_worker_is_the_last_line_and_takes_the_place_of_the_shell(tmp_path: Path) -> None:
    script = _job(tmp_path, _jobs()).strip()
    assert script.count("dask_worker") == 1
    assert script.splitlines()[-1].startswith("exec ")
    assert "srun" not in script


# Secrets


def test_the_keys_are_their_owners_alone(tmp_path: Path) -> None:
    keys(tmp_path)
    files = {*tmp_path.iterdir()}
    assert {file.name for file in files} == {"ca_file.pem", "cert.pem", "key.pem"}
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_two_pools_do_not_have_the_same_key(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    keys(tmp_path / "a")
    keys(tmp_path / "b")
    assert (tmp_path / "a" / "key.pem").read_text() != (tmp_path / "b" / "key.pem").read_text()


def test_no_secret_is_in_the_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:hunter2")
    script = _job(tmp_path, _jobs())
    assert "hunter2" not in script
    key = [line for line in (tmp_path / "key.pem").read_text().splitlines() if "---" not in line]
    assert key and not any(line in script for line in key)


def test_connections_are_refused_without_encryption(tmp_path: Path) -> None:
    argv = shlex.split(_job(tmp_path, _jobs()).splitlines()[-1])
    assert key_files(tmp_path).require_encryption
    for kind in ("ca-file", "cert", "key"):
        assert Path(_option(argv, f"--tls-{kind}")).parent == tmp_path


# Time


@pytest.mark.parametrize("time", ["1", "10", "1:00:00", "7-0"])
def test_a_worker_leaves_before_its_job_is_over(tmp_path: Path, time: str) -> None:
    jobs = _jobs(slurm_str=f"#SBATCH --time={time}")
    assert jobs.walltime_s is not None
    line = _job(tmp_path, jobs).splitlines()[-1]
    lifetime = re.search(r'--lifetime "\$\(\((\d+) - SECONDS\)\) seconds"', line)
    stagger = re.search(r"--lifetime-stagger ([\d.]+)s", line)
    assert lifetime and stagger
    assert 0.5 * jobs.walltime_s < float(lifetime[1]) + float(stagger[1]) < jobs.walltime_s


def test_without_a_time_limit_a_worker_stays(tmp_path: Path) -> None:
    script = _job(tmp_path, _jobs(slurm_str="#SBATCH --partition=debug"))
    assert "--lifetime" not in script


# Several


def test_a_job_has_a_worker_for_each_calculation(tmp_path: Path) -> None:
    jobs = _jobs(cores_per_job=1)
    argv = shlex.split(_job(tmp_path, jobs).splitlines()[-1])
    assert (_option(argv, "--nworkers"), _option(argv, "--nthreads")) == ("2", "1")
    assert _option(argv, "--preload-nanny") == "flows.pools.preload"


# What Slurm and bash make of it


@dataclass
class Ran:
    """What a program that took the worker's place saw in a real job."""

    folder: Path
    argv: list[str]
    pool: str
    own: str
    trim: str
    mmap: str
    pid: int
    parent: str


@pytest.fixture
def ran(slurm: Slurm, tmp_path: Path) -> Ran:
    """The worker's Python is another program, in a folder that is hard to name."""
    folder = tmp_path / "50% of 'it' $HOME" / "x%jx y"
    folder.mkdir(parents=True)
    python = folder / "my python"
    python.write_text(PYTHON.format(python=sys.executable))
    python.chmod(0o755)
    jobs = _jobs(python=str(python), worker_str="export OWN='a b' MALLOC_TRIM_THRESHOLD_=1")
    script = folder / "reference-0.sh"
    script.write_text(_job(folder, jobs, str(folder / "out-")))
    job = slurm_queue.submit(script)
    slurm.wait(lambda: slurm.state(int(job)) == "COMPLETED", "the job is done")
    assert "it has run" in (folder / f"out-{job}.out").read_text()
    return Ran(folder, **json.loads((folder / "told.json").read_text()))


def test_a_job_runs_wherever_its_folder_is(ran: Ran) -> None:
    assert ran.pool == str(ran.folder)
    assert _option(ran.argv, "--tls-key") == str(ran.folder / "key.pem")
    assert ran.argv[:4] == ["-P", "-m", "distributed.cli.dask_worker", SCHEDULER]
    assert ran.own == "a b"
    assert ran.parent.startswith("slurmstepd")  # no shell between
    lifetime = _option(ran.argv, "--lifetime")
    assert re.fullmatch(r"5\d\d seconds", lifetime)
    # Memory that is freed is kept, as far as the user's lines do not say otherwise.
    assert (ran.trim, ran.mmap) == ("1", MEMORY["MALLOC_MMAP_THRESHOLD_"])


@pytest.mark.parametrize("content", [{}, {"cores_per_job": 1}, {"worker_str": "module load x"}])
def test_slurm_takes_the_script(slurm: Slurm, tmp_path: Path, content: dict[str, object]) -> None:
    script = tmp_path / "reference-0.sh"
    script.write_text(_job(tmp_path, _jobs(**content)))
    assert "in partition debug" in slurm_queue.tried(script)


def test_a_cluster_has_a_script_for_each_of_its_jobs(tmp_path: Path) -> None:
    options = {"jobs": _jobs(), "header": [], "folder": tmp_path, "security": keys(tmp_path)}
    where = {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0"}
    with BatchCluster(**options, scheduler_options=where, silence_logs=50) as cluster:
        script = cluster.script("reference-7")
        argv = shlex.split(script.splitlines()[-1])
        assert _option(argv, "--name") == "reference-7"
        assert cluster.scheduler_address.startswith("tls://127.0.0.1:")
        assert cluster.scheduler_address in argv
        assert f"export {POOL}=" in script
