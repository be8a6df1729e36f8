"""What people ask of a campaign that runs, by files in its run directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import ase.io
import pytest
from ase.build import molecule

from aimspax_core.campaign.actions import Publish
from aimspax_core.campaign.events import Event, Launched, ParametersSet, Paused, Started, Unpaused
from aimspax_core.campaign.journal import Journal
from aimspax_core.campaign.requests import (
    PauseRequest,
    ResumeRequest,
    SetRequest,
    ask,
    refusal,
    waiting,
)
from aimspax_core.campaign.state import Phase
from aimspax_core.errors import CampaignError
from aimspax_core.inputs.campaign_inputs import Inputs
from flows.loops import taking_requests as module
from flows.loops.taking_requests import Requests, event_of
from tests.flows.loops.test_executor import PROJECT


class Desk:
    """A campaign in a directory, and what is asked of it."""

    def __init__(self, folder: Path, journal: Journal) -> None:
        self.journal, self.events = journal, list[Event]()
        self.inputs = Inputs.read(folder)
        self.requests = Requests(self.record)
        self.record(Started(rules=self.inputs.rules))
        self.run = self.inputs.run

    def record(self, event: Event) -> None:
        self.journal.append(event)
        self.events.append(event)

    def take(self) -> list[Event]:
        """Take what there is; return the events that came of it."""
        known = len(self.events)
        while waiting(self.run):
            self.inputs = self.requests.take(self.inputs, self.journal.state)
        return self.events[known:]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(module, "LOOK_S", 0.0)
    (tmp_path / "aimsPAX.yaml").write_text(PROJECT)
    (tmp_path / "mace.yaml").write_text("GENERAL: {name_exp: water}\n")
    ase.io.write(tmp_path / "water.xyz", molecule("H2O"))
    with Journal(Inputs.read(tmp_path).run) as journal:
        yield Desk(tmp_path, journal)


def test_a_change_is_journalled_and_in_the_inputs(desk: Desk) -> None:
    file = ask(desk.run, SetRequest(values={"c_x": "-0.2"}, time=1.0, by="me"))
    (event,) = desk.take()
    assert isinstance(event, ParametersSet)
    assert (event.values[0].by, event.values[0].time) == ("me", 1.0)
    assert desk.inputs.settings.al.c_x == -0.2
    assert not file.exists()
    assert refusal(file) == ""


def test_requests_are_taken_in_the_order_in_which_they_were_made(desk: Desk) -> None:
    for moment, value in ((2.0, "-0.2"), (1.0, "-0.1"), (3.0, "-0.3")):
        ask(desk.run, SetRequest(values={"c_x": value}, time=moment, by="me"))
    assert len(desk.take()) == 3
    assert desk.journal.state.rules.c_x == -0.3


def test_a_refused_change_is_answered_with_the_reason_and_changes_nothing(desk: Desk) -> None:
    before = desk.inputs
    file = ask(desk.run, SetRequest(values={"c_x": "much"}, time=1.0, by="me"))
    assert desk.take() == []
    assert desk.inputs is before
    assert "ACTIVE_LEARNING.c_x" in refusal(file)
    assert refusal(file) == ""


def test_a_file_that_is_no_request_is_refused_and_taken_away(desk: Desk) -> None:
    file = ask(desk.run, PauseRequest(time=1.0, by="me"))
    file.write_text('{"kind": "dance"}')
    assert desk.take() == []
    assert str(file) in refusal(file)


def test_pause_and_resume_become_events(desk: Desk) -> None:
    ask(desk.run, PauseRequest(time=1.0, by="me"))
    ask(desk.run, ResumeRequest(time=2.0, by="you"))
    assert desk.take() == [Paused(time=1.0, by="me"), Unpaused(time=2.0, by="you")]


def test_what_is_so_already_needs_no_event(desk: Desk) -> None:
    ask(desk.run, ResumeRequest(time=1.0, by="me"))
    ask(desk.run, PauseRequest(time=2.0, by="me"))
    ask(desk.run, PauseRequest(time=3.0, by="me"))
    assert desk.take() == [Paused(time=2.0, by="me")]


def test_nothing_changes_while_results_are_written(desk: Desk) -> None:
    ask(desk.run, PauseRequest(time=1.0, by="me"))
    desk.record(Launched(action=Publish(what="initial")))
    assert desk.requests.take(desk.inputs, desk.journal.state) is desk.inputs
    assert len(waiting(desk.run)) == 1


def test_half_written_requests_are_not_read(desk: Desk) -> None:
    desk.run.requests.mkdir()
    (desk.run.requests / ".0001-ab.json.12345678.json").write_text('{"kind"')
    assert waiting(desk.run) == []


def test_a_finished_campaign_cannot_be_paused(desk: Desk) -> None:
    finished = desk.journal.state.but(phase=Phase.FINISHED)
    with pytest.raises(CampaignError):
        event_of(PauseRequest(time=1.0, by="me"), desk.inputs, finished)


def test_a_journal_that_cannot_be_written_is_not_passed_over(desk: Desk) -> None:
    def full(event: Event) -> None:
        raise OSError(28, "No space left on device")

    ask(desk.run, PauseRequest(time=1.0, by="me"))
    with pytest.raises(OSError, match="No space"):
        Requests(full).take(desk.inputs, desk.journal.state)
    assert len(waiting(desk.run)) == 1


def test_a_request_whose_file_stays_is_taken_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stuck(file: Path, refused: str = "") -> None:
        raise OSError(30, "Read-only file system", str(file))

    monkeypatch.setattr(module, "settle", stuck)
    ask(desk.run, SetRequest(values={"c_x": "-0.2"}, time=1.0, by="me"))
    for _ in range(3):
        desk.requests.take(desk.inputs, desk.journal.state)
    assert len(desk.events) == 2
