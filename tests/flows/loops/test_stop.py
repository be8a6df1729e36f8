"""How a run that was stopped ends: for good, or to be started again by itself."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flows.deployments.profile import AUTOMATIONS, read_automations
from flows.loops.stop import Stop, StopRequested, goes_on
from flows.runs import restarts
from flows.runs.api_health import Answer, Found
from flows.runs.api_watch import ApiWatch
from flows.runs.previous_attempt import RunAttempt
from flows.runs.restarts import INTERRUPTED, count_restart


@pytest.mark.parametrize("on_server", ["RUNNING", "PAUSED", ""])
def test_a_deployed_run_whose_worker_is_stopped_goes_on(on_server: str) -> None:
    assert goes_on(has_worker=True, signal=True, on_server=on_server)


@pytest.mark.parametrize("signal", [True, False])
@pytest.mark.parametrize("on_server", ["CANCELLING", "CANCELLED"])
def test_a_cancel_is_for_good_though_a_signal_comes_with_it(signal: bool, on_server: str) -> None:
    assert not goes_on(has_worker=True, signal=signal, on_server=on_server)


def test_a_run_without_a_worker_stays_stopped() -> None:
    assert not goes_on(has_worker=False, signal=True, on_server="RUNNING")


def test_a_stop_is_no_death_wherever_the_run_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, number = tmp_path / "restarts.json", itertools.count(1)
    for _ in range(4):
        attempt = RunAttempt("a", next(number))
        monkeypatch.setattr(restarts, "this_attempt", lambda attempt=attempt: attempt)
        count_restart(file, "no progress", 0)
        stop = Stop()
        stop.counted_in = file
        stop.signalled(signal.SIGTERM)
        stop.state("SIGTERM")


def test_a_cancel_is_seen_that_came_after_the_last_look() -> None:
    watch = ApiWatch(lambda: Found(Answer.FINE, state="CANCELLING"))
    assert watch.state == ""
    assert watch.look_now()
    assert watch.state == "CANCELLING"


def test_automations_start_an_interrupted_run_again_and_know_that_it_is_not_dead() -> None:
    event = f"prefect.flow-run.{INTERRUPTED}"
    triggers = {one.name: one.trigger for one in read_automations(AUTOMATIONS)}
    for name in ("aimspax goes on after a stop", "aimspax notices the dead"):
        assert event in triggers[name]["expect"]


def test_an_error_that_a_library_makes_of_a_stop_is_a_stop() -> None:
    stop = Stop()
    with pytest.raises(StopRequested), stop.at_once():
        try:
            stop.signalled(signal.SIGTERM)
        except StopRequested as error:
            raise ImportError("circular lazy import") from error


def test_an_error_without_a_stop_is_an_error() -> None:
    with pytest.raises(ImportError), Stop().at_once():
        raise ImportError("no such module")


HANGING = """
import socket, time, httpx
from flows.commands.ends import interruptible
from flows.loops.stop import stop_signals
from flows.runs import exits

exits.STOP_S = 5.0 if WHERE == "nowhere" else 1.0  # a process that goes on may be a slow one

def ask(server):  # a Prefect API that holds still: it takes the question, and never answers
    host, port = server.getsockname()
    httpx.get(f"http://{host}:{port}", timeout=None)

def wait(stopped):
    print("runs", flush=True)
    while not stopped.reason:
        time.sleep(0.01)

if COMMAND:
    interruptible()
with socket.create_server(("127.0.0.1", 0)) as server:
    with stop_signals() as stopped:
        if WHERE == "in the run":
            print("runs", flush=True)
            ask(server)
        wait(stopped)
    if WHERE == "behind the run":
        ask(server)
time.sleep(exits.STOP_S + 1.0)
print("goes on", flush=True)
"""


def stopped(command: bool, where: str) -> tuple[int, str, str]:
    """Stop a process that waits for an API that never answers; return its code and its output."""
    script = f"COMMAND, WHERE = {command}, {where!r}{HANGING}"
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            process.stdout.readline()
            process.send_signal(signal.SIGINT)
            printed, told = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, printed, told


@pytest.mark.parametrize(
    ("command", "where"), [(True, "in the run"), (True, "behind the run"), (False, "in the run")]
)
def test_a_stop_ends_by_itself_though_an_api_never_answers(command: bool, where: str) -> None:
    code, printed, told = stopped(command, where)
    assert (code, printed) == (130, "")
    assert told.splitlines()[-1].endswith("start again to go on")


def test_a_forced_end_does_not_wait_for_what_it_cannot_remove() -> None:
    script = """
import threading
from flows.runs import exits
exits._TIDY_S = 0.1
exits.end_within(0.1, "stopped", tidy=threading.Event().wait)
threading.Event().wait()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (130, b"stopped\n")


def test_a_forced_end_needs_nobody_who_reads_its_line() -> None:
    script = """
import os
from flows.runs.exits import end_at_once
os.close(2)
end_at_once("stopped")
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 130


def test_a_process_that_is_not_the_runs_own_goes_on_behind_it() -> None:
    assert stopped(False, "nowhere") == (0, "goes on\n", "")


def test_tasks_are_waited_for_from_the_signal_on_and_no_longer() -> None:
    asked = Stop()
    asked.signalled(signal.SIGTERM)
    assert asked.grace_ends == asked.grace_ends
