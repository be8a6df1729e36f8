"""No job is left behind, however a run ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from prefect.client.orchestration import get_client
from prefect.states import Running

from flows.pools.jobs.cleaner import cleaned_up
from flows.pools.jobs.slurm import Slurm as Queue
from flows.server import Server
from tests.flows.hosting import host, wait_for
from tests.slurm.machine import Slurm

slurm_queue = Queue()
SCRIPT = "#!/bin/bash\n#SBATCH --ntasks=4 --mem=100 --time=10 --output=/dev/null\nexec sleep 600\n"
RUN = """
    import signal, sys, time
    from pathlib import Path
    from flows.pools.jobs.cleaner import cleaned_up
    from flows.pools.jobs.slurm import Slurm

    # What started the tests may ignore Ctrl-C, as a shell does in what it runs aside.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parent, script, jobs, *attempt = sys.argv[1:]
    with cleaned_up(Path(parent), "reference", Path(parent).parent / "logs", attempt) as folder:
        for number in range(int(jobs)):
            file = folder / f"reference-{number}.sh"
            file.write_text(script)
            Slurm().submit(file)
        print(folder, flush=True)
        time.sleep(600)
"""


@dataclass
class Run:
    """A process that holds jobs, and what watches it."""

    process: subprocess.Popen[str]
    folder: Path
    cleaner: psutil.Process

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    return tmp_path / "state" / "slurm"


@contextlib.contextmanager
def _running(parent: Path, jobs: int, *attempt: str) -> Iterator[Run]:
    command = [sys.executable, "-c", textwrap.dedent(RUN), str(parent), SCRIPT, str(jobs), *attempt]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        (cleaner,) = psutil.Process(process.pid).children()
        try:
            yield Run(process, folder, cleaner)
        finally:
            process.kill()
            psutil.wait_procs([cleaner], timeout=60)


def _states(folder: Path) -> list[str]:
    return sorted(job.state for job in slurm_queue.jobs(folder))


def _both_there(folder: Path) -> None:
    """Wait until one of two jobs runs, and the other one waits for it."""
    wait_for(lambda: _states(folder) == ["running", "waiting"], "one runs, one waits")


def _all_over(folder: Path) -> bool:
    return not folder.exists() and {*_states(folder)} == {"cancelled"}


def _submit(folder: Path) -> None:
    script = folder / "reference-0.sh"
    script.write_text(SCRIPT)
    slurm_queue.submit(script)
    wait_for(lambda: _states(folder) == ["running"], "it runs")


def test_nobody_else_can_look_into_the_folder(parent: Path) -> None:
    with cleaned_up(parent, "reference", parent.parent / "logs") as folder:
        assert folder.stat().st_mode & 0o777 == 0o700


def test_after_a_run_its_jobs_and_its_folder_are_gone(slurm: Slurm, parent: Path) -> None:
    with cleaned_up(parent, "reference", parent.parent / "logs") as folder:
        _submit(folder)
        (folder / "key.pem").write_text("secret")
    assert _all_over(folder)
    assert not [path for path in parent.iterdir() if path.is_dir()]


def test_a_run_that_fails_leaves_no_jobs_either(slurm: Slurm, parent: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        cleaned_up(parent, "reference", parent.parent / "logs") as folder,
    ):
        _submit(folder)
        1 / 0
    assert _all_over(folder)


@pytest.mark.slow
def test_a_run_that_is_killed_leaves_no_jobs(slurm: Slurm, parent: Path) -> None:
    with _running(parent, 2) as run:
        _both_there(run.folder)
        run.kill()
        wait_for(lambda: _all_over(run.folder), "nothing is left")


@pytest.mark.slow
def test_ctrl_c_does_not_end_the_cleaner(slurm: Slurm, parent: Path) -> None:
    with _running(parent, 1) as run:
        os.killpg(run.process.pid, signal.SIGINT)  # as a terminal does: to all in the foreground
        run.process.wait(60)
        wait_for(lambda: _all_over(run.folder), "nothing is left")


@pytest.mark.slow
def test_a_cleaner_goes_on_trying_while_slurm_is_silent(slurm: Slurm, parent: Path) -> None:
    with _running(parent, 2) as run:
        _both_there(run.folder)
        told = parent.parent / "logs" / "slurm-guard.log"
        with slurm.controller_frozen():
            run.kill()
            wait_for(lambda: "trying again" in told.read_text(), "it tries again")
            assert run.cleaner.is_running()
        wait_for(lambda: _all_over(run.folder), "nothing is left")


@pytest.mark.slow
def test_what_a_killed_run_and_its_killed_cleaner_left_is_swept_by_the_next(
    slurm: Slurm, parent: Path
) -> None:
    with _running(parent, 2) as run:
        _both_there(run.folder)
        run.cleaner.kill()
        run.kill()
    assert _states(run.folder) == ["running", "waiting"]
    with cleaned_up(parent, "reference", parent.parent / "logs"):
        wait_for(lambda: _all_over(run.folder), "nothing is left")


@pytest.mark.slow
def test_a_folder_whose_cleaner_lives_is_left_alone(slurm: Slurm, parent: Path) -> None:
    logs = parent.parent / "logs"
    with cleaned_up(parent, "reference", logs) as first:
        _submit(first)
        with cleaned_up(parent, "ml", logs):
            pass  # its own cleaner has looked twice by now
        assert _states(first) == ["running"]
        assert first.exists()


@pytest.mark.slow
def test_prefect_shows_that_a_run_was_killed(
    slurm: Slurm, prefect_server: Server, parent: Path
) -> None:
    with get_client(sync_client=True) as client:
        flow_run = client.create_flow_run(host, parameters={"name": ""})
        client.set_flow_run_state(flow_run.id, Running(), force=True)
        with _running(parent, 1, str(flow_run.id), "1") as run:
            run.kill()
            wait_for(lambda: client.read_flow_run(flow_run.id).state.is_crashed(), "it is shown")
        assert "killed" in client.read_flow_run(flow_run.id).state.message
