"""What stays when a run is killed: a small process that cancels the jobs of the run.

It waits for the end of the run, which is the end of the pipe that it holds to it, however the run
ends; then it cancels all jobs whose scripts lie in the pool's folder, and removes the folder with
the keys in it. So there is one way of cleaning up, whether a run finishes or is killed. After a run
that was killed it also tells Prefect.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from aimspax_core import locks
from aimspax_core.errors import CampaignError
from flows.pools.jobs.scheduler import SchedulerSilentError, State, scheduler

PATIENCE_S = 20.0
"""How long the end of a run waits for its guard."""

_IN_ORDER = b"in order"
"""What a run says to its guard when it ends; one that is killed says nothing."""

_GIVE_UP_S = 24 * 3600.0
_QUIET_LOOKS = 2  # a submission that was under way when the run died shows up a moment later
_LOOK_S = 1.5

log = logging.getLogger(f"aimspax.{__name__}")


@contextlib.contextmanager
def guarded(parent: Path, name: str, logs: Path, attempt: Sequence[str] = ()) -> Iterator[Path]:
    """Make a folder for a pool's scripts and keys; its jobs and itself are gone after the block.

    Args:
        parent: Where folders of pools lie, with the scheduler's name in the table of schedulers;
            what runs that are gone have left there is removed.
        name: Name of the pool.
        logs: Where the guard writes what goes wrong.
        attempt: The flow run's id, and the number of the attempt, if this is one.

    Yields:
        The folder, which nobody else can look into.
    """
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / f"{name}-{os.getpid()}-{secrets.token_hex(4)}"
    with _alone(parent):
        _sweep(parent, logs)
        folder.mkdir(mode=0o700)
        guard = _start(folder, logs, attempt)
    try:
        yield folder
    finally:
        _end(guard)
        try:
            if guard.wait(PATIENCE_S):  # it was killed before: another one does its work
                guard = _start(folder, logs)
                _end(guard)
                guard.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            logging.getLogger("aimspax").warning(
                "not all jobs of the %s pool are cancelled yet; process %d goes on trying",
                *(name, guard.pid),
            )


def _end(guard: subprocess.Popen[bytes]) -> None:
    """Let a guard clean up after a run that ended in order."""
    assert guard.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it was killed
        guard.stdin.write(_IN_ORDER)
        guard.stdin.close()


def _start(folder: Path, logs: Path, attempt: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """Start a guard of a folder, in a session of its own: what ends the run does not end it."""
    logs.mkdir(parents=True, exist_ok=True)
    with (logs / f"{folder.parent.name}-guard.log").open("ab") as output:
        guard = subprocess.Popen(
            [sys.executable, "-P", "-m", "flows.pools.jobs.cleaner", str(folder), *attempt],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            start_new_session=True,
        )
    assert guard.stdout is not None
    there = guard.stdout.readline()  # and it holds the folder
    guard.stdout.close()
    if not there:
        raise CampaignError(
            f"what cancels jobs when a run is killed does not start; see {output.name}"
        )
    return guard


def _sweep(parent: Path, logs: Path) -> None:
    """Have what runs and guards that were killed together have left cleaned up."""
    for folder in parent.iterdir():
        if folder.is_dir() and not _held(folder):
            guard = _start(folder, logs)
            assert guard.stdin is not None
            guard.stdin.close()
            threading.Thread(target=guard.wait, daemon=True).start()  # no zombie stays


@contextlib.contextmanager
def _alone(parent: Path) -> Iterator[None]:
    """Let no other run look for leftovers before the guard of a new folder is there."""
    with locks.held(parent.with_suffix(".lock"), math.inf):
        yield


def _held(folder: Path) -> bool:
    """Tell whether a guard of a folder lives; without locks that cannot be known."""
    try:
        return locks.holder(folder / "guard.lock", required=True) is not None
    except locks.NoLocksError:
        return True


def main(folder: Path, attempt: Sequence[str] = ()) -> None:
    """Hold a folder until the run is gone, then clean up."""
    with locks.held(folder / "guard.lock"):
        # The job or session that the run is in ends, with all its processes: there is no later.
        signal.signal(signal.SIGTERM, lambda *_: clean(folder))
        print(flush=True)
        killed = sys.stdin.buffer.read() != _IN_ORDER
        clean(folder)
    if killed and attempt:
        _tell(*attempt)


def _tell(flow_run: str, number: str) -> None:
    """Show in Prefect that a run was killed; it is imported only now, as it is big."""
    from prefect.client.orchestration import get_client

    from flows.runs.previous_attempt import RunAttempt, mark_attempt_crashed

    with get_client(sync_client=True) as client:
        mark_attempt_crashed(client, RunAttempt(flow_run, int(number)), "its process was killed")


def clean(folder: Path) -> None:
    """Cancel all jobs of a folder until none is left, and remove it."""
    for key in folder.glob("*.pem"):
        key.unlink(missing_ok=True)  # no worker starts any more
    queue = scheduler(folder.parent.name)
    end, quiet, wait = time.monotonic() + _GIVE_UP_S, 0, 1.0
    if not any(folder.glob("*.sh")):
        quiet = _QUIET_LOOKS  # nothing was ever submitted
    while quiet < _QUIET_LOOKS and time.monotonic() < end:
        try:
            states = {job.id: job.state for job in queue.jobs(folder)}
            live = [id_ for id_, s in states.items() if not s.is_over and s is not State.ENDING]
            queue.cancel(live)
            quiet, wait = (0 if live else quiet + 1), _LOOK_S
        except SchedulerSilentError as error:
            log.warning("%s; trying again in %.0f s", error, wait)
            wait = min(2 * wait, 300.0)
        if quiet < _QUIET_LOOKS:
            time.sleep(wait)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    main(Path(sys.argv[1]), sys.argv[2:])
