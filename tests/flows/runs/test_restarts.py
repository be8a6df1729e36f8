"""Runs that an automation started again: noted in the run directory, and refused after a few."""

from __future__ import annotations

from pathlib import Path

import pytest

from aimspax_core.errors import HeldError, StalledError
from flows.runs import restarts
from flows.runs.failures import plain_failures
from flows.runs.previous_attempt import RunAttempt
from flows.runs.restarts import count_restart


@pytest.fixture
def attempt(monkeypatch: pytest.MonkeyPatch) -> list[RunAttempt]:
    """The attempt that this process makes; None without one."""
    now: list[RunAttempt] = []
    monkeypatch.setattr(restarts, "this_attempt", lambda: now[-1] if now else None)
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
