"""What follows the state of a running campaign: its log files and the terminal's bar."""

from __future__ import annotations

import io
import logging
import time
from pathlib import Path

import pytest
from rich.console import Console

from aimspax_core.campaign.actions import Label
from aimspax_core.campaign.events import Event, ExplorationAsked
from aimspax_core.campaign.state import CampaignState, Pause, Phase
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.load import load
from flows.commands.console import following, saying, signs_of_life
from flows.runs.listeners import listeners, listening
from flows.runs.log_files import campaign_logs
from tests.campaign.test_journal import RULES

STATE = CampaignState.begin(RULES)
EXPLORING = STATE.but(phase=Phase.ACTIVE)


def tell(state: CampaignState) -> None:
    for listener in listeners():
        listener(STATE, ExplorationAsked(), state)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    monkeypatch.setattr("flows.runs.log_files.APILogHandler", logging.NullHandler)
    (tmp_path / "aimsPAX.yaml").write_text(
        "REFERENCE: {engine: tblite}\nMD: {stat_ensemble: nve, temperature: 300, timestep: 1}\n"
        "ACTIVE_LEARNING: {num_trajectories: 1, max_MD_steps: 1}\n"
    )
    (tmp_path / "geometry.in").touch()
    (tmp_path / "mace.yaml").write_text("GENERAL: {name_exp: a}\n")
    return RunDir.of(load(tmp_path))


def test_all_that_listen_are_told_in_the_order_of_joining() -> None:
    seen: list[tuple[str, CampaignState | None, Event, CampaignState]] = []
    with (
        listening(lambda *what: seen.append(("first", *what))),
        listening(lambda *what: seen.append(("second", *what))),
    ):
        tell(EXPLORING)
    tell(EXPLORING)
    assert seen == [(who, STATE, ExplorationAsked(), EXPLORING) for who in ("first", "second")]


def test_an_event_chooses_the_log_file_of_the_lines_that_follow_it(run: RunDir) -> None:
    with campaign_logs(run, load(run.output), None):
        logging.getLogger("aimspax").info("a line of the initial dataset")
        tell(EXPLORING)
        logging.getLogger("aimspax").info("a line of active learning")
    assert "a line of the initial dataset" in (run.logs / "initial_dataset.log").read_text()
    text = (run.logs / "active_learning.log").read_text()
    assert "a line of active learning" in text
    assert "initial dataset\n" not in text


def test_a_campaign_that_explores_already_goes_on_in_the_log_of_active_learning(
    run: RunDir,
) -> None:
    with campaign_logs(run, load(run.output), EXPLORING):
        logging.getLogger("aimspax").info("a line")
    assert "a line" in (run.logs / "active_learning.log").read_text()
    assert not (run.logs / "initial_dataset.log").exists()


def test_the_bar_moves_at_an_event_that_nobody_logs() -> None:
    screen = io.StringIO()
    with following(Console(file=screen, force_terminal=True, width=120), 100):
        tell(EXPLORING)
    assert "active learning" in screen.getvalue()


@pytest.mark.parametrize(("width", "told"), [(120, True), (80, False)])
def test_a_wide_terminal_shows_beside_the_bar_what_is_under_way(width: int, told: bool) -> None:
    screen = io.StringIO()
    with following(Console(file=screen, force_terminal=True, width=width), 100):
        tell(EXPLORING.but(in_flight={"label:a": Label(key="a"), "label:b": Label(key="b")}))
    assert ("active learning: 2 labels" in screen.getvalue()) is told


def said_in_silence(console: Console, state: CampaignState) -> str:
    """What is said while a campaign in this state says nothing, in two seconds at most."""
    end = time.monotonic() + 2.0
    with signs_of_life(console, silence_s=0.05):
        tell(state)
        while time.monotonic() < end and not console.file.getvalue():  # type: ignore[attr-defined]
            time.sleep(0.02)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_where_there_is_no_bar_a_silent_campaign_says_what_it_is_doing() -> None:
    state = EXPLORING.but(in_flight={"label:a": Label(key="a")})
    assert "under way: 1 label" in said_in_silence(Console(file=io.StringIO()), state)


def test_at_the_end_of_a_run_no_worker_is_said_to_start() -> None:
    console = Console(file=io.StringIO())
    with signs_of_life(console, silence_s=0.1):
        tell(EXPLORING.but(in_flight={"label:a": Label(key="a")}))
        tell(EXPLORING)
        time.sleep(0.4)
    assert "workers are starting" not in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("terminal", "state"),
    [(True, EXPLORING), (False, EXPLORING.but(paused=Pause(since=0.0, by="Ada")))],
    ids=["the bar shows it", "it is paused, which was said"],
)
def test_nothing_is_said_where_there_is_nothing_to_say(
    terminal: bool, state: CampaignState
) -> None:
    with signs_of_life(
        console := Console(file=io.StringIO(), force_terminal=terminal), silence_s=0.1
    ):
        tell(state)
        time.sleep(0.4)
    assert not console.file.getvalue()  # type: ignore[attr-defined]


def test_what_comes_before_the_campaign_is_said_in_plain_lines() -> None:
    console = Console(file=io.StringIO())
    with saying(console):
        logging.getLogger("aimspax.flows.server").info("starting the local Prefect server")
    logging.getLogger("aimspax.flows.server").warning("later")
    assert console.file.getvalue() == "starting the local Prefect server\n"  # type: ignore[attr-defined]
