"""What a run does while the storage takes nothing, with a clock that goes by its pauses."""

from __future__ import annotations

import errno
import itertools
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from aimspax_core.run_directory import RunDir
from aimspax_core.storage import cannot_take
from flows.loops import room
from flows.loops.room import LOOK_S, Room, StoppedWaitingError, look_for_campaigns_room
from tests.disks import fill

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/scratch/journal.jsonl")


class Disk:
    """A disk that is full until a time; it is told what the page shows, and when a stop comes."""

    def __init__(self, full_until_s: float, stop_at_s: float = float("inf")) -> None:
        self.now, self.until, self.stop_at = 0.0, full_until_s, stop_at_s
        self.shown: list[str] = []
        self.written = 0

    def look(self) -> None:
        if self.now < self.until:
            raise FULL

    def write(self) -> str:
        self.look()
        self.written += 1
        return "written"

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def room(self) -> Room:
        return Room(self.look, self.shown.append, lambda: self.now >= self.stop_at)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Disk]:
    def made(full_until_s: float, stop_at_s: float = float("inf")) -> Disk:
        disk = Disk(full_until_s, stop_at_s)
        monkeypatch.setattr(room, "sleep", disk.sleep)
        monkeypatch.setattr(room, "monotonic", lambda: disk.now)
        return disk

    return made


def test_what_has_room_does_not_wait(disk: Callable[..., Disk]) -> None:
    free = disk(0.0)
    one = free.room()
    assert one.free()
    assert one.insist(free.write) == "written"
    assert free.shown == []


def test_what_must_be_written_is_tried_until_it_is(disk: Callable[..., Disk]) -> None:
    full = disk(100.0)
    one = full.room()
    assert one.insist(full.write) == "written"
    assert full.written == 1
    assert full.now >= 100.0
    assert one.free()
    assert len(full.shown) == 2
    assert full.shown[0].startswith("/scratch/journal.jsonl: No space left on device")
    assert full.shown[1] == ""


def test_a_wait_is_told_once_with_its_end(
    disk: Callable[..., Disk], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    full = disk(100.0)
    one = full.room()
    one.lost("a label found no room")
    one.insist(full.write)
    one.lost("another one")
    while not one.free():
        full.sleep(1.0)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_a_stop_ends_the_wait(disk: Callable[..., Disk]) -> None:
    full = disk(float("inf"), stop_at_s=7.0)
    with pytest.raises(StoppedWaitingError):
        full.room().insist(full.write)
    assert full.now < 7.0 + LOOK_S


def test_what_room_does_not_mend_is_raised(disk: Callable[..., Disk]) -> None:
    def write() -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/scratch/journal.jsonl")

    with pytest.raises(PermissionError):
        disk(0.0).room().insist(write)


def launches(disk: Disk, one: Room, seconds: float) -> list[float]:
    """When something may be launched, if all that is launched is lost."""
    found = []
    while disk.now < seconds:
        if one.free():
            found.append(disk.now)
            one.lost("a worker has no room")
        disk.sleep(1.0)
    return found


def test_a_worker_that_has_no_room_is_tried_less_and_less_often(
    disk: Callable[..., Disk],
) -> None:
    """The flow has room: only the worker can tell whether it is there again."""
    fine = disk(0.0)
    times = launches(fine, fine.room(), 600.0)
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 60.0


def test_after_work_that_came_back_the_pause_is_short_again(disk: Callable[..., Disk]) -> None:
    fine = disk(0.0)
    one = fine.room()
    launches(fine, one, 300.0)
    fine.sleep(60.0)
    assert one.free()
    one.done()
    began = fine.now
    one.lost("a worker has no room")
    while not one.free():
        fine.sleep(0.5)
    assert fine.now - began == LOOK_S


def test_while_there_is_no_room_nothing_is_launched(disk: Callable[..., Disk]) -> None:
    full = disk(100.0)
    one = full.room()
    one.lost("a label found no room")
    times = launches(full, one, 102.0)
    assert times
    assert min(times) >= 100.0


def test_room_is_needed_for_a_checkpoint_of_each_member(small_disk: Path) -> None:
    run = RunDir(small_disk, *(small_disk / n for n in ("data", "logs", "losses", "model", "chk")))
    for tag in ("a", "b"):
        (run.checkpoints_dir / tag).mkdir(parents=True)
        (run.checkpoints_dir / tag / "1.pt").write_bytes(b"\0" * 4000)
        (run.checkpoints_dir / tag / "2.pt").write_bytes(b"\0" * 2000)
    fill(small_disk)
    with pytest.raises(OSError, match=r"0 B free, 1\.1 MB needed") as found:
        look_for_campaigns_room(run)
    assert cannot_take(found.value)
    assert found.value.filename == str(run.checkpoints_dir)
