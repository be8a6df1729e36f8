"""A run waits for room where it begins, too."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest
from prefect.states import Completed

from flows.loops import begin_anew, room
from flows.loops.begin_anew import Look, insist
from flows.loops.stop import Stop

DONE = Completed()


class Storage:
    """Storage that takes nothing until a time; a clock goes by the pauses of who waits for it."""

    def __init__(self, code: int, until_s: float) -> None:
        self.error = OSError(code, os.strerror(code), "/scratch/lock")
        self.now, self.until, self.attempts = 0.0, until_s, 0
        self.shown: list[str] = []

    def look(self) -> None:
        if self.now < self.until:
            raise self.error

    def work(self, writes: Callable[[Look], None]) -> Any:
        writes(self.look)
        self.attempts += 1
        self.look()
        return DONE

    def show(self, client: object, why: str) -> None:
        self.shown.append(why)


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Storage]:
    def made(code: int, until_s: float) -> Storage:
        storage = Storage(code, until_s)
        monkeypatch.setattr(begin_anew, "show_waiting", storage.show)
        monkeypatch.setattr(room, "monotonic", lambda: storage.now)

        def sleep(seconds: float) -> None:
            storage.now += seconds

        monkeypatch.setattr(room, "sleep", sleep)
        return storage

    return made


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE])
def test_a_run_begins_anew_once_there_is_room(storage: Callable[..., Storage], code: int) -> None:
    full = storage(code, until_s=300.0)
    assert insist(full.work, None, Stop()) is DONE  # type: ignore[arg-type]
    assert full.attempts == 2
    assert "/scratch/lock" in full.shown[0]
    assert full.shown[1:] == [""]


def test_what_does_not_pass_is_not_waited_for(storage: Callable[..., Storage]) -> None:
    closed = storage(errno.EACCES, until_s=300.0)
    with pytest.raises(PermissionError):
        insist(closed.work, None, Stop())  # type: ignore[arg-type]


def test_a_stop_ends_the_wait_before_the_loop(storage: Callable[..., Storage]) -> None:
    full, stop = storage(errno.ENOSPC, until_s=float("inf")), Stop()
    stop.reason = "cancelled in Prefect"
    assert insist(full.work, None, stop).is_cancelled()  # type: ignore[arg-type]
    assert full.attempts == 1
