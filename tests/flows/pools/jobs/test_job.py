"""What a job's time allows, and what its end means for what it computed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aimspax_core.labels.tries import Fate
from flows.pools.jobs.job import Job, jobs_text, margin_s
from flows.pools.jobs.scheduler import State

HOUR = 3600.0


def _job(walltime_s: float | None = HOUR, **fields: Any) -> Job:
    return replace(Job("reference-0", "Slurm", walltime_s, 0.0, id="7"), **fields)


def _running(walltime_s: float | None = HOUR, **fields: Any) -> Job:
    """A job that began at 0, seen at a time that the test says."""
    ends = {"ends_at": walltime_s} if walltime_s else {}
    return _job(walltime_s, state=State.RUNNING, began_at=0.0, **{**ends, **fields})


@pytest.mark.parametrize(
    ("walltime_s", "margin"), [(10, 3), (60, 3), (600, 30), (1200, 60), (86400, 60)]
)
def test_a_worker_leaves_in_time_but_not_long_before(walltime_s: float, margin: float) -> None:
    assert margin_s(walltime_s) == margin


@pytest.mark.parametrize(
    ("job", "seconds", "now", "fits"),
    [
        # Without a limit anything fits.
        (_running(None), 1e9, 0.0, True),
        (_job(None), None, 0.0, True),
        # One that has had no work yet, and has half its time: no other could give much more.
        (_running(), 1e9, 0.0, True),
        (_running(), 1e9, 1799.0, True),
        (_running(), 1e9, 1801.0, False),
        # One that waits has all its time.
        (_job(used=True), 1000.0, 99.0, True),
        (_job(used=True), 1e9, 99.0, True),  # longer than any job: it may begin in a new one
        # Otherwise 1.3 times the task has to be left, and the margin of a minute.
        (_running(used=True), 1000.0, HOUR - 60 - 1301, True),
        (_running(used=True), 1000.0, HOUR - 60 - 1299, False),
        (_running(used=True), None, HOUR - 61, True),
        (_running(used=True), None, HOUR - 59, False),
        # The limit that the scheduler says, if the options say none.
        (_running(None, ends_at=1000.0, used=True), 500.0, 0.0, True),
        (_running(None, ends_at=1000.0, used=True), 500.0, 400.0, False),
    ],
)
def test_a_task_begins_where_it_has_the_time(
    job: Job, seconds: float | None, now: float, fits: bool
) -> None:
    assert job.fits(seconds, now) is fits


@pytest.mark.parametrize(
    ("job", "now", "nearly"),
    [
        (_running(), HOUR - 119, True),
        (_running(), HOUR - 121, False),
        (_running(leaving=True), HOUR, False),
        (_running(None), HOUR, False),
        (_job(state=State.WAITING), HOUR, False),
        (_running(None, ends_at=100.0), 0.0, True),  # the limit of the queue, two minutes before
    ],
)
def test_a_job_is_nearly_over_when_its_worker_may_have_left(
    job: Job, now: float, nearly: bool
) -> None:
    assert job.nearly_over(now) is nearly


@pytest.mark.parametrize(
    ("state", "reason", "now", "fate"),
    [
        (State.OUT_OF_TIME, "", 0.0, Fate.OUT_OF_TIME),
        (State.COMPLETED, "", HOUR - 119, Fate.OUT_OF_TIME),
        (State.COMPLETED, "", HOUR - 121, Fate.INTERRUPTED),
        (State.FAILED, "NonZeroExitCode", 0.0, Fate.DIED),
        (State.OUT_OF_MEMORY, "", 0.0, Fate.DIED),
        (State.CANCELLED, "OutOfMemory", 0.0, Fate.DIED),
        (State.CANCELLED, "", 0.0, Fate.INTERRUPTED),
        (State.PREEMPTED, "", 0.0, Fate.INTERRUPTED),
        (State.NODE_LOST, "", 0.0, Fate.INTERRUPTED),
        (State.ENDED, "", 0.0, Fate.INTERRUPTED),
    ],
)
def test_an_end_says_whether_the_task_may_be_at_fault(
    state: State, reason: str, now: float, fate: Fate
) -> None:
    assert _job(state=state, reason=reason, ends_at=HOUR).fate(now) is fate


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"state": State.OUT_OF_TIME}, "came to its time limit (1 h)"),
        ({"state": State.OUT_OF_TIME, "walltime_s": None}, "came to its time limit"),
        ({"state": State.COMPLETED}, "ended in order"),
        ({"state": State.CANCELLED, "nodes": "n1"}, "was cancelled on n1"),
        ({"state": State.NODE_LOST, "reason": "NodeDown"}, "lost its node (NodeDown)"),
        ({"state": State.ENDED, "state_text": "BOOT_FAIL"}, "ended as BOOT_FAIL"),
    ],
)
def test_an_end_is_described_with_place_and_reason(fields: dict[str, Any], text: str) -> None:
    assert replace(_job(), **fields).ending_text == text


@pytest.mark.parametrize("state", [state for state in State if state.is_over])
def test_every_end_has_a_text_and_a_fate(state: State) -> None:
    job = _job(state=state)
    assert job.ending_text
    assert job.fate(0.0) in Fate


@pytest.mark.parametrize(
    ("job", "silent", "fate"),
    [
        (_running(leaving=True), False, Fate.INTERRUPTED),
        (_job(state=State.WAITING, requeued=True), False, Fate.INTERRUPTED),
        (_running(requeued=True), False, Fate.INTERRUPTED),  # no worker since
        (_running(requeued=True, staffed=True), False, None),
        (_job(state=State.FAILED), False, Fate.DIED),
        (_running(), False, None),
        (_running(), True, Fate.INTERRUPTED),
        (_job(state=State.ENDING), False, None),
    ],
)
def test_what_became_of_a_worker_follows_from_its_job(
    job: Job, silent: bool, fate: Fate | None
) -> None:
    error = job.lost_worker(0.0, silent)
    assert (error.fate if error is not None else None) is fate


def test_a_row_shows_the_schedulers_own_word_and_an_end_while_it_runs() -> None:
    row = _running(state_text="RUNNING", nodes="n1").row(0.0)
    assert (row["job"], row["state"], row["nodes"]) == ("7", "running", "n1")
    assert row["time limit at"]
    assert not _job(state=State.FAILED, ends_at=9.0).row(0.0)["time limit at"]


def test_a_job_that_was_given_back_is_not_taken_for_one_that_somebody_cancelled() -> None:
    ended = _job(state=State.CANCELLED, state_text="CANCELLED")
    assert ended.row(0.0)["why"] == ""
    left = replace(ended, leaving=True, given_back="nothing to do")
    assert left.row(0.0)["why"] == "given back: nothing to do"
    going = _running(state_text="RUNNING", leaving=True, given_back="nothing to do").row(0.0)
    assert (going["state"], going["why"]) == ("given back", "nothing to do")
    assert not going["time limit at"]


def test_jobs_are_told_in_a_few_words_with_why_they_wait() -> None:
    jobs = [
        *[_running(state_text="RUNNING")] * 2,
        _job(state=State.WAITING, state_text="PENDING", reason="Priority"),
        _job(),
        _job(state=State.CANCELLED, state_text="CANCELLED"),
    ]
    assert jobs_text(jobs) == "2 running, 1 pending (Priority), 1 submitted"
    assert jobs_text(jobs[-1:]) == "none at the moment"
