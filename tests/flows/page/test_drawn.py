"""The cards with pictures: drawn when something has changed, and seldom."""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ase.build import molecule

from aimspax_core.campaign.state import CampaignState
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.report.document.source import Source
from aimspax_core.report.failed_labels import failed_points
from aimspax_core.structures import digest, encode
from flows.page import drawn
from flows.page.drawn import Drawn
from tests.flows.commands.test_run import FINISHED
from tests.report.document.test_report import source


class Noting:
    """Cards that note what they show, by their keys."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.texts: dict[str, Any] = {}
        self.away = False

    def __getattr__(self, kind: str) -> Any:
        def show(key: str, content: Any, description: str) -> bool:
            if self.away:
                return False
            self.told.append(key)
            self.texts[key] = content
            return True

        return show


@pytest.fixture(scope="module")
def finished() -> Source:
    return source("finished")


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return Inputs.read(FINISHED)


def cards_of(inputs: Inputs, finished: Source, times: int = 1) -> tuple[Drawn, Noting]:
    cards = Noting()
    page = Drawn(cards)  # type: ignore[arg-type]
    for _ in range(times):
        page.finish(inputs, finished.story, finished.state)
    return page, cards


def test_a_finished_campaign_has_all_its_cards(inputs: Inputs, finished: Source) -> None:
    _, cards = cards_of(inputs, finished)
    assert {"campaign", "learning-curve", "trajectories", "costs"} <= set(cards.told)
    assert len(cards.told) == len(set(cards.told))


def test_what_has_not_changed_is_not_drawn_again(inputs: Inputs, finished: Source) -> None:
    _, once = cards_of(inputs, finished)
    _, twice = cards_of(inputs, finished, times=2)
    assert twice.told == [*once.told, "campaign"], "a text; it is sent only if it is another one"


def test_a_card_that_cannot_be_drawn_costs_no_other(
    inputs: Inputs, finished: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Drawn, "_learning", lambda *_: 1 / 0)
    _, cards = cards_of(inputs, finished)
    assert {"campaign", "costs"} <= set(cards.told)


def test_a_card_that_could_not_be_sent_is_drawn_again(finished: Source) -> None:
    cards = Noting()
    page = Drawn(cards)  # type: ignore[arg-type]
    for cards.away in (True, False, False):
        page._costs(finished)
    assert cards.told == ["costs"]


def test_a_card_that_could_not_be_drawn_is_tried_again_and_told_once(
    finished: Source, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cards = Noting()
    page = Drawn(cards)  # type: ignore[arg-type]
    with monkeypatch.context() as broken, caplog.at_level("ERROR"):
        broken.setattr(drawn, "_png", lambda _: 1 / 0)
        for _ in range(2):
            page._try(finished, page._costs)
    assert len(caplog.records) == 1
    page._try(finished, page._costs)
    assert cards.told == ["costs"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time by which pages are drawn: its only element."""
    found = [1000.0]
    monkeypatch.setattr(drawn.time, "monotonic", lambda: found[0])
    return found


def looks(page: Drawn, inputs: Inputs, source: Source, clock: list[float], until: float) -> None:
    """Let the page be renewed every 10 s, whenever it is due."""
    while clock[0] < until:
        page.renew(inputs, source.story, source.state)
        for thread in threading.enumerate():
            if thread.name == "drawn":
                thread.join()
        clock[0] += 10


