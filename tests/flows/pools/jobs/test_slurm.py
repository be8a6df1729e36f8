"""Slurm's commands and variables, as a pool of jobs uses them."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.pools.jobs.scheduler import Listed, SchedulerRefusedError, SchedulerSilentError, State
from flows.pools.jobs.slurm import Slurm as Queue
from flows.pools.jobs.slurm import left
from tests.slurm.machine import Slurm

PATIENCE_S = 2.0

slurm_queue = Queue()


def _script(folder: Path, options: str = "", body: str = "sleep 300", name: str = "job.sh") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / name
    lines = ["#!/bin/bash", f'#SBATCH --output="{name}.out" --mem=100 {options}']
    lines += [f'#SBATCH --chdir="{folder}"', body, ""]
    script.write_text("\n".join(lines))
    return script


def _listed(folder: Path) -> Listed:
    (job,) = slurm_queue.jobs(folder)
    return job


def _run(slurm: Slurm, script: Path, state: str) -> Listed:
    """Submit a script, and wait for a state of its job."""
    job = slurm_queue.submit(script)
    slurm.wait(lambda: slurm.state(int(job)) == state, f"it is {state}")
    return _listed(script.parent)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0:05", 5), ("9:59", 599), ("1:02:03", 3723), ("1-02:03:04", 93784),
        ("365-00:00:00", 31536000), (" 10:00 ", 600),
        ("UNLIMITED", None), ("INVALID", 0), ("N/A", None), ("", None), ("NOT_SET", None),
    ],
)  # fmt: skip
def test_the_time_that_is_left_is_read(text: str, seconds: float | None) -> None:
    assert left(text) == seconds


def test_a_running_job_is_listed_with_its_time_and_node(slurm: Slurm, tmp_path: Path) -> None:
    job = _run(slurm, _script(tmp_path, "--time=10"), "RUNNING")
    assert job.left_s is not None and 0 < job.left_s <= 600
    assert (job.state, job.nodes, job.script) == (State.RUNNING, "cpu1", tmp_path / "job.sh")


def test_a_job_without_a_limit_has_no_time_left(slurm: Slurm, tmp_path: Path) -> None:
    assert _run(slurm, _script(tmp_path, "--time=UNLIMITED"), "RUNNING").left_s is None


def test_a_reason_of_many_words_is_read(slurm: Slurm, tmp_path: Path) -> None:
    slurm.node_down()
    slurm_queue.submit(_script(tmp_path))
    slurm.wait(lambda: "DOWN, DRAINED or" in _listed(tmp_path).reason, "Slurm says why")
    assert (_listed(tmp_path).state, _listed(tmp_path).nodes) == (State.WAITING, "")


def test_jobs_are_known_by_a_script_with_any_name(slurm: Slurm, tmp_path: Path) -> None:
    folder = tmp_path / "with blank, comma" / "50% | more"
    script = _script(folder, name="my job.sh")
    slurm_queue.submit(script)
    assert _listed(folder).script == script


def test_jobs_of_other_folders_are_not_listed(slurm: Slurm, tmp_path: Path) -> None:
    slurm_queue.submit(_script(tmp_path / "a"))
    slurm_queue.submit(_script(tmp_path / "b"))
    slurm_queue.submit(_script(tmp_path / "a" / "deeper"))
    assert _listed(tmp_path / "a").script == tmp_path / "a" / "job.sh"
    assert slurm_queue.jobs(tmp_path) == []


def test_a_job_that_ended_is_still_listed(slurm: Slurm, tmp_path: Path) -> None:
    job = _run(slurm, _script(tmp_path, body="exit 3"), "FAILED")
    assert (job.state, job.state_text) == (State.FAILED, "FAILED")
    assert job.reason == "NonZeroExitCode"


def test_cancelled_jobs_end_whether_they_run_or_wait(slurm: Slurm, tmp_path: Path) -> None:
    first = slurm_queue.submit(_script(tmp_path, "--ntasks=4"))
    slurm.wait(lambda: slurm.state(int(first)) == "RUNNING", "one runs")
    second = slurm_queue.submit(_script(tmp_path, "--ntasks=4", name="second.sh"))
    slurm_queue.cancel([first, second])
    slurm.wait(
        lambda: {job.state for job in slurm_queue.jobs(tmp_path)} == {State.CANCELLED}, "both"
    )


def test_cancelling_what_has_ended_or_never_was_is_no_error(slurm: Slurm, tmp_path: Path) -> None:
    ended = _run(slurm, _script(tmp_path, body="exit 0"), "COMPLETED")
    running = slurm_queue.submit(_script(tmp_path, name="running.sh"))
    slurm_queue.cancel([ended.id, "987654", running])
    slurm.wait(lambda: slurm.state(int(running)) == "CANCELLED", "the one that runs is cancelled")
    slurm_queue.cancel([])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--partition=nope", "invalid partition specified: nope"),
        ("--mem=999G", "Memory specification can not be satisfied"),
        ("--constraint=nosuch", "Invalid feature specification"),
        ("--gres=gpu:99", "Requested node configuration is not available"),
        ("--time=abc", "Invalid --time specification"),
    ],
)
def test_what_slurm_refuses_is_told_in_its_words(
    slurm: Slurm, tmp_path: Path, options: str, told: str
) -> None:
    with pytest.raises(SchedulerRefusedError) as caught:
        slurm_queue.submit(_script(tmp_path, options))
    assert told in str(caught.value)


def test_trying_a_script_submits_nothing(slurm: Slurm, tmp_path: Path) -> None:
    assert "partition debug" in slurm_queue.tried(_script(tmp_path))
    assert slurm.jobs(ended=False) == []


def test_a_script_that_would_be_refused_is_told_when_it_is_tried(
    slurm: Slurm, tmp_path: Path
) -> None:
    with pytest.raises(SchedulerRefusedError, match="invalid partition specified: nope"):
        slurm_queue.tried(_script(tmp_path, "--partition=nope"))


@pytest.mark.slow
def test_a_frozen_controller_is_silent_and_refuses_nothing(slurm: Slurm, tmp_path: Path) -> None:
    script = _script(tmp_path)
    with slurm.controller_frozen():
        with pytest.raises(SchedulerSilentError, match="squeue does not answer within 2 s"):
            slurm_queue.jobs(tmp_path, PATIENCE_S)
        with pytest.raises(SchedulerSilentError):
            slurm_queue.cancel(["1"], PATIENCE_S)
        with pytest.raises(SchedulerSilentError):
            slurm_queue.tried(script, PATIENCE_S)
        with pytest.raises(SchedulerSilentError, match="timed out"):
            slurm_queue.submit(script)  # its own patience is over


def test_without_slurm_it_is_silent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SchedulerSilentError, match="squeue cannot be run"):
        slurm_queue.jobs(tmp_path)


@pytest.mark.parametrize("name", ["PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING"])
def test_a_job_does_not_see_the_key_of_the_api(
    slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "admin:hunter2")
    monkeypatch.setenv("SOMETHING_ELSE", "seen")
    _run(slurm, _script(tmp_path, body="env"), "COMPLETED")
    seen = (tmp_path / "job.sh.out").read_text()
    assert "SOMETHING_ELSE=seen" in seen
    assert "hunter2" not in seen
