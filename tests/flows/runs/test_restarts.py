"""Runs that an automation started again: noted in the run directory, and refused after a few."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.states import AwaitingRetry, Crashed, Failed, Running

from aimspax_core.campaign.restarts import STOPS
from aimspax_core.errors import HeldError, StalledError
from flows.runs import previous_attempt, restarts
from flows.runs.failures import plain_failures
from flows.runs.previous_attempt import RunAttempt, note_attempt
from flows.runs.restarts import (
    INTERRUPTED,
    UNCOUNTED,
    begun_often,
    count_restart,
    count_stop,
    refuse_uncounted,
)
from flows.server import Server


@pytest.fixture
def attempt(monkeypatch: pytest.MonkeyPatch) -> list[RunAttempt]:
    """The attempt that this process makes; None without one."""
    now: list[RunAttempt] = []
    for module in (restarts, previous_attempt):
        monkeypatch.setattr(module, "this_attempt", lambda: now[-1] if now else None)
    return now


def test_a_person_who_retries_after_that_is_let_in(
    tmp_path: Path, attempt: list[RunAttempt]
) -> None:
    file = tmp_path / "restarts.json"
    attempt.append(RunAttempt("a", 1))
    count_restart(file, "x", 1)
    attempt.append(RunAttempt("a", 2))
    count_restart(file, "x", 1)
    attempt.append(RunAttempt("a", 3))
    with pytest.raises(StalledError):
        count_restart(file, "x", 1)
    attempt.append(RunAttempt("a", 4))
    count_restart(file, "x", 1)


def test_a_note_that_cannot_be_read_begins_a_new_count(
    tmp_path: Path, attempt: list[RunAttempt]
) -> None:
    file = tmp_path / "restarts.json"
    file.write_text("{")
    attempt.append(RunAttempt("a", 7))
    count_restart(file, "x", 0)
    assert '"attempt":7' in file.read_text()


def test_a_run_that_is_stopped_each_time_is_refused_in_the_end(
    tmp_path: Path, attempt: list[RunAttempt]
) -> None:
    file = tmp_path / "restarts.json"
    for number in range(1, STOPS + 2):
        attempt.append(RunAttempt("a", number))
        count_restart(file, "x", 1)
        count_stop(file)
    attempt.append(RunAttempt("a", STOPS + 2))
    with pytest.raises(StalledError, match=f"went on {STOPS} times"):
        count_restart(file, "x", 1)
    attempt.append(RunAttempt("a", STOPS + 3))
    count_restart(file, "x", 1)  # Retry


def test_a_run_that_makes_progress_may_be_stopped_without_end(
    tmp_path: Path, attempt: list[RunAttempt]
) -> None:
    file = tmp_path / "restarts.json"
    for number in range(1, 2 * STOPS):
        attempt.append(RunAttempt("a", number))
        count_restart(file, str(number), 0)
        count_stop(file)


def test_a_stop_is_noted_for_nobody_else(tmp_path: Path, attempt: list[RunAttempt]) -> None:
    file = tmp_path / "restarts.json"
    attempt.append(RunAttempt("a", 1))
    count_stop(file)
    assert not file.exists(), "it was stopped before it was counted"
    count_restart(file, "x", 0)
    before = file.read_bytes()
    attempt.append(RunAttempt("b", 1))
    count_stop(file)
    assert file.read_bytes() == before


def test_outside_of_a_flow_run_nothing_is_noted(tmp_path: Path, attempt: list[RunAttempt]) -> None:
    count_restart(tmp_path / "restarts.json", "x", 0)
    assert not list(tmp_path.iterdir())


@dataclass
class Attempts:
    """A flow run on a real server, and the process's attempts at it."""

    now: list[RunAttempt]
    folder: Path
    client: SyncPrefectClient
    run: UUID

    def begins(self, number: int) -> None:
        """Let an attempt come so far that it may be refused for those before it."""
        self.client.set_flow_run_state(self.run, Running(), force=True)
        self.now.append(RunAttempt(str(self.run), number))
        if begun_often():
            refuse_uncounted(self.folder / "flow-run.json", self.folder / "restarts.json")

    def ends(self, state: State[Any]) -> None:
        self.client.set_flow_run_state(self.run, state, force=True)


