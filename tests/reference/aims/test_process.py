"""Claims about shell lines: run as they are, and nothing of them survives their end."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from aimspax_core.reference.aims.process import ERRORS, OUTPUT, run

BACKGROUND = "sleep 300 & echo $! > pids; sleep 300 & echo $! >> pids; "


def test_a_line_is_run_as_it_is_with_its_redirections(tmp_path: Path):
    ended = run("echo one > a.out; echo two >> a.out; echo said; echo wrong >&2", tmp_path, 60)
    assert ended.code == 0
    assert (tmp_path / "a.out").read_text() == "one\ntwo\n"
    assert (tmp_path / OUTPUT).read_text() == "said\n"
    assert (tmp_path / ERRORS).read_text() == "wrong\n"


def test_its_exit_code_comes_back(tmp_path: Path):
    assert run("exit 3", tmp_path, 60).code == 3


def test_a_signal_is_told_as_shells_tell_it(tmp_path: Path):
    assert run("kill -SEGV $$", tmp_path, 60).code == 128 + 11


def test_it_reads_nothing_from_the_terminal(tmp_path: Path):
    run("cat > read.out", tmp_path, 60)
    assert (tmp_path / "read.out").read_text() == ""


def test_out_of_time_all_its_processes_end(tmp_path: Path):
    ended = run(BACKGROUND + "wait", tmp_path, 0.5)
    assert ended.code is None
    assert not _alive(tmp_path)


def test_what_it_leaves_in_the_background_ends_with_it(tmp_path: Path):
    assert run(BACKGROUND + "exit 0", tmp_path, 60).code == 0
    assert not _alive(tmp_path)


def test_processes_that_ignore_sigterm_end_too(tmp_path: Path):
    run("trap '' TERM; echo $$ > pids; while :; do sleep 1; done", tmp_path, 0.5)
    assert not _alive(tmp_path)


def test_a_launcher_has_time_to_end_what_it_runs_elsewhere(tmp_path: Path):
    """Also if the line is more than the launcher: its shell ends at once."""
    launcher = "import signal, sys, time, pathlib\n"
    launcher += "def end(*_):\n time.sleep(1)\n pathlib.Path('ended').touch()\n sys.exit()\n"
    launcher += "signal.signal(signal.SIGTERM, end)\npathlib.Path('ready').touch()\n"
    launcher += "time.sleep(300)\n"
    (tmp_path / "launcher.py").write_text(launcher)
    run(f"true; {sys.executable} launcher.py > out; echo done", tmp_path, 5)
    assert (tmp_path / "ready").exists()
    assert (tmp_path / "ended").exists()


@pytest.mark.slow
def test_all_its_processes_end_when_the_worker_is_killed(tmp_path: Path):
    code = "from aimspax_core.reference.aims.process import run\nfrom pathlib import Path\n"
    code += f"run({BACKGROUND + 'wait'!r}, Path({str(tmp_path)!r}), 600)"
    worker = subprocess.Popen([sys.executable, "-c", code])
    _until(lambda: len(_alive(tmp_path)) == 2)
    worker.kill()
    worker.wait()
    _until(lambda: not _alive(tmp_path))


def _alive(folder: Path) -> list[int]:
    pids = folder / "pids"
    found = [int(line) for line in pids.read_text().split()] if pids.exists() else []
    return [pid for pid in found if psutil.pid_exists(pid) and _runs(pid)]


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _until(holds) -> None:
    for _ in range(300):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("not within 30 s")
