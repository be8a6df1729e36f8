"""Campaigns whose labels are Slurm jobs: their directories, and what can be seen of them."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ase.io
import psutil
from ase.build import molecule

from aimspax_core.campaign.journal import Entry, entries, load
from aimspax_core.campaign.state import CampaignState
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.run_directory import RunDir
from tests.prefect_api import call
from tests.slurm.machine import Slurm

AIMS = Path(__file__).parents[1] / "aims"
AIMSPAX = [sys.executable, "-c", "from flows.commands.app import main; main()"]
MARK = "AIMSPAX_TEST_MARK"
"""In the environment of a campaign's process, and so of all that it starts, here or as a job."""

UNDER_WAY = ("SCHEDULED", "PENDING", "RUNNING", "CANCELLING", "PAUSED")
"""Types of states from which a run of Prefect's goes on."""

PROJECT = """
INITIAL_DATASET_GENERATION:
  species_dir: {species}
  initial_sampling: engine
  sampling_engine: {{engine: tblite, method: GFN1-xTB}}
  n_points_per_sampling_step_idg: {points}
  skip_step_initial: 5
  ensemble_size: {members}
  intermediate_epochs_idg: 2
  max_initial_epochs: 2
  valid_ratio: 0.25
ACTIVE_LEARNING:
  species_dir: {species}
  num_trajectories: {trajectories}
  skip_step_mlff: 4
  c_x: -0.5
  epochs_per_worker: 1
  max_MD_steps: 80
  max_train_set_size: {most}
  max_convergence_epochs: 2
  save_trajectories: False
MD: {{stat_ensemble: NVT, temperature: 300, timestep: 0.1, friction: 0.01}}
REFERENCE: {{engine: aims}}
MISC: {{path_to_geometry: water.xyz}}
"""
# The time step is short: models of two epochs would soon tear water apart by a longer one, and the
# gate refuse the labels.

# As in the example of aims-PAX, but for partition, time and path.
CLUSTER = """
CLUSTER:
  type: slurm
  project_name: 'aimsPAX_example'
  parsl_options:
    nodes_per_block: 1
    init_blocks: 1
    min_blocks: 1
    max_blocks: {blocks}
    label: 'aimsPAX_example'

  slurm_str: |
    #SBATCH --job-name=aimsPAX_example
    #SBATCH --partition={partition}
    #SBATCH --nodes=1
    #SBATCH --ntasks-per-node=1
    #SBATCH --time={time}
    #SBATCH --account=XXX
    #SBATCH --qos=default
    {option}
  worker_str: |
    module load env/release/2023
    module load intel
    ulimit -s unlimited
    export OMP_NUM_THREADS=1
    export MKL_NUM_THREADS=1
    export MKL_DYNAMIC='FALSE'
    export WORK_QUEUE_DISABLE_SHARED_PORT=1

  launch_str: srun {launch} >> aims.out
  calc_dir: "./dft"
"""
ML_HERE = "  ml: {max_workers: 1}\n"
ML_JOBS = """  ml:
    slurm_str: |
      #SBATCH --partition=gpu
      #SBATCH --gres=gpu:1
      #SBATCH --mem=3G
      #SBATCH --time=00:30:00
"""
CONTROL = """# as a user of aims-PAX has it
xc                  pbe
spin                none
relativistic        atomic_zora scalar
charge              0.
sc_accuracy_forces  1E-4
"""
MODEL = """
GENERAL: {{name_exp: {name}, seed: 1}}
ARCHITECTURE:
  {{r_max: 3.5, num_channels: 4, max_L: 0, max_ell: 1, correlation: 1, num_interactions: 1,
   radial_MLP: [8]}}
TRAINING: {{batch_size: 2, valid_batch_size: 2}}
MISC: {{device: cpu}}
"""


