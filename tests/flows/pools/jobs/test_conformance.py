"""What every scheduler must hold, tried on all rows of the table of schedulers.

The test needs nothing else of the tests, so that it can be run on a copy of the code as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aimspax_core.settings.cluster import BatchJobs, Cluster
from aimspax_core.settings.schedulers import SCHEDULERS, SchedulerRow, options_reader
from flows.pools.jobs.scheduler import (
    Environment,
    Listed,
    Scheduler,
    SchedulerRefusedError,
    SchedulerSilentError,
    State,
    scheduler,
)

SMALL = {"slurm": "#SBATCH --ntasks=1 --mem=100 --time=10"}
"""Options that the schedulers of the tests can give a job; of others their example is used."""


@dataclass(frozen=True)
class Place:
    """A scheduler, jobs for it, and a folder for their scripts."""

    queue: Scheduler
    batch: BatchJobs
    folder: Path

    @property
    def output(self) -> str:
        return str(self.folder / "50% of it-")

    def script(self, body: str, name: str = "reference-0", folder: str = "pool") -> Path:
        (self.folder / folder).mkdir(exist_ok=True)
        file = self.folder / folder / f"{name}.sh"
        header = self.queue.header(self.batch, self.output)
        file.write_text("\n".join(["#!/bin/bash", *header, body, ""]), encoding="utf-8")
        return file

    def jobs(self, folder: str = "pool") -> list[Listed]:
        return self.queue.jobs(self.folder / folder)

    def wait(self, condition: Callable[[list[Listed]], bool], what: str) -> list[Listed]:
        """The jobs of the folder, once they are as they should be."""
        end = time.monotonic() + 60
        while not condition(jobs := self.jobs()):
            assert time.monotonic() < end, f"{what}: {jobs}"
            time.sleep(0.1)
        return jobs


def _running(jobs: list[Listed]) -> bool:
    return [job.state for job in jobs] == [State.RUNNING]


def _over(jobs: list[Listed]) -> bool:
    return bool(jobs) and all(job.state.is_over for job in jobs)


@pytest.fixture(params=SCHEDULERS, ids=lambda row: row.name)
def row(request: pytest.FixtureRequest) -> SchedulerRow:
    found: SchedulerRow = request.param
    return found


@pytest.fixture
def batch(row: SchedulerRow) -> BatchJobs:
    content: dict[str, Any] = {"type": row.name, "slurm_str": SMALL.get(row.name, row.example)}
    found = Cluster.model_validate(content).reference_jobs
    assert found is not None
    return found


@pytest.fixture
def place(
    row: SchedulerRow, batch: BatchJobs, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Place]:
    if row.name == "slurm":
        request.getfixturevalue("slurm")
    found = Place(scheduler(row.name), batch, tmp_path)
    yield found
    for folder in tmp_path.iterdir():
        if folder.is_dir():
            found.queue.cancel([job.id for job in found.queue.jobs(folder)])


# Its options


def test_an_example_is_read(row: SchedulerRow) -> None:
    options = options_reader(row.name)(row.example, 1)
    assert {*options.hints} >= {"cores", "memory", "disk", "gpus", "time"}
    assert options.gpus_per_node >= 0
    assert all(isinstance(note, str) for note in options.notes)
    limits = (options.walltime_s, options.cores_per_node, options.memory_per_node_mb)
    assert all(limit is None or limit > 0 for limit in (*limits, options.disk_per_node_mb))
    assert options.has_limit or options.walltime_s is None


def test_jobs_have_the_name_that_they_are_given(row: SchedulerRow) -> None:
    assert options_reader(row.name)(row.example, 1).named("water").job_name == "water"


def test_options_are_equal_if_they_are_written_alike(row: SchedulerRow) -> None:
    read = options_reader(row.name)
    assert read(row.example, 1) == read(row.example, 1)


def test_mistakes_are_told_a_line_each(row: SchedulerRow) -> None:
    with pytest.raises(ValueError) as caught:
        options_reader(row.name)("these are\nno options", 1)
    assert len(str(caught.value).splitlines()) == 2


# Its jobs


def test_a_job_that_ends_well_is_completed_and_its_output_is_where_it_is_looked_for(
    place: Place,
) -> None:
    id_ = place.queue.submit(place.script("echo it has run; echo and failed >&2"))
    (job,) = place.wait(_over, "it ends")
    assert (job.id, job.state, job.script.stem) == (id_, State.COMPLETED, "reference-0")
    output = Path(f"{place.output}{id_}.out").read_text()
    assert "it has run" in output
    assert "and failed" in output


def test_a_job_that_fails_has_failed(place: Place) -> None:
    place.queue.submit(place.script("exit 3"))
    assert place.wait(_over, "it ends")[0].state is State.FAILED


def test_a_job_that_runs_is_listed_as_running(place: Place) -> None:
    id_ = place.queue.submit(place.script("sleep 300"))
    (job,) = place.wait(_running, "it runs")
    assert job.id == id_
    assert job.left_s is None or 0 < job.left_s <= (place.batch.walltime_s or 1e9)


def test_a_cancelled_job_ends_and_another_one_goes_on(place: Place) -> None:
    id_ = place.queue.submit(place.script("sleep 300", "reference-0"))
    other = place.queue.submit(place.script("sleep 300", "reference-1"))
    place.queue.cancel([id_])
    jobs = place.wait(lambda jobs: any(map(_is_cancelled, jobs)), "it is cancelled")
    assert {job.id: job.state.is_over for job in jobs} == {id_: True, other: False}


def test_cancelling_what_has_ended_or_never_was_is_no_error(place: Place) -> None:
    id_ = place.queue.submit(place.script("exit 0"))
    place.wait(_over, "it ends")
    place.queue.cancel([id_, "987654321"])
    place.queue.cancel([])
    assert place.jobs()[0].state is State.COMPLETED


def test_only_the_jobs_of_the_folder_are_listed(place: Place) -> None:
    for folder in ("pool", "other", "pool/deeper"):
        place.queue.submit(place.script("sleep 300", folder=folder))
    assert len(place.jobs("pool")) == len(place.jobs("other")) == 1


def test_trying_a_script_submits_nothing(place: Place) -> None:
    assert isinstance(place.queue.tried(place.script("sleep 300")), str)
    assert place.jobs() == []


def test_without_its_programs_a_scheduler_takes_no_job(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = place.script("exit 0")
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(place.folder / "nowhere"))
        with pytest.raises((SchedulerSilentError, SchedulerRefusedError)):
            place.queue.submit(script)


def _is_cancelled(job: Listed) -> bool:
    return job.state is State.CANCELLED


# What its programs need


@pytest.mark.parametrize("shared", [False, True])
def test_the_environment_of_programs_is_text(place: Place, shared: bool) -> None:
    found = place.queue.environment(place.batch, shared)
    assert isinstance(found, Environment)
    assert all(isinstance(text, str) for pair in found.variables.items() for text in pair)
    assert not {*found.unset} & {"PATH", "HOME"}


def test_the_controller_is_a_host_or_unknown(place: Place) -> None:
    assert place.queue.controller() is None or place.queue.controller()
