"""The previous attempt at a campaign is shown as crashed, unless it runs in another directory."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import State
from prefect.states import AwaitingRetry, Crashed, Pending, Running

from flows.runs import previous_attempt
from flows.runs.previous_attempt import RunAttempt, noted_attempt, replace_previous
from tests.campaign.test_journal import run_in

OLD, NEW = RunAttempt("old", 1), RunAttempt("new", 1)


@pytest.fixture
def crashed(monkeypatch: pytest.MonkeyPatch) -> list[RunAttempt]:
    """Attempts that were shown as crashed."""
    found: list[RunAttempt] = []

    def mark(client: Any, attempt: RunAttempt, why: str) -> None:
        found.append(attempt)

    monkeypatch.setattr(previous_attempt, "mark_attempt_crashed", mark)
    return found


def take_up(folder: Path, attempt: RunAttempt, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a campaign up, as an attempt that holds its lock."""
    monkeypatch.setattr(previous_attempt, "this_attempt", lambda: attempt)
    replace_previous(None, run_in(folder))  # type: ignore[arg-type]


def test_the_previous_attempt_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crashed: list[RunAttempt]
) -> None:
    take_up(tmp_path, OLD, monkeypatch)
    assert not crashed
    take_up(tmp_path, NEW, monkeypatch)
    assert crashed == [OLD]
    assert noted_attempt(run_in(tmp_path).flow_run) == NEW


def test_a_directory_that_was_moved_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crashed: list[RunAttempt]
) -> None:
    take_up(tmp_path / "here", OLD, monkeypatch)
    (tmp_path / "here").rename(tmp_path / "there")
    take_up(tmp_path / "there", NEW, monkeypatch)
    assert crashed == [OLD]


def test_the_attempt_that_runs_in_the_original_of_a_copy_is_not_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crashed: list[RunAttempt]
) -> None:
    take_up(tmp_path / "original", OLD, monkeypatch)
    shutil.copytree(tmp_path / "original", tmp_path / "copy")
    take_up(tmp_path / "copy", NEW, monkeypatch)
    assert not crashed
    assert noted_attempt(run_in(tmp_path / "copy").flow_run) == NEW
    take_up(tmp_path / "copy", RunAttempt("newer", 1), monkeypatch)
    assert crashed == [NEW]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"flow_run": "a"}'])
def test_a_damaged_note_names_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crashed: list[RunAttempt], text: str
) -> None:
    file = run_in(tmp_path).flow_run
    file.parent.mkdir()
    file.write_text(text)
    take_up(tmp_path, NEW, monkeypatch)
    assert not crashed
    assert noted_attempt(file) == NEW


def test_a_note_of_release_0_1_0_does_not_say_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crashed: list[RunAttempt]
) -> None:
    file = run_in(tmp_path).flow_run
    file.parent.mkdir()
    file.write_text('{"flow_run": "old", "number": 1}')
    take_up(tmp_path, NEW, monkeypatch)
    assert crashed == [OLD]


class Page:
    """Prefect's API with one flow run."""

    def __init__(self, state: State[Any], number: int) -> None:
        self.run = SimpleNamespace(id=uuid4(), state=state, run_count=number)
        self.shown = ""

    def read_flow_run(self, id_: UUID) -> Any:
        return self.run

    def read_task_runs(self, **_: Any) -> list[Any]:
        return []

    def set_flow_run_state(self, id_: UUID, state: State[Any], force: bool) -> None:
        self.shown = str(state.message)


@pytest.mark.parametrize(
    ("state", "number", "shown"),
    [
        (Running(), 3, "it was killed"),
        (Pending(name="Submitting"), 3, ""),  # a worker has taken it, to start it again
        (AwaitingRetry(), 3, ""),
        (Running(), 4, ""),
        (Crashed(), 3, ""),
    ],
)
def test_only_the_attempt_itself_is_shown_as_crashed(
    state: State[Any], number: int, shown: str
) -> None:
    page = Page(state, number)
    attempt = RunAttempt(str(page.run.id), 3)
    previous_attempt.mark_attempt_crashed(page, attempt, "it was killed")  # type: ignore[arg-type]
    assert page.shown == shown
