"""Pause and Resume on the run's page: what is a wish, and what the page is told."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from flows.loops.page_switch import AGAIN_S, SURE_S, Shown, Switch


@dataclass
class Page:
    """A run's state on the server, and a campaign that follows it, a look a second."""

    state: str = "RUNNING"
    name: str = "Running"
    paused: bool = False
    deaf: bool = False  # what is told does not arrive
    switch: Switch = field(default_factory=Switch)
    told: list[str] = field(default_factory=list)
    wishes: list[str] = field(default_factory=list)
    now: float = 0.0

    def look(self, state: str = "", name: str = "", seconds: float = 1.0) -> None:
        """Look at the page, which may show what it showed a moment ago."""
        self.now += seconds
        wish = self.switch.wish(state or self.state, name or self.name, self.now)
        if wish is not None:
            self.wishes.append(wish)
            self.paused = wish == "PAUSED"
        told: Shown | None = self.switch.to_tell(
            self.paused, state or self.state, name or self.name, self.now
        )
        if told is not None:
            self.told.append(told)
            if not self.deaf:
                self.state, self.name = told, told.capitalize()
                self.switch.arrived_at = self.now

    def clicked(self, state: str, name: str) -> None:
        self.state, self.name = state, name
        self.look()


def test_pause_on_the_page_pauses_and_is_replaced_by_a_state_without_an_end() -> None:
    page = Page()
    page.clicked("PAUSED", "Suspended")
    assert (page.paused, page.told, page.name) == (True, ["PAUSED"], "Paused")


def test_a_pause_is_replaced_once_though_the_watch_still_shows_the_other() -> None:
    page = Page()
    page.clicked("PAUSED", "Suspended")
    for _ in range(3):
        page.look("PAUSED", "Suspended")
    page.look()
    assert page.told == ["PAUSED"]
    assert page.wishes == ["PAUSED"]


def test_resume_on_the_page_resumes() -> None:
    page = Page()
    page.clicked("PAUSED", "Suspended")
    page.look()
    page.clicked("RUNNING", "Running")
    assert (page.paused, page.wishes, page.told) == (False, ["PAUSED", "RUNNING"], ["PAUSED"])


def test_a_command_is_shown_and_is_no_click() -> None:
    page = Page(paused=True)
    page.look()
    page.look("RUNNING", "Running")  # as it was before
    page.look()
    page.paused = False
    page.look()
    page.look("PAUSED", "Paused")
    page.look()
    assert page.told == ["PAUSED", "RUNNING"]
    assert page.wishes == []


def test_resume_on_the_page_of_what_a_command_has_paused() -> None:
    page = Page(paused=True)
    page.look()
    page.look()
    page.clicked("RUNNING", "Running")
    assert page.wishes == ["RUNNING"]
    assert not page.paused


def test_resume_counts_also_if_it_comes_before_the_pause_was_seen() -> None:
    page = Page(paused=True)
    page.look()
    page.clicked("RUNNING", "Running")
    page.look()
    assert page.wishes == []  # it may be what was there before
    page.look(seconds=SURE_S)
    assert page.wishes == ["RUNNING"]
    assert page.told == ["PAUSED"]


def test_what_does_not_arrive_is_told_again() -> None:
    page = Page(paused=True, deaf=True)
    page.look()
    page.look(seconds=AGAIN_S / 2)
    assert page.told == ["PAUSED"]
    page.look(seconds=AGAIN_S)
    assert page.told == ["PAUSED", "PAUSED"]


def test_a_second_pause_works_as_the_first() -> None:
    page = Page()
    for _ in range(2):
        page.clicked("PAUSED", "Suspended")
        page.look()
        page.clicked("RUNNING", "Running")
        page.look()
    assert page.wishes == ["PAUSED", "RUNNING"] * 2


def test_other_states_are_no_wishes() -> None:
    page = Page()
    for state in ("", "PENDING", "CANCELLING", "SCHEDULED", "CRASHED", "COMPLETED"):
        page.look(state or "?", state)
    assert page.wishes == []


def test_no_end_that_somebody_wants_is_taken_back() -> None:
    page = Page()
    for state in ("", "PENDING", "CANCELLING", "CANCELLED", "COMPLETED", "FAILED"):
        page.look(state or "?", state)
    assert page.told == []


@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("state", ["CRASHED", "SCHEDULED"])
def test_a_run_that_is_taken_for_dead_is_shown_as_it_is_and_nothing_else_changes(
    state: str, paused: bool
) -> None:
    page = Page(paused=paused)
    page.look()
    page.look()
    page.told.clear()
    page.clicked(state, state.capitalize())
    for _ in range(3):
        page.look(state, state.capitalize())  # as it was a moment ago
    page.look(seconds=SURE_S)
    page.look()
    assert (page.told, page.paused, page.wishes) == ([page.state], paused, [])


def test_who_is_taken_for_dead_says_so_until_it_arrives() -> None:
    page = Page(deaf=True)
    page.clicked("CRASHED", "Crashed")
    page.look(seconds=AGAIN_S + 1)
    assert page.told == ["RUNNING", "RUNNING"]
