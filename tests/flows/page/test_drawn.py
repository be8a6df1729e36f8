"""The cards with pictures: drawn when something has changed, and seldom."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from ase.build import molecule

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


def test_drawing_takes_a_small_share_of_the_time_and_the_text_is_renewed_each_minute(
    inputs: Inputs, finished: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    drawings: list[float] = []
    texts: list[float] = []

    def draw(self: Drawn, _: Source) -> None:
        drawings.append(clock[0])
        self._took = 1.5

    monkeypatch.setattr(drawn.time, "monotonic", lambda: clock[0])
    page = Drawn(Noting())  # type: ignore[arg-type]
    monkeypatch.setattr(Drawn, "_draw", draw)
    monkeypatch.setattr(Drawn, "_tell", lambda self, _: texts.append(clock[0]))
    while clock[0] < 1400:
        page.renew(inputs, finished.story, finished.state)
        for thread in threading.enumerate():
            if thread.name == "drawn":
                thread.join()
        clock[0] += 10
    assert drawings == [1000, 1180, 1360], "1.5 s of more than 150 s"
    assert texts == [1060, 1120, 1240, 1300]


def test_where_a_campaign_was_stopped_is_told_without_a_picture(
    inputs: Inputs, finished: Source
) -> None:
    cards = Noting()
    Drawn(cards).stop(inputs, finished.story, finished.state)  # type: ignore[arg-type]
    assert cards.told == ["campaign"]


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
