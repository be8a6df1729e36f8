"""Tasks that end while the Prefect API is away: each is told once, whenever it comes back."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from flows.pools import late
from flows.pools.late import LateEnds
from flows.runs.api_health import Answer, Found
from flows.runs.api_watch import ApiWatch


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[UUID, str]]:
    found: list[tuple[UUID, str]] = []
    monkeypatch.setattr(late, "tell", lambda call: found.extend(call.args[0]))
    return found


def away(watch: ApiWatch) -> None:
    for _ in range(2):
        watch.take(Found(Answer.REFUSED, "nobody listens"))


def back(watch: ApiWatch) -> None:
    watch.take(Found(Answer.FINE))


def test_what_ended_meanwhile_is_told_once(told: list[tuple[UUID, str]]) -> None:
    watch = ApiWatch()
    ends, task = LateEnds(watch), uuid4()
    ends.add(uuid4(), "")  # the API has seen it end
    away(watch)
    ends.add(task, "its worker died")
    assert told == []
    for _ in range(2):
        back(watch)
        away(watch)
    assert told == [(task, "its worker died")]


def test_what_ends_just_when_the_api_comes_back_is_told(told: list[tuple[UUID, str]]) -> None:
    class Returning(ApiWatch):
        """Comes back right after somebody was told that it is away."""

        @property
        def answers(self) -> bool:
            found = super().answers
            if not found:
                back(self)
            return found

    watch = Returning()
    ends, task = LateEnds(watch), uuid4()
    away(watch)
    ends.add(task, "")
    assert told == [(task, "")]


def test_a_closed_pool_tells_what_it_has_and_then_hears_no_more(
    told: list[tuple[UUID, str]],
) -> None:
    watch = ApiWatch()
    ends, other, task = LateEnds(watch), LateEnds(watch), uuid4()
    other.close()
    away(watch)
    ends.add(task, "")
    ends.close()
    assert len(watch._listeners) == 1
    back(watch)
    assert told == [(task, "")]
    assert watch._listeners == []
