"""When a line on the progress is due: news soon, and ever more rarely without."""

from __future__ import annotations

import itertools

from aimspax_core.report.now_and_then import NowAndThen


def said(pauses: NowAndThen, marks: dict[int, object], until: int) -> list[int]:
    """The seconds at which a line is said, with what has been reached from when on."""
    mark: object = None
    found = []
    for second in range(until):
        mark = marks.get(second, mark)
        if pauses.due(float(second), mark):
            found.append(second)
    return found


def test_without_news_each_pause_is_twice_the_one_before() -> None:
    assert said(NowAndThen(0.0, 10.0), {}, 200) == [10, 30, 70, 150]


def test_the_pause_has_an_end() -> None:
    found = said(NowAndThen(0.0, 10.0), {}, 5000)
    assert [later - one for one, later in itertools.pairwise(found)][-2:] == [600, 600]


def test_news_are_said_soon_but_not_at_once() -> None:
    assert said(NowAndThen(0.0, 10.0), {75: 1, 76: 2}, 90) == [10, 30, 70, 80]


def test_what_else_was_said_counts() -> None:
    pauses = NowAndThen(0.0, 10.0)
    assert said(pauses, {}, 31) == [10, 30]
    pauses.heard(35.0)
    assert not pauses.due(44.0, None)
    assert pauses.due(45.0, None)
