"""`aimspax set`, `pause` and `resume`: with a process that runs the campaign, and without one."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase.io
import pytest
from ase.build import molecule

from aimspax_core.campaign.events import Started
from aimspax_core.campaign.journal import Journal, load
from aimspax_core.campaign.requests import waiting
from aimspax_core.campaign.state import CampaignState
from aimspax_core.errors import CampaignError, SettingsError
from aimspax_core.inputs.campaign_inputs import Inputs
from flows.commands import by_hand
from flows.commands.status import status
from flows.loops import asking
from flows.loops.taking_requests import Requests
from flows.server import Server
from flows.set_parameters import set_parameters
from tests.flows.loops.test_executor import PROJECT


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "aimsPAX.yaml").write_text(PROJECT)
    (tmp_path / "mace.yaml").write_text("GENERAL: {name_exp: water}\n")
    ase.io.write(tmp_path / "water.xyz", molecule("H2O"))
    return tmp_path


@pytest.fixture
def begun(directory: Path) -> Path:
    inputs = Inputs.read(directory)
    with Journal(inputs.run) as journal:
        journal.append(Started(rules=inputs.rules))
    return directory


def state_of(directory: Path) -> CampaignState:
    _, state = load(Inputs.read(directory).run)
    assert state is not None
    return state


@contextlib.contextmanager
def run_by_somebody(directory: Path, takes: bool = True) -> Iterator[None]:
    """The campaign's journal is held in a thread, which takes requests as the loop does."""
    inputs, over = Inputs.read(directory), threading.Event()
    held = threading.Event()

    def loop() -> None:
        nonlocal inputs
        with Journal(inputs.run) as journal:
            requests = Requests(lambda event: journal.append(event) and None)
            held.set()
            while not over.wait(0.05):
                if takes:
                    inputs = requests.take(inputs, journal.state)

    thread = threading.Thread(target=loop)
    thread.start()
    held.wait(30)
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_without_a_campaign_there_is_nothing_to_set(directory: Path) -> None:
    with pytest.raises(CampaignError, match="no campaign"):
        by_hand.set_values(directory, {}, ["c_x=-0.1"])
    assert not (directory / "aimspax").exists()


def test_a_campaign_that_nobody_runs_is_changed_by_the_command(begun: Path) -> None:
    by_hand.set_values(begun, {}, ["c_x=-0.1", "max_train_set_size=40"])
    rules = state_of(begun).rules
    assert (rules.c_x, rules.max_train_set_size) == (-0.1, 40)
    assert Inputs.read(begun).settings.al.c_x == -0.1


def test_the_process_that_runs_the_campaign_makes_the_change(begun: Path) -> None:
    with run_by_somebody(begun):
        by_hand.set_values(begun, {}, ["c_x=-0.1"])
        assert state_of(begun).rules.c_x == -0.1
    assert not waiting(Inputs.read(begun).run)


def test_what_that_process_refuses_is_told(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The process was started under an environment in which the value does not fit.
    monkeypatch.setattr(asking, "event_of", lambda *_: None)  # finds nothing wrong
    with run_by_somebody(begun), pytest.raises(SettingsError, match=r"ACTIVE_LEARNING\.c_x"):
        by_hand.set_values(begun, {}, ["c_x=much"])
    assert not list(Inputs.read(begun).run.requests.glob("*"))


def test_a_process_that_does_not_look_is_waited_for_and_then_told(
    begun: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(asking, "PATIENCE_S", 1.0)
    with run_by_somebody(begun, takes=False):
        assert by_hand.set_values(begun, {}, ["c_x=-0.1"]) == 0
    assert "has not taken it yet" in capsys.readouterr().out
    assert len(waiting(Inputs.read(begun).run)) == 1


def test_a_process_that_ends_meanwhile_leaves_it_to_the_command(begun: Path) -> None:
    with run_by_somebody(begun, takes=False):
        asked = threading.Thread(target=by_hand.set_values, args=(begun, {}, ["c_x=-0.1"]))
        asked.start()
        while not waiting(Inputs.read(begun).run):
            time.sleep(0.05)
    asked.join(30)
    assert state_of(begun).rules.c_x == -0.1
    assert not waiting(Inputs.read(begun).run)


def test_pause_and_resume(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    by_hand.pause(begun, {})
    assert state_of(begun).paused is not None
    status(begun, {})
    assert "paused since" in capsys.readouterr().out
    by_hand.resume(begun, {})
    assert state_of(begun).paused is None


@pytest.mark.parametrize("text", ["c_x", "=3", ""])
def test_an_assignment_without_a_key_or_value_is_refused(begun: Path, text: str) -> None:
    with pytest.raises(SettingsError, match="key=value"):
        by_hand.set_values(begun, {}, [text])


def test_status_tells_value_and_origin(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    by_hand.set_values(begun, {}, ["c_x=-0.1"])
    capsys.readouterr()
    status(begun, {})
    (line,) = [one for one in capsys.readouterr().out.splitlines() if "c_x" in one]
    assert line.startswith("ACTIVE_LEARNING.c_x -0.1, set ")
    assert line.endswith("default: 0.0")


def test_the_flow_of_a_deployment_changes_settings_too(begun: Path, prefect_server: Server) -> None:
    done = set_parameters(begun, {"c_x": -0.1, "MD": {"temperature": 350}}, return_state=True)
    assert done.is_completed(), done.message
    settings = Inputs.read(begun).settings
    assert (settings.al.c_x, settings.md(0).temperature) == (-0.1, 350)
    assert state_of(begun).set_values["ACTIVE_LEARNING.c_x"].by.startswith("the flow run ")


@pytest.mark.parametrize("values", [{}, {"c_x": "much"}, {"uncertainty_type": "max_atomic_sd"}])
def test_the_flow_fails_plainly_with_what_is_wrong(
    begun: Path, prefect_server: Server, values: dict[str, Any]
) -> None:
    done = set_parameters(begun, values, return_state=True)
    assert done.is_failed()
    assert isinstance(done.result(raise_on_failure=False), SettingsError)


def test_what_is_set_while_a_run_starts_is_in_force_in_it(begun: Path) -> None:
    read_before = Inputs.read(begun)
    by_hand.set_values(begun, {}, ["c_x=-0.1"])
    now = read_before.with_set_values(state_of(begun))
    assert now.rules.c_x == -0.1
    assert now.with_set_values(state_of(begun)) is now


@pytest.mark.parametrize("error", [KeyError, OSError])
def test_a_user_without_a_name_is_told_by_number(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def nameless() -> str:
        raise error("uid not found")

    monkeypatch.setattr("getpass.getuser", nameless)
    assert by_hand.who().startswith(f"user {os.getuid()} on ")