def test_drawing_takes_a_small_share_of_the_time_and_what_is_dear_makes_no_curve_old(
    inputs: Inputs, finished: Source, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawings: list[tuple[str, float]] = []
    spent = [0.0]  # of a core, by the thread that draws
    costs = {"_learning": 0.2, "_campaign": 0.0, "_costs": 0.8}
    monkeypatch.setattr(drawn.time, "thread_time", lambda: spent[0])

    def draws(name: str, takes: float) -> None:
        def draw(self: Drawn, _: Source) -> None:
            drawings.append((name, clock[0]))
            spent[0] += takes
            self._curve = b"PNG"

        monkeypatch.setattr(Drawn, name, draw)

    for name in ("_learning", "_campaign", "_trajectories", "_calibration", "_parity", "_costs"):
        draws(name, costs.get(name, 0.0))
    looks(Drawn(Noting()), inputs, finished, clock, until=1400)  # type: ignore[arg-type]
    at = {name: [time for one, time in drawings if one == name] for name in costs}
    every_minute = [1000, 1060, 1120, 1180, 1240, 1300, 1360]
    assert at == {
        "_learning": every_minute,
        "_campaign": every_minute,
        "_costs": [1000, 1180, 1360],  # 0.8 s of 160 s
    }


def test_a_campaign_that_has_just_begun_is_told_anew_soon(
    inputs: Inputs, finished: Source, clock: list[float]
) -> None:
    young = begun(finished)
    cards = Noting()
    looks(Drawn(cards), inputs, young, clock, until=1030)  # type: ignore[arg-type]
    assert cards.told == ["campaign"] * 3, "no picture of nothing"


def begun(finished: Source) -> Source:
    """The campaign as it was before anything had come back."""
    state = CampaignState.begin(finished.state.rules)
    return replace(finished, state=state, story=type(finished.story)())


def test_where_a_campaign_was_stopped_is_told_without_a_picture(
    inputs: Inputs, finished: Source
) -> None:
    cards = Noting()
    Drawn(cards).stop(inputs, finished.story, finished.state)  # type: ignore[arg-type]
    assert cards.told == ["campaign"]


def test_costs_are_told_from_the_first_label_on(finished: Source) -> None:
    cards = Noting()
    page = Drawn(cards)  # type: ignore[arg-type]
    page._costs(replace(finished, state=finished.state.but(labels=0)))
    assert cards.told == []
    page._costs(finished)
    assert cards.told == ["costs"]


def test_of_a_campaign_that_was_stopped_nothing_is_said_to_go_on(
    inputs: Inputs, finished: Source
) -> None:
    cards, young = Noting(), begun(finished)
    page = Drawn(cards)  # type: ignore[arg-type]
    page._campaign(young)
    assert "workers are starting" in cards.texts["campaign"]
    page.stop(inputs, young.story, young.state)
    assert "workers are starting" not in cards.texts["campaign"]
    assert "stopped" in cards.texts["campaign"]


def test_nothing_older_follows_the_card_that_tells_where_a_campaign_was_stopped(
    inputs: Inputs, finished: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards, go_on = Noting(), threading.Event()
    page = Drawn(cards)  # type: ignore[arg-type]
    monkeypatch.setattr(Drawn, "_learning", lambda *_: go_on.wait(30))
    page.renew(inputs, finished.story, finished.state)
    page.stop(inputs, finished.story, finished.state)
    go_on.set()
    assert page._thread is not None
    page._thread.join()
    assert cards.told.count("campaign") == 1
    assert "costs" in cards.told


def test_what_is_drawn_does_not_change_meanwhile(inputs: Inputs, finished: Source) -> None:
    story = source("finished").story
    still = drawn._source(inputs, story, finished.state).story
    checks, points = len(still.checks), len(still.curves.mean)
    story.checks.append((0, 1, 0.1, None))
    story.curves.mean.append((1, 1.0))
    story.curves.learning.validation.append((1, 1.0))
    assert (len(still.checks), len(still.curves.mean)) == (checks, points)
    assert still.curves.learning.validation != story.curves.learning.validation


def test_points_without_a_label_are_shown_with_their_structure(
    tmp_path: Path, finished: Source
) -> None:
    shutil.copytree(FINISHED, tmp_path / "water")
    inputs = Inputs.read(tmp_path / "water")
    for point in failed_points(finished.state):
        path, content = inputs.run.structure(point.key), encode(molecule("H2O"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**content, "checksum": digest(content)}))
    cards = Noting()
    Drawn(cards).finish(inputs, finished.story, finished.state)  # type: ignore[arg-type]
    assert cards.texts["without-label"].count("data:image/png") == finished.state.failed_labels
