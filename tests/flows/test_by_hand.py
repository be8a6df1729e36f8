"""A real campaign that people change, pause and resume, by command and on its page; and a kill."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ase.io
import pytest
from ase.build import molecule

from aimspax_core.campaign.events import (
    Event,
    Launched,
    ParametersSet,
    Paused,
    Unpaused,
)
from aimspax_core.campaign.journal import entries, load
from aimspax_core.campaign.state import CampaignState
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.load import load as load_settings
from flows.server import Server
from tests.flows.test_campaign import AIMSPAX, MODEL, PROJECT, aimspax
from tests.prefect_api import call

PATIENCE_S = 120.0

pytestmark = pytest.mark.slow


@dataclass
class Story:
    """A campaign, and what its page and its commands said on the way."""

    directory: Path
    api: str
    pages: list[dict[str, Any]] = field(default_factory=list)
    said: dict[str, str] = field(default_factory=dict)
    code: int = -1
    output: str = ""

    @property
    def run(self) -> RunDir:
        return RunDir.of(load_settings(self.directory))

    @property
    def state(self) -> CampaignState:
        _, state = load(self.run)
        assert state is not None
        return state

    @property
    def events(self) -> list[Event]:
        return [entry.event for entry in entries(self.run.journal)]

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*AIMSPAX, "run", str(self.directory)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def tell(self, name: str, *arguments: str) -> None:
        done = aimspax(arguments[0], self.directory, *arguments[1:])
        assert done.returncode == 0, done.stderr
        self.said[name] = done.stdout

    def wait(self, what: str, condition: Any) -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end, (
                f"{what}: not within {PATIENCE_S:.0f} s\n{_log(self)[-3000:]}"
            )
            time.sleep(0.2)

    # ---- the page ----------------------------------------------------------------------------

    def flow_run(self) -> dict[str, Any]:
        noted = json.loads(self.run.flow_run.read_text())["flow_run"]
        found: dict[str, Any] = call("GET", f"{self.api}/flow_runs/{noted}")
        return found

    def page(self) -> str:
        state = self.flow_run()["state"]
        return f"{state['type']} {state['name']}"

    def click_pause(self) -> None:
        """Do what the page does: suspend for a while, by force."""
        until = datetime.now(UTC) + timedelta(seconds=5)
        details = {"pause_timeout": until.isoformat(), "pause_reschedule": True}
        state = {"type": "PAUSED", "name": "Suspended", "state_details": details}
        at = f"{self.api}/flow_runs/{self.flow_run()['id']}/set_state"
        call("POST", at, {"state": state, "force": True})

    def click_resume(self) -> None:
        at = f"{self.api}/flow_runs/{self.flow_run()['id']}/resume"
        call("POST", at, {})


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, prefect_server: Server) -> Story:
    told = Story(tmp_path_factory.mktemp("by-hand") / "water", prefect_server.api_url)
    told.directory.mkdir()
    project = PROJECT.replace("max_train_set_size: 16", "max_train_set_size: 500")
    project += "MISC: {path_to_geometry: geometry.xyz}\n"
    (told.directory / "aimsPAX.yaml").write_text(project)
    (told.directory / "mace.yaml").write_text(MODEL)
    ase.io.write(told.directory / "geometry.xyz", molecule("H2O"))

    processes: list[subprocess.Popen[str]] = []
    try:
        _play(told, processes)
    finally:
        for process in processes:
            process.kill()
            process.wait(30)
            assert process.stdout is not None
            process.stdout.close()
    return told


def _play(told: Story, processes: list[subprocess.Popen[str]]) -> None:
    """Let people do what they do; the processes that are started are for the caller to end."""
    first = told.start()
    processes.append(first)
    told.wait("it explores", lambda: (state := load(told.run)[1]) and state.training)
    told.tell("set", "set", "c_x=-0.3", "CLUSTER.max_workers=2")
    told.click_pause()
    told.wait("it is paused", lambda: told.state.paused and not told.state.in_flight)
    told.wait("its page says so", lambda: told.page() == "PAUSED Paused")
    told.tell("status", "status")
    first.send_signal(signal.SIGKILL)
    first.wait(PATIENCE_S)

    second = told.start()
    processes.append(second)
    told.wait("the second process is paused", lambda: "taken up" in (_log(told)))
    told.wait("its page says so, too", lambda: told.page() == "PAUSED Paused")
    events = len(told.events)
    told.click_resume()
    told.wait("it goes on", lambda: len(told.events) > events + 2)
    told.tell("pause", "pause")
    told.wait("the page shows the command", lambda: told.page() == "PAUSED Paused")
    told.tell("resume", "resume")
    told.wait("the page shows that, too", lambda: told.page() == "RUNNING Running")
    told.tell("end", "set", "max_train_set_size=8")
    told.output, _ = second.communicate(timeout=PATIENCE_S)
    told.code = second.returncode


def _log(told: Story) -> str:
    return "".join(file.read_text() for file in told.run.logs.glob("*.log"))


def test_a_limit_that_was_set_ends_the_campaign(story: Story) -> None:
    assert story.code == 0, story.output
    assert story.state.finished
    assert story.state.stop_rule == "max_train_set_size"


def test_what_was_set_is_told_and_in_force_over_the_kill(story: Story) -> None:
    assert "ACTIVE_LEARNING.c_x: -0.3 (before: -0.5)" in story.said["set"]
    assert "ACTIVE_LEARNING.c_x -0.3, set " in story.said["status"]
    assert story.state.rules.c_x == -0.3
    assert [len(e.values) for e in story.events if isinstance(e, ParametersSet)] == [2, 1]


def test_pauses_of_page_and_command_are_journalled_with_who_wanted_them(story: Story) -> None:
    switched = [e for e in story.events if isinstance(e, Paused | Unpaused)]
    assert [e.kind for e in switched] == ["paused", "unpaused", "paused", "unpaused"]
    assert ["page" in e.by for e in switched] == [True, True, False, False]


def test_nothing_begins_while_it_is_paused(story: Story) -> None:
    paused = False
    for event in story.events:
        if isinstance(event, Paused | Unpaused):
            paused = isinstance(event, Paused)
        assert not (paused and isinstance(event, Launched))


def test_the_page_shows_that_it_completed(story: Story) -> None:
    assert story.flow_run()["state"]["type"] == "COMPLETED"
