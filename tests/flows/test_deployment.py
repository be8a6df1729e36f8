"""Deployments on the services of `docker/compose.yaml`: PostgreSQL, Prefect's server, a worker.

`aimspax deploy` makes them; one campaign is killed in every way, and heals by itself to its end.
The tests follow one another: each takes the campaign on from where the one before left it.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import psutil
import pytest
from ase.build import molecule
from ruamel.yaml import YAML

from aimspax_core.campaign.journal import load as load_journal
from aimspax_core.campaign.state import Phase
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.load import load as load_settings
from tests.flows.compose_services import POSTGRES, ROOT, Compose, running
from tests.prefect_api import call

FINISHED = ROOT / "tests" / "fixtures" / "0.1.0-8e65e71" / "finished"
TRIES = 2
"""So often a run that died before it began is tried again."""

PATIENCE_S = 240.0
"""How long anything may take on a slow machine; a quiet one needs less than a third."""

SIGN_OF_LIFE_S, NO_SIGN_OF_LIFE_S = 30, 45
"""Heartbeats, and the automation's patience with them: the shortest that Prefect takes, to save
time. The files that are deployed are more patient."""

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
  max_train_set_size: 500
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
    """The services, as a user of the web page sees them."""

    compose: Compose

    def api(self, method: str, path: str, body: Any = None) -> Any:
        secret = (self.compose.secrets / "api" / "password").read_text().strip()
        return call(method, f"{self.compose.api_url}/{path}", body, secret)

    def deployment(self, name: str = "aims-pax/local") -> Any:
        return self.api("GET", f"deployments/name/{name}")

    def start(self, directory: Path | str, **overrides: Any) -> str:
        """Start a run as the web page's form does; return its id."""
        parameters = {"directory": str(directory), "overrides": overrides or None}
        path = f"deployments/{self.deployment()['id']}/create_flow_run"
        run = self.api("POST", path, {"parameters": parameters, "state": {"type": "SCHEDULED"}})
        return str(run["id"])

    def runs_of(self, deployment: str) -> list[Any]:
        """All runs of a deployment that have begun."""
        of = {"id": {"any_": [self.deployment(deployment)["id"]]}}
        runs = self.api("POST", "flow_runs/filter", {"deployments": of})
        return [run for run in runs if run["start_time"]]

    def ended(self, run: str, heals: bool = False) -> Any:
        """Wait until a run has ended, or, if it heals, until it has completed; return its state."""
        over = {"COMPLETED"} if heals else {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
        self.wait(lambda: self.state(run)["type"] in over, run)
        return self.state(run)

    def state(self, run: str) -> Any:
        return self.api("GET", f"flow_runs/{run}")["state"]

    def states(self, run: str) -> list[str]:
        """The names of all states that a run was in."""
        states = self.api("GET", f"flow_run_states/?flow_run_id={run}")
        return [one["name"] for one in sorted(states, key=lambda one: one["timestamp"])]

    def wait(self, until: Callable[[], Any], run: str = "") -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not until():
            if time.monotonic() > deadline:
                states = self.states(run) if run else []
                pytest.fail(f"{states}; the worker said:\n{self.compose.printed('worker')}")
            time.sleep(0.3)

    def told(self, run: str, until: str = "") -> str:
        """What the run's page shows as its log, which may come a little later than its end."""
        body = {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_DESC"}
        for _ in range(40):  # the last 200 lines
            lines = [line["message"] for line in self.api("POST", "logs/filter", body)][::-1]
            if any(until in line for line in lines):
                break
            time.sleep(0.5)
        return "\n".join(lines)

    def events(self, name: str) -> list[Any]:
        """Events of our own."""
        body = {"filter": {"event": {"name": [f"aimspax.{name}"]}}, "limit": 50}
        found: list[Any] = self.api("POST", "events/filter", body)["events"]
        return found

    def heartbeats(self, run: str) -> list[Any]:
        """The signs of life that a run has given."""
        resource = {"id": [f"prefect.flow-run.{run}"]}
        asked = {"event": {"name": ["prefect.flow-run.heartbeat"]}, "resource": resource}
        found: list[Any] = self.api("POST", "events/filter", {"filter": asked})["events"]
        return found

    def automation(self, name: str) -> Any:
        (found,) = [
            one for one in self.api("POST", "automations/filter", {}) if one["name"] == name
        ]
        return found

    def processes(self) -> list[psutil.Process]:
        """Everything that runs below the worker's own process."""
        top = psutil.Process(self.compose.processes["worker"].pid)
        return [one for one in top.children(recursive=True) if one.is_running()]

    def engine(self, run: str) -> psutil.Process | None:
        """The process of a flow run; None if it has none."""
        for one in self.processes():
            try:
                if "prefect.engine" in one.cmdline() and run in one.environ().values():
                    return one
            except psutil.Error:
                continue  # it has just ended
        return None

    def kill_flow(self, run: str) -> None:
        """Kill the process of a flow run."""
        engine = self.engine(run)
        assert engine is not None
        engine.kill()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """All services of compose.yaml, with a worker that looks for runs more often."""
    assert POSTGRES, "PostgreSQL is not installed: apt install postgresql"
    more = {"worker": {"PREFECT_WORKER_QUERY_SECONDS": "1"}}
    with running(tmp_path_factory.mktemp("services"), more) as compose:
        yield Site(compose)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("campaign") / "water"
    directory.mkdir()
    (directory / "aimsPAX.yaml").write_text(PROJECT)
    (directory / "mace.yaml").write_text(MODEL)
    ase.io.write(directory / "geometry.xyz", molecule("H2O"))
    return directory


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Campaigns that are finished: a run there ends at once."""
    folder = tmp_path_factory.mktemp("finished")
    for name in ("by-schedule", "by-event"):
        shutil.copytree(FINISHED, folder / name)
    return folder


def test_a_second_deploy_changes_nothing(site: Site) -> None:
    first = site.compose.printed("deploy")
    for what in ("work pool aimspax-local", "deployment label/local", "automation"):
        assert f"made: {what}" in first
    again = site.compose.run("deploy", "aimspax", "deploy")
    assert "unchanged: deployment aims-pax/local" in again
    assert not {"made", "changed"} & {line.split(":")[0] for line in again.splitlines()}


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
    assert schema["properties"]["overrides"]["type"] == "object"
    assert "ACTIVE_LEARNING" in json.dumps(schema) or "INITIAL_DATASET" in json.dumps(schema)


def test_prefects_own_command_takes_the_file_too(site: Site) -> None:
    site.compose.run(
        "deploy", "prefect", "--no-prompt", "deploy", "--all",
        "--prefect-file", "deployments/prefect.yaml",
    )  # fmt: skip
    assert site.deployment()["entrypoint"] == "flows.pipeline.aims_pax"
    (nightly,) = site.deployment()["schedules"]
    assert (nightly["slug"], nightly["active"]) == ("nightly", False)
    assert site.deployment()["job_variables"]["env"]


def test_the_flow_is_imported_from_the_installed_package(site: Site) -> None:
    found = site.deployment()
    assert found["entrypoint"] == "flows.pipeline.aims_pax"
    assert found["pull_steps"] in ([], None)


def test_a_mistake_is_the_runs_state_and_no_traceback(site: Site, directory: Path) -> None:
    run = site.start(directory, **{"ACTIVE_LEARNING.num_trajectorys": 3})
    state = site.ended(run)
    assert state["type"] == "FAILED"
    assert "did you mean num_trajectories?" in state["message"]
    told = site.told(run, until="Failed: ")
    assert "did you mean num_trajectories?" in told
    assert "Traceback" not in told
    assert not (directory / "aimspax").exists()


def test_the_nightly_schedule_is_switched_on(site: Site, finished: Path) -> None:
    where = {"directory": str(finished / "by-schedule")}
    _set_schedule(site, active=True, schedule={"interval": 30}, parameters=where)


def test_an_automation_of_ones_own_is_deployed(site: Site, directory: Path, finished: Path) -> None:
    yaml = YAML()
    content = yaml.load(ROOT / "deployments" / "automation-example.yaml")
    (automation,) = content["automations"]
    automation["trigger"]["match"]["aimspax.directory"] = str(directory)
    automation["trigger"]["threshold"] = 2
    automation["actions"][0]["parameters"]["directory"] = str(finished / "by-event")
    mine = site.compose.folder / "mine.yaml"
    yaml.dump(content, mine)
    for done in ("made", "unchanged"):
        said = site.compose.run("deploy", "aimspax", "deploy", "--automations", str(mine))
        assert f"{done}: automation {automation['name']!r}" in said


def test_a_second_run_is_refused_and_told_who_works_there(site: Site, directory: Path) -> None:
    # Prefect takes no less; saves time. Its server heeds a change a moment later, so early.
    _change(site, "aimspax goes on after a crash", within=10)
    first = site.start(f"{directory}\n")  # the form's box takes the end of a line
    site.wait(lambda: any((directory / "aimspax" / "labels").glob("*/*.json")), first)
    second = site.start(directory)
    refused = site.ended(second)
    assert (refused["type"], refused["name"]) == ("FAILED", "AlreadyRunning")
    engine = site.engine(first)
    assert engine is not None
    assert f"process {engine.pid} on " in refused["message"]
    assert f"for the flow run 'water' ({first})" in refused["message"]
    assert "AwaitingRetry" not in site.states(second)
    RUNS.append(first)


def test_labels_that_came_have_started_a_run_elsewhere(site: Site) -> None:
    site.wait(lambda: site.runs_of("active-learning/local"))
    run = site.runs_of("active-learning/local")[0]
    assert site.ended(run["id"])["type"] == "COMPLETED"
    assert run["parameters"]["directory"].endswith("by-event")


def test_the_schedule_fires_on_a_finished_campaign_which_says_so(site: Site) -> None:
    def completed() -> list[Any]:
        runs = [run for run in site.runs_of("aims-pax/local") if run["auto_scheduled"]]
        return [run for run in runs if run["state_type"] == "COMPLETED"]

    site.wait(completed)
    _set_schedule(site, active=False)
    run = completed()[0]
    assert run["parameters"]["directory"].endswith("by-schedule")
    assert "finished" in run["state"]["message"]
    told = site.told(run["id"], until="finished already")
    assert "finished already" in told
    assert "Beginning flow run" not in told, "the log of a run is ours"


def test_a_killed_database_costs_a_run_nothing(site: Site, directory: Path) -> None:
    (run,) = RUNS
    journal = directory / "aimspax" / "journal.jsonl"
    site.compose.kill("database")
    before = journal.stat().st_size
    site.compose.start("database")
    site.compose.wait_until_healthy("database")
    site.compose.wait_until_healthy("server")
    site.wait(lambda: journal.stat().st_size > before)
    assert site.engine(run) is not None
    assert site.state(run)["name"] == "Running"


def test_a_killed_flow_goes_on_by_itself(site: Site) -> None:
    (run,) = RUNS
    site.kill_flow(run)
    site.wait(lambda: "AwaitingRetry" in site.states(run), run)
    site.wait(lambda: "taken up again" in site.told(run, until="taken up again"), run)
    site.wait(lambda: site.state(run)["name"] == "Running", run)
    assert "Crashed" in site.states(run)


def test_a_run_whose_worker_is_stopped_ends_cleanly_and_goes_on_at_once(site: Site) -> None:
    (run,) = RUNS
    engine = site.engine(run)
    assert engine is not None
    site.compose.stop("worker")
    assert not engine.is_running()
    site.compose.start("worker")
    site.wait(lambda: site.engine(run) is not None, run)
    site.wait(lambda: site.state(run)["name"] == "Running", run)
    assert "Interrupted" in site.states(run), "nobody had to notice that it was dead"
    assert "Cancelled" not in site.states(run)


def test_a_run_can_be_cancelled_and_is_not_started_again(site: Site, directory: Path) -> None:
    (run,) = RUNS
    cancelling = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    site.api("POST", f"flow_runs/{run}/set_state", cancelling)
    assert site.ended(run)["type"] == "CANCELLED"
    site.wait(lambda: site.engine(run) is None, run)
    assert not _finished(directory)
    _be_impatient(site)  # while nothing runs, and before it matters: it is heeded a moment later


def test_a_run_that_dies_without_progress_is_given_up(site: Site, directory: Path) -> None:
    run = site.start(directory, **{"MISC.restarts": 0})
    noted = directory / "aimspax" / "restarts.json"
    site.wait(lambda: json.loads(noted.read_text())["flow_run"] == run, run)
    site.kill_flow(run)
    site.wait(lambda: site.state(run)["name"] == "Stalled", run)
    assert "MISC.restarts" in site.state(run)["message"]
    site.wait(lambda: site.events("campaign.stalled"), run)
    (event,) = site.events("campaign.stalled")
    assert event["resource"]["aimspax.directory"] == str(directory)


def test_a_run_that_was_taken_and_has_not_begun_waits_for_somebody_to_notice(site: Site) -> None:
    path = f"deployments/{site.deployment()['id']}/create_flow_run"
    for state in ("PENDING", "RUNNING"):  # as if its worker had just died, and the run with it
        body = {
            "state": {"type": state},
            "parameters": {"directory": "/nowhere"},
            "job_variables": {"command": "false"},  # stands for a Python that does not start
        }
        STILLBORN.append(site.api("POST", path, body)["id"])


def test_a_killed_worker_and_its_flow_are_noticed_and_the_run_goes_on(
    site: Site, directory: Path
) -> None:
    said = site.compose.run(
        "worker", "prefect", "deployment", "run", "aims-pax/local",
        "--param", f"directory={directory}",
    )  # fmt: skip
    run = re.findall(r"UUID: ([0-9a-f-]{36})", said)[0]
    site.wait(lambda: site.heartbeats(run), run)
    site.wait(
        lambda: json.loads((directory / "aimspax" / "restarts.json").read_text())["flow_run"] == run
    )
    site.compose.kill("worker")
    assert site.state(run)["name"] == "Running", "nobody has noticed yet"
    project = directory / "aimsPAX.yaml"
    project.write_text(project.read_text().replace("size: 500", "size: 6"))  # it may end now
    site.compose.start("worker")
    assert site.ended(run, heals=True)["type"] == "COMPLETED"
    assert {"Crashed", "AwaitingRetry"} <= set(site.states(run))
    assert site.api("GET", f"flow_runs/{run}")["name"] == "water"
    assert _finished(directory)
    assert list((directory / "results").glob("water-*.model"))


@pytest.mark.parametrize("last", [0, 1])
def test_a_run_without_a_sign_of_life_is_tried_again_and_given_up_if_it_does_not_begin(
    site: Site, last: int
) -> None:
    run, last_seen = STILLBORN[last], ("Pending", "Running")[last]
    site.wait(lambda: site.state(run)["name"] == "Stalled", run)
    assert site.state(run)["type"] == "FAILED"
    assert site.states(run)[:2] == [last_seen, "Crashed"]
    assert site.states(run).count("AwaitingRetry") == TRIES


def test_what_happened_was_told(site: Site, directory: Path) -> None:
    state = load_journal(RunDir.of(load_settings(directory)))[1]
    assert state is not None
    site.wait(lambda: site.events("campaign.finished"))
    told = [event["payload"]["key"] for event in site.events("label.stored")]
    assert set(told) <= set(state.labelled)
    assert len(told) == len(set(told)) > state.labels // 2, "a process that is killed tells no more"
    related = {one["prefect.resource.id"] for one in site.events("label.stored")[0]["related"]}
    assert "prefect.tag.aimspax" in related


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


def test_undeploy_leaves_nothing_but_the_history(site: Site) -> None:
    site.compose.stop("worker")  # it would make its pool again
    said = site.compose.run("deploy", "aimspax", "undeploy")
    assert "removed: work pool aimspax-local" in said
    assert not site.api("POST", "deployments/filter", {})
    assert not site.api("POST", "automations/filter", {})
    assert not [
        pool for pool in site.api("POST", "work_pools/filter", {}) if "aimspax" in pool["name"]
    ]
    assert site.api("POST", "flow_runs/filter", {"limit": 1})
    assert "nothing was deployed" in site.compose.run("deploy", "aimspax", "undeploy")


RUNS: list[str] = []
"""The run that a test has left running for the next one."""

STILLBORN: list[str] = []
"""Runs that never begin, or begin and give no sign of life: their worker died."""


def _set_schedule(site: Site, **changes: Any) -> None:
    """Change the nightly schedule as its page does."""
    deployment = site.deployment()
    (nightly,) = deployment["schedules"]
    site.api("PATCH", f"deployments/{deployment['id']}/schedules/{nightly['id']}", changes)


def _be_impatient(site: Site) -> None:
    """Let runs show signs of life more often, and the automation wait for them for less time."""
    deployment = site.deployment()
    env = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(SIGN_OF_LIFE_S)}
    site.api("PATCH", f"deployments/{deployment['id']}", {"job_variables": {"env": env}})
    _change(site, "aimspax notices the dead", within=NO_SIGN_OF_LIFE_S)
    _change(site, "aimspax notices what does not begin", within=60)
    _change(site, "aimspax gives up what does not begin", threshold=TRIES)


def _change(site: Site, name: str, **changes: Any) -> None:
    """Change the trigger of an automation."""
    automation = site.automation(name)
    automation["trigger"] |= changes
    kept = {k: v for k, v in automation.items() if k not in ("id", "created", "updated")}
    site.api("PUT", f"automations/{automation['id']}", kept)


def _finished(directory: Path) -> bool:
    state = load_journal(RunDir.of(load_settings(directory)))[1]
    return state is not None and state.phase is Phase.FINISHED