@dataclass(frozen=True)
class Jobs:
    """What differs in the CLUSTER of a campaign."""

    partition: str = "debug"
    blocks: int = 3
    time: str = "00:10:00"
    option: str = ""
    ml: str = ML_HERE

    def section(self) -> str:
        return CLUSTER.format(
            partition=self.partition,
            blocks=self.blocks,
            time=self.time,
            option=f"#SBATCH {self.option}" if self.option else "",
            launch=f"{shlex.quote(sys.executable)} {shlex.quote(str(AIMS / 'stand_in.py'))}",
        ) + self.ml  # fmt: skip


@dataclass(frozen=True)
class Site:
    """Slurm, and a Prefect server that only these campaigns use."""

    slurm: Slurm
    environment: dict[str, str]

    def aimspax(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*AIMSPAX, *map(str, arguments)],
            env=self.environment, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    def server(self) -> dict[str, str]:
        """What points a shell at the Prefect server, its password included."""
        told = self.aimspax("server", "env")
        assert told.returncode == 0, told.stderr
        words = (shlex.split(line)[1] for line in told.stdout.splitlines())
        return dict(word.split("=", 1) for word in words)

    def api(self, path: str, body: Any) -> Any:
        server = self.server()
        url = f"{server['PREFECT_API_URL']}/{path}"
        return call("POST", url, body, server.get("PREFECT_API_AUTH_STRING"))

    def flow_runs(self, directory: Path) -> list[Any]:
        """All flow runs of a campaign, the newest first."""
        found = self.api("flow_runs/filter", {"sort": "EXPECTED_START_TIME_DESC", "limit": 50})
        return [run for run in found if str(run["parameters"].get("directory")) == str(directory)]

    def task_runs(self, directory: Path, seconds: float = 20) -> list[Any]:
        """All task runs of a campaign, once none is under way: the database is a little behind."""
        end = time.monotonic() + seconds
        while True:
            found = self._task_runs(directory)
            under_way = [run for run in found if run["state"]["type"] in UNDER_WAY]
            if not under_way or time.monotonic() > end:
                return found
            time.sleep(0.5)

    def _task_runs(self, directory: Path) -> list[Any]:
        ours = {"id": {"any_": [run["id"] for run in self.flow_runs(directory)]}}
        found: list[Any] = []
        while len(page := self.api(
            "task_runs/filter", {"flow_runs": ours, "limit": 200, "offset": len(found)}
        )):  # fmt: skip
            found += page
        return found


