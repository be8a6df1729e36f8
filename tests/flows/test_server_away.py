"""A real campaign whose Prefect server is killed in the middle, with SIGKILL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import ase.io
import pytest
from ase.build import molecule

from aimspax_core.campaign.journal import entries, load
from aimspax_core.campaign.state import Phase
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.load import load as load_settings
from tests.conftest import free_port
from tests.flows.hosting import wait_for
from tests.flows.test_campaign import MODEL, PROJECT
from tests.prefect_api import call

AIMSPAX = [sys.executable, "-c", "from flows.commands.start import aimspax; aimspax()"]


@dataclass
class Story:
    """What happened."""

    run: RunDir
    code: int
    output: str
    page: dict[str, str]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Run a campaign on a server of its own, and kill that after the first labels."""
    folder = tmp_path_factory.mktemp("away")
    directory, home, port = folder / "water", folder / "prefect", free_port()
    write_inputs(directory)
    home.mkdir()
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    env |= {"PREFECT_HOME": str(home), "PREFECT_SERVER_API_PORT": str(port)}
    env.pop("AIMSPAX_SERVER_URL", None)
    run = RunDir.of(load_settings(directory))
    process = subprocess.Popen(
        [*AIMSPAX, "run", str(directory)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env,
    )  # fmt: skip
    try:
        wait_for(lambda: any(run.labels.glob("*/*.json")) or process.poll() is not None, "a label")
        os.killpg(json.loads((home / "aimspax-server.json").read_text())["pid"], signal.SIGKILL)
        output, _ = process.communicate(timeout=240)
        page = states(f"http://127.0.0.1:{port}/api", home / "aimspax-server.key")
    finally:
        process.kill()
        subprocess.run([*AIMSPAX, "server", "stop"], env=env, check=False, timeout=60)
    return Story(run, process.returncode, output, page)


def states(api: str, key: Path) -> dict[str, str]:
    """The states of the runs that a server knows, by their names; some machines want a password."""
    auth = key.read_text().strip() if key.exists() else None
    runs = call("POST", f"{api}/flow_runs/filter", {}, auth)
    return {run["name"]: run["state_type"] for run in runs}


def write_inputs(directory: Path) -> None:
    directory.mkdir()
    (directory / "aimsPAX.yaml").write_text(f"{PROJECT}MISC: {{path_to_geometry: water.xyz}}\n")
    (directory / "mace.yaml").write_text(MODEL)
    ase.io.write(directory / "water.xyz", molecule("H2O"))


@pytest.mark.slow
def test_the_campaign_goes_on_to_its_end(story: Story) -> None:
    assert story.code == 0, story.output
    state = load(story.run)[1]
    assert state is not None
    assert state.phase is Phase.FINISHED
    assert any(story.run.results.glob("*.model"))


@pytest.mark.slow
def test_no_work_is_lost_to_the_server(story: Story) -> None:
    lost = [e.event for e in entries(story.run.journal) if e.event.kind == "task-lost"]
    assert not lost
    assert "Traceback" not in story.output


@pytest.mark.slow
def test_that_it_went_and_that_it_came_back_is_told_once_each(story: Story) -> None:
    told = [line for line in story.output.splitlines() if "the Prefect API" in line]
    assert len(told) == 2, story.output
    assert "without_server" in told[0]
    assert "done without" in told[1]  # how much depends on how soon the server is back


@pytest.mark.slow
def test_the_server_is_started_again_and_its_page_says_how_the_run_ended(story: Story) -> None:
    assert story.page == {"water": "COMPLETED"}
