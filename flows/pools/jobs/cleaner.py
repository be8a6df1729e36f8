"""A small process beside each pool of jobs, which cancels the jobs when the run is over or killed.

The cleaner reads from a pipe that the run holds open, so that it notices the end of the run however
the run ends. Then it cancels all jobs whose scripts lie in the pool's folder, and removes the
folder with the keys in it. So there is one way of cleaning up, whether a run finishes or is killed.
After a run that was killed the cleaner also tells Prefect.
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
"""How long the end of a run waits for its cleaner (s)."""

_IN_ORDER = b"in order"
"""What a run writes to its cleaner when it ends; a run that is killed writes nothing."""

_GIVE_UP_S = 24 * 3600.0
_QUIET_LOOKS = 2  # a submission that was under way when the run died shows up a moment later
_LOOK_S = 1.5

log = logging.getLogger(f"aimspax.{__name__}")


@contextlib.contextmanager
def cleaned_up(parent: Path, name: str, logs: Path, attempt: Sequence[str] = ()) -> Iterator[Path]:
    """Make a folder for a pool's scripts and keys; after the block its jobs and it are gone.

    Args:
        parent: Where folders of pools lie, with the scheduler's name in the table of schedulers;
            what runs that are gone have left there is removed.
        name: Name of the pool.
        logs: Where the cleaner writes what goes wrong.
        attempt: The flow run's id, and the number of the attempt, if this is one.

    Yields:
        The folder, which nobody else can look into.
    """
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / f"{name}-{os.getpid()}-{secrets.token_hex(4)}"
    with _alone(parent):
        _sweep(parent, logs)
        folder.mkdir(mode=0o700)
        cleaner = _start(folder, logs, attempt)
    try:
        yield folder
    finally:
        _end(cleaner)
        try:
            if cleaner.wait(PATIENCE_S):  # this cleaner was killed: another one does its work
                cleaner = _start(folder, logs)
                _end(cleaner)
                cleaner.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            logging.getLogger("aimspax").warning(
                "not all jobs of the %s pool are cancelled yet; process %d goes on trying",
                *(name, cleaner.pid),
            )


def _end(cleaner: subprocess.Popen[bytes]) -> None:
    """Let a cleaner know that its run has ended in order."""
    assert cleaner.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # the cleaner was killed
        cleaner.stdin.write(_IN_ORDER)
        cleaner.stdin.close()


def _start(folder: Path, logs: Path, attempt: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """Start the cleaner of a folder in a session of its own: what ends the run does not end it."""
    logs.mkdir(parents=True, exist_ok=True)
    with (logs / f"{folder.parent.name}-guard.log").open("ab") as output:
        cleaner = subprocess.Popen(
            [sys.executable, "-P", "-m", "flows.pools.jobs.cleaner", str(folder), *attempt],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            start_new_session=True,
        )
    assert cleaner.stdout is not None
    there = cleaner.stdout.readline()  # it has the lock of the folder
    cleaner.stdout.close()
    if not there:
        raise CampaignError(
            f"what cancels jobs when a run is killed does not start; see {output.name}"
        )
    return cleaner


def _sweep(parent: Path, logs: Path) -> None:
    """Clean up after runs that were killed together with their cleaners."""
    for folder in parent.iterdir():
        if folder.is_dir() and not _held(folder):
            cleaner = _start(folder, logs)
            assert cleaner.stdin is not None
            cleaner.stdin.close()
            threading.Thread(target=cleaner.wait, daemon=True).start()  # no zombie stays


@contextlib.contextmanager
def _alone(parent: Path) -> Iterator[None]:
    """Let no other run look for leftovers before the cleaner of a new folder is there."""
    with locks.held(parent.with_suffix(".lock"), math.inf):
        yield


def _held(folder: Path) -> bool:
    """Tell whether the cleaner of a folder lives; True if there are no locks that would show it."""
    try:
        return locks.holder(folder / "guard.lock", required=True) is not None
    except locks.NoLocksError:
        return True


def main(folder: Path, attempt: Sequence[str] = ()) -> None:
    """Hold the lock of a folder until the run is gone, then clean up."""
    with locks.held(folder / "guard.lock"):
        # The job or session that the run is in ends, with all its processes: there is no later.
        signal.signal(signal.SIGTERM, lambda *_: clean(folder))
        print(flush=True)
        killed = sys.stdin.buffer.read() != _IN_ORDER
        clean(folder)
    if killed and attempt:
        _tell(*attempt)


def _tell(flow_run: str, number: str) -> None:
    """Show in Prefect that a run was killed; Prefect is big, and imported only here."""
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