@pytest.fixture
def attempts(
    tmp_path: Path, attempt: list[RunAttempt], prefect_server: Server
) -> Iterator[Attempts]:
    @flow
    def nothing() -> None:
        """What is attempted."""

    folder = tmp_path / "run"
    folder.mkdir()
    with get_client(sync_client=True) as client:
        yield Attempts(attempt, folder, client, client.create_flow_run(nothing).id)


@pytest.mark.parametrize("noticed", [True, False])
def test_a_run_that_dies_on_its_way_to_where_it_is_counted_is_given_up(
    attempts: Attempts, noticed: bool
) -> None:
    for number in range(1, UNCOUNTED + 1):
        attempts.begins(number)
        if noticed:
            attempts.ends(Crashed())
        attempts.ends(AwaitingRetry())
    with pytest.raises(StalledError, match=str(UNCOUNTED)):
        attempts.begins(UNCOUNTED + 1)
    attempts.ends(Failed(name="Stalled"))
    attempts.begins(UNCOUNTED + 2)  # Retry
    assert not list(attempts.folder.iterdir()), "another run may be at work there"


@pytest.mark.parametrize("name", ["Failed", "AlreadyRunning"])
def test_an_attempt_that_ended_by_itself_has_not_died(attempts: Attempts, name: str) -> None:
    for number in range(1, 3 * UNCOUNTED):
        attempts.begins(number)
        attempts.ends(Failed(name=name))


def test_an_attempt_that_was_stopped_has_not_died(attempts: Attempts) -> None:
    for number in range(1, 2 * UNCOUNTED):
        attempts.begins(number)
        attempts.ends(Crashed(name=INTERRUPTED))  # before it held the directory
        attempts.ends(AwaitingRetry())


def test_a_stop_hides_no_deaths(attempts: Attempts) -> None:
    for number in range(1, UNCOUNTED + 2):
        attempts.begins(number)
        attempts.ends(Crashed(name=INTERRUPTED) if number == 2 else Crashed())
        attempts.ends(AwaitingRetry())
    with pytest.raises(StalledError):
        attempts.begins(UNCOUNTED + 2)


def test_a_run_that_is_counted_may_be_killed_for_ever(attempts: Attempts) -> None:
    for number in range(1, 4 * UNCOUNTED):
        attempts.begins(number)
        count_restart(attempts.folder / "restarts.json", str(number), 0)
        attempts.ends(Crashed())


def test_what_holds_its_directory_and_was_paused_often_is_not_given_up(attempts: Attempts) -> None:
    attempts.now.append(RunAttempt(str(attempts.run), 20))  # Prefect counts each Resume
    note_attempt(attempts.folder / "flow-run.json")
    for _ in range(UNCOUNTED):
        attempts.client.set_flow_run_state(attempts.run, Running(), force=True)
    attempts.begins(21)


def test_another_run_was_not_this_one(attempts: Attempts) -> None:
    attempts.now.append(RunAttempt("b", 20))
    note_attempt(attempts.folder / "flow-run.json")
    file = attempts.folder / "restarts.json"
    count_restart(file, "x", 1)
    before = file.read_bytes()
    for _ in range(UNCOUNTED):
        attempts.client.set_flow_run_state(attempts.run, Running(), force=True)
    with pytest.raises(StalledError):
        attempts.begins(UNCOUNTED + 1)
    assert file.read_bytes() == before


def test_without_the_api_a_run_is_let_in(
    attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, UNCOUNTED + 1):
        attempts.begins(number)
        attempts.ends(Crashed())
    monkeypatch.setattr(attempts, "run", UUID(int=0))  # it may have lost its database
    attempts.now.append(RunAttempt(str(attempts.run), UNCOUNTED + 1))
    refuse_uncounted(attempts.folder / "flow-run.json", attempts.folder / "restarts.json")


@pytest.mark.usefixtures("prefect_server")  # else Prefect starts one of its own, which takes long
@pytest.mark.parametrize(
    ("error", "name"), [(HeldError("a"), "AlreadyRunning"), (StalledError("b"), "Stalled")]
)
def test_states_that_automations_tell_apart_have_names_of_their_own(
    error: Exception, name: str
) -> None:
    @plain_failures  # type: ignore[arg-type]
    def work() -> None:
        raise error

    state = work()
    assert (state.type.value, state.name) == ("FAILED", name)
