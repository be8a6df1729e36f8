"""The deployments of `deployments/prefect.yaml`: a worker runs a campaign, and is told to stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import httpx
import psutil
import pytest
from ase.build import molecule

from aimspax_core.campaign.journal import load as load_journal
from aimspax_core.campaign.state import Phase
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.load import load as load_settings
from flows.server import Server

ROOT = Path(__file__).parents[2]
PREFECT = [sys.executable, "-m", "prefect", "--no-prompt"]
POOL = "aimspax-local"
PROJECT = """
REFERENCE: {engine: tblite}
INITIAL_DATASET_GENERATION:
  initial_sampling: aimd
  n_points_per_sampling_step_idg: 3
  skip_step_initial: 5
  ensemble_size: 2
  intermediate_epochs_idg: 1
  max_initial_epochs: 1
ACTIVE_LEARNING:
  num_trajectories: 2
  skip_step_mlff: 4
  c_x: -0.5
  max_train_set_size: 8
  max_convergence_epochs: 2
MD: {stat_ensemble: NVT, temperature: 300, timestep: 0.5, friction: 0.01}
GATE: {max_force: 80}
CLUSTER: {type: local, max_workers: 1, ml: {max_workers: 1}}
MISC: {path_to_geometry: geometry.xyz}
"""
MODEL = """
GENERAL: {name_exp: water, seed: 1}
ARCHITECTURE: {r_max: 3.0, num_channels: 4, max_L: 0, max_ell: 1, correlation: 1, radial_MLP: [8]}
TRAINING: {batch_size: 2, valid_batch_size: 2}
"""

pytestmark = pytest.mark.slow


@dataclass
class Site:
    """A server that knows the deployments, a worker, and what the worker printed."""

    server: Server
    worker: subprocess.Popen[bytes]
    log: Path

    def api(self, method: str, path: str, body: Any = None) -> Any:
        for _ in range(20):
            answer = httpx.request(method, f"{self.server.api_url}/{path}", json=body, timeout=20)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:  # SQLite is busy
                break
            time.sleep(0.5)
        answer.raise_for_status()
        return answer.json()

    def deployment(self, name: str = "aims-pax/local") -> Any:
        return self.api("GET", f"deployments/name/{name}")

    def start(self, directory: Path | str, **overrides: Any) -> str:
        """Start a run as the web page's form does; return its id."""
        parameters = {"directory": str(directory), "overrides": overrides or None}
        path = f"deployments/{self.deployment()['id']}/create_flow_run"
        run = self.api("POST", path, {"parameters": parameters, "state": {"type": "SCHEDULED"}})
        return str(run["id"])

    def ended(self, run: str, patience_s: float = 150) -> Any:
        """Wait until a run has ended; return its state."""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            state = self.api("GET", f"flow_runs/{run}")["state"]
            if state["type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}:
                return state
            time.sleep(0.3)
        pytest.fail(f"still {state['name']}; the worker said:\n{self.log.read_text()[-4000:]}")

    def told(self, run: str, until: str = "") -> str:
        """What the run's page shows as its log, which may come a little later than its end."""
        body = {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC"}
        for _ in range(40):
            lines = [line["message"] for line in self.api("POST", "logs/filter", body)]
            if any(until in line for line in lines):
                break
            time.sleep(0.5)
        return "\n".join(lines)

    def processes(self) -> list[str]:
        """Everything that runs below the worker."""
        children = psutil.Process(self.worker.pid).children(recursive=True)
        return [f"{child.pid}: {child.name()}" for child in children if child.is_running()]


@pytest.fixture(scope="module")
def site(prefect_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """What README.md says: a pool, the deployments, and a worker that is started anywhere."""
    prefect("work-pool", "create", POOL, "--type", "process")
    prefect("deploy", "--all", "--prefect-file", "deployments/prefect.yaml")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    with (elsewhere / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            [*PREFECT, "worker", "start", "--pool", POOL],
            stdout=log, stderr=subprocess.STDOUT, cwd=elsewhere,
            env={**os.environ, "PREFECT_WORKER_QUERY_SECONDS": "1"},
        )  # fmt: skip
    try:
        yield Site(prefect_server, worker, elsewhere / "worker.log")
    finally:
        left = psutil.Process(worker.pid).children(recursive=True)
        worker.send_signal(signal.SIGINT)
        try:
            worker.wait(timeout=40)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
        for process in left:
            if process.is_running():
                process.kill()


def prefect(*arguments: str) -> str:
    done = subprocess.run(
        [*PREFECT, *arguments],
        capture_output=True, text=True, timeout=90, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("campaign") / "water"
    directory.mkdir()
    (directory / "aimsPAX.yaml").write_text(PROJECT)
    (directory / "mace.yaml").write_text(MODEL)
    ase.io.write(directory / "geometry.xyz", molecule("H2O"))
    return directory


@pytest.mark.parametrize("flow", ["aims-pax", "initial-dataset", "active-learning"])
def test_the_form_asks_for_a_path_and_an_object_and_says_what_they_are(
    site: Site, flow: str
) -> None:
    schema = site.deployment(f"{flow}/local")["parameter_openapi_schema"]
    assert schema["required"] == ["directory"]
    assert list(schema["properties"]) == ["directory", "overrides"]
    found = schema["properties"]["directory"]
    assert (found["type"], found["format"]) == ("string", "path")
    assert found["description"].startswith("The run directory")
    kinds = [kind["type"] for kind in schema["properties"]["overrides"]["anyOf"]]
    assert kinds == ["object", "null"]
    assert "ACTIVE_LEARNING" in json.dumps(schema) or "INITIAL_DATASET" in json.dumps(schema)


def test_the_flow_is_imported_from_the_installed_package(site: Site) -> None:
    found = site.deployment()
    assert found["entrypoint"] == "flows.pipeline.aims_pax"
    assert found["pull_steps"] in ([], None)


def test_a_mistake_is_the_runs_state_and_no_traceback(site: Site, directory: Path) -> None:
    run = site.start(directory, **{"ACTIVE_LEARNING.num_trajectorys": 3})
    state = site.ended(run)
    assert state["type"] == "FAILED"
    assert "did you mean num_trajectories?" in state["message"]
    told = site.told(run, until="Finished in state")
    assert "did you mean num_trajectories?" in told
    assert "Traceback" not in told
    assert not (directory / "aimspax").exists()


def test_a_run_can_be_cancelled_and_the_next_one_finishes(site: Site, directory: Path) -> None:
    first = site.start(f"{directory}\n")  # the form's box takes the end of a line
    _wait_for_labels(site, directory, first)
    second = site.start(directory)
    refused = site.ended(second)
    assert refused["type"] == "FAILED"
    assert "this campaign is being run by process" in refused["message"]

    cancelling = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    site.api("POST", f"flow_runs/{first}/set_state", cancelling)
    assert site.ended(first, patience_s=45)["type"] == "CANCELLED"
    deadline = time.monotonic() + 15
    while (left := site.processes()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left, "the run's Dask workers end with it"
    assert not _finished(directory)

    output = prefect("deployment", "run", "aims-pax/local", "--param", f"directory={directory}")
    assert "Created flow run" in output
    runs = site.api("POST", "flow_runs/filter", {"sort": "EXPECTED_START_TIME_DESC", "limit": 1})
    third = runs[0]["id"]
    assert site.ended(third)["type"] == "COMPLETED"
    assert site.api("GET", f"flow_runs/{third}")["name"] == "water"
    assert "taken up again" in site.told(third, until="taken up again")
    assert _finished(directory)
    assert list((directory / "results").glob("water-*.model"))


def test_a_finished_campaign_says_so(site: Site, directory: Path) -> None:
    assert _finished(directory), "the test before runs it"
    run = site.start(directory)
    state = site.ended(run)
    assert state["type"] == "COMPLETED"
    assert "finished" in state["message"]
    assert "finished already" in site.told(run, until="Finished in state")


def test_the_logs_begin_with_the_settings_in_force(directory: Path) -> None:
    taken_up = 0
    for name in ("initial_dataset", "active_learning"):
        lines = (directory / "logs" / f"{name}.log").read_text().splitlines()
        assert f"the campaign in {directory}" in lines[0]
        assert lines[1].endswith("settings in force, defaults included")
        assert "      temperature: 300.0" in lines
        assert "      r_max: 3.0" in lines
        assert any(line.startswith("    mace-torch: ") for line in lines)
        taken_up += sum("takes the campaign in" in line for line in lines)
    assert taken_up >= 2, "the run after the cancelled one, and the one that had nothing to do"


def _finished(directory: Path) -> bool:
    state = load_journal(RunDir.of(load_settings(directory)))[1]
    return state is not None and state.phase is Phase.FINISHED


def _wait_for_labels(site: Site, directory: Path, run: str) -> None:
    """Wait until the campaign has got labels."""
    for _ in range(300):
        if any((directory / "aimspax" / "labels").glob("*/*.json")):
            return
        time.sleep(0.2)
    pytest.fail(f"no labels:\n{site.told(run)}\n{site.log.read_text()[-4000:]}")
