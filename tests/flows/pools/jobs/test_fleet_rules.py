"""The rules of a fleet of jobs: no scheduler, no thread, no clock."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from aimspax_core.labels.tries import Fate
from flows.pools.jobs import answers, fleet_rules, ledger
from flows.pools.jobs.job import Job
from flows.pools.jobs.ledger import (
    Action,
    Blame,
    Crew,
    Demand,
    Forget,
    GiveBack,
    GiveUp,
    Jobs,
    Policy,
    Submit,
)
from flows.pools.jobs.notices import Notices, Tell
from flows.pools.jobs.scheduler import Listed, State

POLICY = Policy("reference", walltime_s=3600.0, most=4, idle_s=100.0, notice_s=900.0)
NOW = 10_000.0
T = TypeVar("T")


def _job(number: int = 0, state: State = State.RUNNING, **fields: Any) -> Job:
    job = Job(f"reference-{number}", "Slurm", 3600.0, NOW - 1000, id=str(100 + number), state=state)
    if state is State.RUNNING:
        job = replace(job, began_at=NOW - 900, start="t", ends_at=NOW + 2700, staffed=True)
    return replace(job, **{"listed_at": NOW - 10, **fields})


def _jobs(*jobs: Job, **fields: Any) -> Jobs:
    found = Jobs(Notices(NOW, 900.0)).having(*jobs)
    return replace(found, made=len(jobs), **fields)


def _listed(job: Job, state: State, **fields: Any) -> Listed:
    given: dict[str, Any] = {"start": job.start, "left_s": 1000.0, **fields}
    return Listed(job.id, state, Path(f"/pool/{job.name}.sh"), **given)


def _learn(
    jobs: Jobs, *listing: Listed, crews: dict[str, Crew] | None = None, refused: str = ""
) -> tuple[Jobs, list[Action]]:
    return fleet_rules.learn(jobs, listing, NOW, NOW + 1, POLICY, crews or {}, refused)


def _of(kind: type[T], actions: Sequence[Action]) -> list[T]:
    return [action for action in actions if isinstance(action, kind)]


BUSY, IDLE = Crew(1, True), Crew(1, False)


# What has become of them


def test_what_the_scheduler_lists_is_noted() -> None:
    job = _job(state=State.SUBMITTED, id="")
    entry = replace(_listed(job, State.WAITING, reason="Priority"), id="55")
    jobs, actions = _learn(_jobs(job), entry)
    found = jobs.by_name["reference-0"]
    assert (found.id, found.state, found.reason) == ("55", State.WAITING, "Priority")
    assert (found.listed_at, jobs.answered_at) == (NOW + 1, NOW)
    assert not actions


def test_a_job_that_begins_has_its_end_and_stops_the_notice_of_silence_in_the_queue() -> None:
    job = _job(state=State.WAITING)
    jobs, actions = _learn(_jobs(job), _listed(job, State.RUNNING, left_s=60.0, nodes="n1"))
    found = jobs.by_name["reference-0"]
    assert (found.began_at, found.ends_at) == (NOW + 1, NOW + 61)
    assert jobs.notices.quiet_since == NOW + 1
    assert _of(Tell, actions)[0].level == logging.INFO


@pytest.mark.parametrize(
    ("submitted_ago", "listed_ago", "gone"),
    [(61.0, 61.0, True), (59.0, 1000.0, False), (1000.0, 59.0, False)],
)
def test_a_job_that_is_not_listed_for_a_minute_is_gone(
    submitted_ago: float, listed_ago: float, gone: bool
) -> None:
    job = _job(submitted_at=NOW + 1 - submitted_ago, listed_at=NOW + 1 - listed_ago)
    jobs, _ = _learn(_jobs(job))
    assert (jobs.by_name["reference-0"].state is State.CANCELLED) is gone


def test_a_requeued_job_has_no_worker_any_more() -> None:
    job = _job()
    jobs, actions = _learn(_jobs(job), _listed(job, State.WAITING), crews={"reference-0": BUSY})
    found = jobs.by_name["reference-0"]
    assert (found.requeued, found.began_at, found.staffed, found.ends_at) == (
        True, None, False, None,
    )  # fmt: skip
    assert [action.job.name for action in _of(Forget, actions)] == ["reference-0"]


def test_a_job_that_was_requeued_between_two_looks_is_known_by_its_start() -> None:
    job = _job(used=True)
    entry = _listed(job, State.RUNNING, start="later")
    jobs, actions = _learn(_jobs(job), entry, crews={"reference-0": IDLE})
    found = jobs.by_name["reference-0"]
    assert (found.requeued, found.began_at, found.staffed, found.used) == (
        True, NOW + 1, True, False,
    )  # fmt: skip
    assert not _of(Forget, actions)  # its worker is there already


@pytest.mark.parametrize(
    ("state", "level"),
    [
        (State.COMPLETED, logging.INFO), (State.OUT_OF_TIME, logging.INFO),
        (State.FAILED, logging.WARNING), (State.CANCELLED, logging.WARNING),
    ],
)  # fmt: skip
def test_an_end_is_told_once_and_its_workers_are_forgotten(state: State, level: int) -> None:
    job = _job()
    jobs, actions = _learn(_jobs(job), _listed(job, state))
    assert [type(action) for action in actions] == [Forget, Tell]
    assert _of(Tell, actions)[0].level == level
    assert _learn(jobs, _listed(job, state))[1] == []


def test_the_end_of_a_job_that_was_given_back_is_not_told() -> None:
    job = _job(leaving=True)
    _, actions = _learn(_jobs(job), _listed(job, State.CANCELLED))
    assert [type(action) for action in actions] == [Forget]


def test_a_worker_that_does_not_fit_the_flow_ends_the_pool() -> None:
    job = _job()
    _, actions = _learn(_jobs(job), _listed(job, State.FAILED), refused="numpy is old")
    assert _of(GiveUp, actions) == [GiveUp("numpy is old")]


@pytest.mark.parametrize(
    ("staffed", "state", "blamed"),
    [
        (False, State.FAILED, True), (False, State.COMPLETED, True),
        (False, State.OUT_OF_TIME, True), (False, State.CANCELLED, False),
        (False, State.PREEMPTED, False), (True, State.FAILED, False),
    ],
)  # fmt: skip
def test_a_job_that_ends_before_its_worker_came_may_be_to_blame(
    staffed: bool, state: State, blamed: bool
) -> None:
    job = _job(staffed=staffed)
    _, actions = _learn(_jobs(job), _listed(job, state))
    assert bool(_of(Blame, actions)) is blamed


def test_the_third_stillborn_job_in_a_row_is_no_accident() -> None:
    jobs, job = _jobs(_job()), _job()
    for _ in range(2):
        jobs, actions = fleet_rules.blamed(jobs, job, "failed", "", NOW, POLICY)
        assert not actions
    _, actions = fleet_rules.blamed(jobs, job, "failed", "", NOW, POLICY)
    (give_up,) = _of(GiveUp, actions)
    assert give_up.output_of == job


def test_a_worker_that_comes_ends_the_row_of_stillborn_jobs() -> None:
    jobs = fleet_rules.arrived(_jobs(_job(staffed=False), stillborn=2), "tcp://a", "reference-0")
    assert jobs.stillborn == 0
    assert jobs.at("tcp://a") == jobs.by_name["reference-0"]
    assert jobs.by_name["reference-0"].staffed


def test_a_worker_of_several_is_known_by_the_name_before_its_number() -> None:
    jobs = fleet_rules.arrived(_jobs(_job()), "tcp://a", "reference-0-3")
    assert jobs.homes == {"tcp://a": "reference-0"}


def test_while_the_api_is_away_no_job_is_to_blame_and_none_is_submitted() -> None:
    jobs, actions = fleet_rules.blamed(_jobs(), _job(), "failed", "no answer", NOW, POLICY)
    assert (jobs.stillborn, [type(action) for action in actions]) == (0, [Tell])
    assert not _of(Submit, fleet_rules.grow(jobs, NOW + 1, POLICY, Demand())[1])
    assert _of(Submit, fleet_rules.grow(jobs, NOW + 61, POLICY, Demand())[1])


# How many there are


@pytest.mark.parametrize(
    ("taken", "outstanding", "slots", "number"),
    [
        (0, 0, 1, 2),  # at the start as many as asked for
        (2, 0, 1, 1),  # then the least
        (2, 3, 1, 3), (2, 99, 1, 4), (2, 5, 2, 3),
    ],
)  # fmt: skip
def test_jobs_are_wanted_for_the_work_that_there_is_within_the_settings(
    taken: int, outstanding: int, slots: int, number: int
) -> None:
    policy = replace(POLICY, first=2, least=1, slots=slots)
    jobs = _jobs(*(_job(each) for each in range(taken)))
    assert fleet_rules.wanted(jobs, policy, outstanding) == number


def _submitted(jobs: Jobs, demand: Demand, policy: Policy = POLICY) -> int:
    _, actions = fleet_rules.grow(jobs, NOW, policy, demand)
    return sum(action.number for action in _of(Submit, actions))


@pytest.mark.parametrize(("outstanding", "number"), [(0, 0), (1, 0), (3, 2), (99, 3)])
def test_as_many_jobs_as_are_missing_are_submitted(outstanding: int, number: int) -> None:
    assert _submitted(_jobs(_job()), Demand(outstanding)) == number


def test_not_more_than_a_few_jobs_are_submitted_in_one_go() -> None:
    assert _submitted(_jobs(_job()), Demand(99), replace(POLICY, most=99)) == fleet_rules.AT_ONCE


def test_a_job_whose_time_is_nearly_over_is_replaced_while_it_computes() -> None:
    spent = _job(used=True, ends_at=NOW + 100)
    assert _submitted(_jobs(spent), Demand(1, (1000.0,))) == 1
    assert _submitted(_jobs(spent), Demand(1, (20.0,))) == 0


def test_a_job_that_does_not_end_does_not_take_the_place_of_another() -> None:
    ending = _job(state=State.ENDING, ending_since=NOW - ledger.STUCK_S)
    policy = replace(POLICY, most=1)
    assert _submitted(_jobs(ending), Demand(1), policy) == 1
    assert _submitted(_jobs(replace(ending, ending_since=NOW - 1)), Demand(1), policy) == 0


def test_after_trouble_nothing_is_submitted() -> None:
    assert _submitted(_jobs(_job(), trouble="no"), Demand(4)) == 0


def _returned(
    jobs: Jobs, demand: Demand, crews: dict[str, Crew], policy: Policy = POLICY, now: float = NOW
) -> list[str]:
    _, actions = fleet_rules.trim(jobs, now, policy, demand, crews)
    return [action.job.name for action in _of(GiveBack, actions)]


@pytest.mark.parametrize(
    ("idle_s", "outstanding", "returned"), [(99, 0, 0), (101, 0, 2), (101, 1, 1), (101, 2, 0)]
)
def test_jobs_that_have_been_idle_for_long_are_given_back_if_there_are_too_many(
    idle_s: float, outstanding: int, returned: int
) -> None:
    idle = [_job(number, idle_since=NOW - idle_s) for number in range(2)]
    crews = {job.name: IDLE for job in idle}
    assert len(_returned(_jobs(*idle), Demand(outstanding), crews)) == returned


def test_a_job_that_works_is_not_idle() -> None:
    jobs, _ = fleet_rules.trim(
        _jobs(_job(idle_since=NOW - 999)), NOW, POLICY, Demand(), {"reference-0": BUSY}
    )
    found = jobs.by_name["reference-0"]
    assert (found.idle_since, found.used) == (None, True)


def test_an_idle_job_that_fits_no_task_any_more_is_given_back_at_once() -> None:
    spent = _job(used=True, ends_at=NOW + 100, idle_since=NOW)
    assert _returned(_jobs(spent), Demand(1, (1000.0,)), {"reference-0": IDLE}) == ["reference-0"]


def test_jobs_that_wait_for_nothing_are_taken_out_of_the_queue_the_last_first() -> None:
    waiting = [_job(number, State.WAITING) for number in range(3)]
    jobs, _ = fleet_rules.trim(_jobs(*waiting), NOW, POLICY, Demand(1), {})
    assert _returned(jobs, Demand(1), {}, now=NOW + 99) == []
    assert _returned(jobs, Demand(1), {}, now=NOW + 101) == ["reference-2", "reference-1"]


@pytest.mark.parametrize(("staffed", "blamed"), [(True, 0), (False, 1)])
def test_a_job_that_runs_for_long_without_a_worker_is_given_back(
    staffed: bool, blamed: int
) -> None:
    alone = _job(staffed=staffed, alone_since=NOW - fleet_rules.ALONE_S - 1)
    _, actions = fleet_rules.trim(_jobs(alone), NOW, POLICY, Demand(1), {})
    assert [action.job.name for action in _of(GiveBack, actions)] == ["reference-0"]
    assert len(_of(Blame, actions)) == blamed


# What comes of a submission


def test_what_is_refused_at_first_ends_the_pool() -> None:
    jobs = fleet_rules.submitted(_jobs(), "reference-0", NOW, POLICY)
    jobs, actions = fleet_rules.refused(jobs, "reference-0", "no such partition", NOW, POLICY)
    assert not jobs.by_name
    assert "no such partition" in _of(GiveUp, actions)[0].text


def test_what_is_refused_after_others_were_taken_is_tried_again() -> None:
    jobs = fleet_rules.submitted(_jobs(_job()), "reference-1", NOW, POLICY)
    jobs, actions = fleet_rules.refused(jobs, "reference-1", "too many jobs", NOW, POLICY)
    assert [*jobs.by_name] == ["reference-0"]
    assert not _of(GiveUp, actions)
    assert jobs.retry_at == NOW + 15


def test_a_scheduler_that_takes_nothing_is_asked_less_and_less_often() -> None:
    jobs, waits = _jobs(), []
    for _ in range(6):
        jobs, _ = fleet_rules.later(jobs, "busy", NOW, POLICY)
        waits.append(jobs.retry_s)
    assert waits == [15, 30, 60, 120, 240, 300]
    assert fleet_rules.all_taken(jobs).retry_s == 0


def test_a_job_whose_submission_was_not_answered_is_kept_till_the_list_shows() -> None:
    jobs = fleet_rules.submitted(_jobs(), "reference-0", NOW, POLICY)
    jobs, _ = fleet_rules.later(jobs, "timed out", NOW, POLICY)
    assert jobs.by_name["reference-0"].live
    assert jobs.by_name["reference-0"].id == ""


# What a pool asks

AT = "tcp://a"


def _home(job: Job, **fields: Any) -> Jobs:
    return _jobs(replace(job, newest=AT), homes={AT: job.name}, answered_at=NOW - 1, **fields)


@pytest.mark.parametrize(
    ("jobs", "slots", "missed_ago", "fate"),
    [
        (_jobs(), 1, 0.0, Fate.DIED),  # nobody knows its job
        (_home(_job()), 1, 0.0, None),
        (replace(_home(_job()), homes={AT: "reference-0", "b": "reference-0"}), 1, 0.0, None),
        (_jobs(_job(newest="b"), homes={AT: "reference-0"}), 1, 0.0, Fate.INTERRUPTED),
        (_home(_job(ends_at=NOW + 100)), 1, 4.0, Fate.OUT_OF_TIME),
        (_home(_job(ends_at=NOW + 100)), 1, 1.0, None),  # not asked since
        (_home(_job()), 2, 12.0, Fate.DIED),
        (_home(_job()), 2, 9.0, None),
        (_home(_job(state=State.ENDING)), 1, 76.0, Fate.INTERRUPTED),
        (_home(_job(state=State.ENDING)), 1, 74.0, None),
        (_home(_job(state=State.FAILED)), 1, 0.0, Fate.DIED),
    ],
)
def test_what_became_of_a_worker(
    jobs: Jobs, slots: int, missed_ago: float, fate: Fate | None
) -> None:
    policy = replace(POLICY, slots=slots)
    error = answers.explain(jobs, AT, NOW - missed_ago, NOW, policy)
    assert (error.fate if error is not None else None) is fate


SILENT = Notices(NOW, 900.0, silent_since=NOW - 5)


@pytest.mark.parametrize(
    ("jobs", "needs_scheduler", "room"),
    [
        (_home(_job()), True, True),
        (_jobs(), True, False),
        (_home(_job(leaving=True)), True, False),
        (_home(_job(state=State.ENDING)), True, False),
        (_home(_job(state=State.PAUSED)), True, False),
        (_home(_job(state=State.WAITING)), True, True),  # its worker was faster than the list
        (_home(_job(), notices=SILENT), True, False),
        (_home(_job(), notices=SILENT), False, True),
        (_home(_job(used=True, ends_at=NOW + 100)), True, False),
    ],
)
def test_where_a_task_has_room(jobs: Jobs, needs_scheduler: bool, room: bool) -> None:
    policy = replace(POLICY, needs_scheduler=needs_scheduler)
    assert answers.room(jobs, AT, 1000.0, NOW, policy) is room


@pytest.mark.parametrize(
    ("jobs", "failed_ago", "sound"),
    [
        (_home(_job()), 4.0, True),
        (_home(_job(state=State.ENDING)), 4.0, False),
        (_home(_job()), 2.0, None),  # not asked since
        (_home(_job(), notices=SILENT), 4.0, False),
        (_jobs(), 4.0, False),
    ],
)
def test_whether_a_worker_was_sound(jobs: Jobs, failed_ago: float, sound: bool | None) -> None:
    assert answers.sound(jobs, AT, NOW - failed_ago) is sound


# What users are told while jobs wait


def test_silence_is_told_after_a_minute_and_once() -> None:
    jobs, told = _jobs(), []
    for now in (NOW, NOW + 59, NOW + 61, NOW + 200):
        jobs, actions = fleet_rules.silent(jobs, "no answer", now, POLICY)
        told.append(len(actions))
    assert told == [0, 0, 1, 0]
    jobs, actions = _learn(jobs)
    assert len(actions) == 1
    assert not jobs.notices.silence


def test_a_short_silence_is_not_told() -> None:
    jobs, _ = fleet_rules.silent(_jobs(), "no answer", NOW, POLICY)
    assert jobs.notices.silence
    assert _learn(jobs)[1] == []


def test_that_nothing_starts_is_told_less_and_less_often() -> None:
    jobs, told = _jobs(_job(state=State.WAITING, reason="Priority", submitted_at=NOW)), []
    for minutes in range(1, 61):
        jobs, actions = fleet_rules.grow(
            jobs, NOW + 60 * minutes, replace(POLICY, most=1), Demand(1)
        )
        told += [minutes] * len(_of(Tell, actions))
    assert told == [15, 30, 60]


def test_a_job_that_will_never_start_is_told_at_once_and_once() -> None:
    job = _job(state=State.WAITING, reason="InvalidAccount", stuck=True)
    jobs, actions = fleet_rules.grow(_jobs(job), NOW, replace(POLICY, most=1), Demand(1))
    assert "InvalidAccount" in _of(Tell, actions)[0].text
    assert not fleet_rules.grow(jobs, NOW + 10, replace(POLICY, most=1), Demand(1))[1]
