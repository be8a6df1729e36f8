"""The thread of a fleet does what the rules say: a scheduler in memory, and no worker."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from flows.pools.jobs import fleet as fleet_module
from flows.pools.jobs.fleet import Fleet
from flows.pools.jobs.job import Job
from flows.pools.jobs.ledger import Demand, Policy
from flows.pools.jobs.scheduler import Listed, SchedulerRefusedError, SchedulerSilentError, State
from tests.flows.hosting import wait_for


@dataclass
class Queue:
    """A scheduler whose jobs do what the test says."""

    title = "Memory"
    commands = ()
    starts_programs = False
    listing: dict[str, Listed] = field(default_factory=dict)
    error: Exception | None = None

    def submit(self, script: Path, timeout_s: float = 0.0) -> str:
        if self.error is not None:
            raise self.error
        id_ = str(len(self.listing) + 1)
        self.listing[id_] = Listed(id_, State.WAITING, script)
        return id_

    def jobs(self, folder: Path, timeout_s: float = 0.0) -> list[Listed]:
        return [*self.listing.values()]

    def cancel(self, ids: Collection[str], timeout_s: float = 0.0) -> None:
        for id_ in ids:
            self.listing[id_] = replace(self.listing[id_], state=State.CANCELLED)

    def states(self) -> list[str]:
        return sorted(job.state for job in self.listing.values())


class Dask:
    """The part of a Dask scheduler and its cluster that a fleet uses."""

    def __init__(self) -> None:
        self.workers: dict[str, Any] = {}
        self.scheduler = self

    def add_plugin(self, plugin: Any) -> None:
        self.plugin = plugin

    def sync(self, function: Callable[..., Any], **options: Any) -> None:
        asyncio.run(function(**options))

    async def remove_worker(self, address: str, stimulus_id: str) -> None:
        self.workers.pop(address, None)


@dataclass
class Work:
    """As much work as a test says."""

    outstanding: int = 0

    def demand(self) -> Demand:
        return Demand(self.outstanding)

    def busy(self, address: str) -> bool:
        return False


@dataclass
class Place:
    """A fleet and what it uses."""

    fleet: Fleet
    queue: Queue
    work: Work
    folder: Path
    script: Callable[[str], str]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr(fleet_module, "LOOK_S", 0.05)
    monkeypatch.setattr(fleet_module, "SOON_S", 0.05)
    queue, work, policy = Queue(), Work(), Policy("reference", "Memory", most=3, first=0)
    found = Place(None, queue, work, tmp_path, lambda name: "#!/bin/bash\n")  # type: ignore[arg-type]
    found.fleet = Fleet(
        policy,
        queue,
        Dask(),
        lambda name: found.script(name),
        work,
        tmp_path,
        f"{tmp_path}/out-",  # type: ignore[arg-type]
    )
    with found.fleet:
        yield found


def test_jobs_are_submitted_for_the_work_that_there_is(place: Place) -> None:
    place.work.outstanding = 2
    wait_for(lambda: place.queue.states() == ["waiting", "waiting"], "two wait")
    assert sorted(file.name for file in place.folder.glob("*.sh")) == [
        "reference-0.sh",
        "reference-1.sh",
    ]
    assert [row["job"] for row in place.fleet.rows()] == ["2", "1"], "the last first"
    wait_for(lambda: place.fleet.told() == "2 waiting", "the scheduler has listed them")


def test_jobs_of_a_run_that_has_ended_are_not_told_as_running(place: Place) -> None:
    place.work.outstanding = 1
    wait_for(lambda: place.fleet.told() == "1 waiting", "it waits")
    place.fleet.dismiss()
    assert place.fleet.told() == "none at the moment"
    (row,) = place.fleet.rows()
    assert (row["state"], row["why"]) == ("given back", "the run has ended")


def test_more_jobs_come_and_fewer_stay_as_another_policy_says(place: Place) -> None:
    place.work.outstanding = 9
    wait_for(lambda: place.queue.states() == ["waiting"] * 3, "as many as are allowed")
    place.fleet.follow(Policy("reference", "Memory", most=5, first=0))
    wait_for(lambda: place.queue.states() == ["waiting"] * 5, "two more")
    place.fleet.follow(Policy("reference", "Memory", most=1, first=0, idle_s=0.0))
    few = ["cancelled"] * 4 + ["waiting"]
    wait_for(lambda: place.queue.states() == few, "the last that came are given back")


def test_what_is_refused_is_trouble_with_the_schedulers_own_words(place: Place) -> None:
    place.queue.error = SchedulerRefusedError("no such partition")
    place.work.outstanding = 1
    wait_for(lambda: bool(place.fleet.trouble), "it says so")
    assert "no such partition" in place.fleet.trouble
    assert "Memory" in place.fleet.trouble


def test_a_scheduler_that_is_silent_is_no_trouble(place: Place) -> None:
    asked = threading.Event()

    def silent(folder: Path, timeout_s: float = 0.0) -> list[Listed]:
        asked.set()
        raise SchedulerSilentError("no answer")

    place.queue.jobs = silent  # type: ignore[method-assign]
    assert asked.wait(30)
    assert not place.fleet.trouble


def test_a_disk_that_stays_full_is_trouble(place: Place) -> None:
    def full(name: str) -> str:
        raise OSError("no space left")

    place.script, place.work.outstanding = full, 1
    wait_for(lambda: bool(place.fleet.trouble), "it says so")
    assert "no space left" in place.fleet.trouble


def test_jobs_can_be_dismissed_while_another_one_is_submitted(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread adds a job while `dismiss` goes through all of them."""
    looking, added = threading.Event(), threading.Event()
    is_live = Job.live.fget  # type: ignore[attr-defined]
    take = place.queue.submit

    def live(job: Job) -> bool:
        if threading.current_thread() is threading.main_thread():
            looking.set()
            assert added.wait(30)
        return bool(is_live(job))

    def script(name: str) -> str:
        if name == "reference-1":
            assert looking.wait(30)
        return "#!/bin/bash\n"

    def submit(path: Path, timeout_s: float = 0.0) -> str:
        if path.stem == "reference-1":
            added.set()
        return take(path)

    place.script, place.queue.submit = script, submit  # type: ignore[method-assign]
    place.work.outstanding = 2
    wait_for(lambda: bool(place.queue.states()), "the first one waits")
    monkeypatch.setattr(Job, "live", property(live))
    place.fleet.dismiss()
    assert place.queue.listing["1"].state is State.CANCELLED