@dataclass
class Campaign:
    """A run directory, and the process that runs it."""

    site: Site
    directory: Path
    variables: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    outputs: list[str] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)

    def write(self, jobs: Jobs, **numbers: int) -> None:
        """Write the settings and all that they name."""
        self.directory.mkdir(exist_ok=True)
        numbers = {"points": 3, "members": 2, "trajectories": 3, "most": 16} | numbers
        project = PROJECT.format(species=AIMS / "species", **numbers)
        (self.directory / "aimsPAX.yaml").write_text(project + jobs.section())
        (self.directory / "mace.yaml").write_text(MODEL.format(name=self.directory.name))
        (self.directory / "control.in").write_text(CONTROL)
        ase.io.write(self.directory / "water.xyz", molecule("H2O"))

    @property
    def counter(self) -> Path:
        return self.directory / "starts"

    @property
    def starts(self) -> int:
        """How often the program of the reference was started."""
        return int(self.counter.read_text() or 0) if self.counter.exists() else 0

    def begin(self, command: str = "run", *arguments: str | Path) -> None:
        """Start a command in the background; it works in the run directory."""
        ours = {"AIMS_STAND_IN_COUNTER": str(self.counter), MARK: str(self.directory)}
        with (self.directory / "output.txt").open("wb") as output:
            self.process = subprocess.Popen(
                [*AIMSPAX, command, *map(str, arguments or [self.directory])],
                env={**self.site.environment, **self.variables, **ours},
                stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def end(self, seconds: float = 400) -> None:
        """Wait until it has ended by itself."""
        assert self.process is not None
        try:
            self.codes.append(self.process.wait(seconds))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end:\n{self.told()}") from None
        self.outputs.append(self.told())
        self.process = None

    def stop(self) -> None:
        """End it if a test has failed while it ran."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def told(self) -> str:
        return (self.directory / "output.txt").read_text()

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = 240) -> Any:
        """Return the condition's value once it holds; the campaign has to be running."""
        end = time.monotonic() + seconds
        while not (value := condition()):
            assert self.process is not None
            assert self.process.poll() is None, f"ended before {what}:\n{self.told()}"
            assert time.monotonic() < end, f"{what}: not within {seconds} s:\n{self.told()}"
            time.sleep(0.2)
        return value

    def calculations(self) -> dict[int, list[psutil.Process]]:
        """The calculations that run now, by their Slurm jobs."""
        found: dict[int, list[psutil.Process]] = {}
        for process in self.processes():
            with contextlib.suppress(psutil.Error, KeyError):
                command, environment = process.cmdline(), process.environ()
                if command[-1].endswith("stand_in.py") and "srun" not in command[0]:
                    found.setdefault(int(environment["SLURM_JOB_ID"]), []).append(process)
        return found

    def processes(self) -> list[psutil.Process]:
        """All that the campaign's process has started, here or as a job."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                ours = process.environ().get(MARK) == str(self.directory)
                # The server is for all campaigns, whoever has started it.
                if ours and "prefect" not in process.cmdline() and process.status() != "zombie":
                    found.append(process)
        return found

    def left(self, seconds: float = 20) -> list[str]:
        """The commands of its processes that are still there when it has ended, and its keys.

        Slurm kills what is left of a job a moment after it has said that the job ends, and the
        cleaner of a run that was killed outlives it.
        """
        end = time.monotonic() + seconds
        while (self.processes() or self.keys) and time.monotonic() < end:
            time.sleep(0.2)
        found = [str(key) for key in self.keys]
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                found.append(" ".join(process.cmdline()))
        return found

    def jobs(self) -> list[str]:
        """Its jobs that wait or run, by their scripts."""
        done = subprocess.run(
            ["squeue", "--noheader", "--format=%o"],
            env=self.site.environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return [row for row in done.stdout.splitlines() if row.startswith(str(self.directory))]

    @property
    def place(self) -> RunDir:
        return Inputs.read(self.directory).run

    @property
    def keys(self) -> list[Path]:
        """The folders of the pools."""
        return sorted((self.place.state / "slurm").glob("*"))

    @property
    def state(self) -> CampaignState:
        state = load(self.place)[1]
        assert state is not None
        return state

    @property
    def events(self) -> list[Any]:
        told: list[Entry] = list(entries(self.place.journal))
        return [entry.event for entry in told]

    def stored(self) -> dict[str, int]:
        """The labels in the store, and when each file was written."""
        found = self.place.labels.glob("*/*.json")
        return {path.stem: path.stat().st_mtime_ns for path in found}

    def arrived(self) -> Counter[str]:
        return Counter(e.key for e in self.events if e.kind == "label-arrived")

    def lost(self) -> list[Any]:
        """The tasks that were lost on the way, but for what a restart gave up."""
        return [e for e in self.events if e.kind == "task-lost" and e.counted]


@contextlib.contextmanager
def site(slurm: Slurm) -> Iterator[Site]:
    """Give campaigns a Prefect server of their own, which is not there before the first."""
    hidden = ("PREFECT_", "AIMSPAX_", "AIMS_STAND_IN")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    with tempfile.TemporaryDirectory(prefix="prefect-", dir="/tmp") as home:
        environment |= {"PREFECT_HOME": home, "PREFECT_SERVER_API_PORT": _free_port()}
        found = Site(slurm, {**environment, "SLURM_CONF": str(slurm.conf), "COLUMNS": "200"})
        try:
            yield found
        finally:
            found.aimspax("server", "stop")


def _free_port() -> str:
    from tests.conftest import free_port

    return str(free_port())
