"""Runs that an automation started again: noted in the run directory, and refused after a few."""

from __future__ import annotations

from pathlib import Path

import pytest

from aimspax_core.errors import HeldError, StalledError
from flows.runs import previous_attempt, restarts
from flows.runs.failures import plain_failures
from flows.runs.previous_attempt import RunAttempt, note_attempt
from flows.runs.restarts import UNCOUNTED, begun_often, count_restart, refuse_uncounted


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


def test_outside_of_a_flow_run_nothing_is_noted(tmp_path: Path, attempt: list[RunAttempt]) -> None:
    count_restart(tmp_path / "restarts.json", "x", 0)
    assert not list(tmp_path.iterdir())


def begins(attempt: list[RunAttempt], number: int, folder: Path) -> None:
    """Let an attempt come so far that it may be refused for those before it."""
    attempt.append(RunAttempt("a", number))
    if begun_often():
        refuse_uncounted(folder / "flow-run.json", folder / "restarts.json")


def test_a_run_that_dies_on_its_way_to_where_it_is_counted_is_given_up(
    tmp_path: Path, attempt: list[RunAttempt]
) -> None:
    for number in range(1, UNCOUNTED + 1):
        begins(attempt, number, tmp_path)
    with pytest.raises(StalledError, match=str(UNCOUNTED)):
        begins(attempt, UNCOUNTED + 1, tmp_path)
    begins(attempt, UNCOUNTED + 2, tmp_path)  # Retry


def test_a_run_that_is_counted_may_be_killed_for_ever(
    tmp_path: Path, attempt: list[RunAttempt]
) -> None:
    for number in range(1, 10 * UNCOUNTED):
        begins(attempt, number, tmp_path)
        count_restart(tmp_path / "restarts.json", str(number), 0)


def test_what_holds_its_directory_and_was_paused_often_is_not_given_up(
    tmp_path: Path, attempt: list[RunAttempt]
) -> None:
    attempt.append(RunAttempt("a", 20))  # Prefect counts each Resume
    note_attempt(tmp_path / "flow-run.json")
    begins(attempt, 21, tmp_path)


def test_another_run_was_not_this_one(tmp_path: Path, attempt: list[RunAttempt]) -> None:
    attempt.append(RunAttempt("b", 20))
    note_attempt(tmp_path / "flow-run.json")
    count_restart(tmp_path / "restarts.json", "x", 1)
    with pytest.raises(StalledError):
        begins(attempt, UNCOUNTED + 1, tmp_path)


@pytest.mark.usefixtures("prefect_server")  # else Prefect starts one of its own, which takes long
@pytest.mark.parametrize(
    ("error", "name"), [(HeldError("a"), "AlreadyRunning"), (StalledError("b"), "Stalled")]
)
def test_states_that_automations_tell_apart_have_names_of_their_own(
    error: Exception, name: str
) -> None:
    @plain_failures
    def flow() -> None:  # type: ignore[misc]
        raise error

    state = flow()
    assert (state.type.value, state.name) == ("FAILED", name)
