"""Run a shell line; its processes end with the line, with the time limit, or with the worker.

A worker may be killed at any moment, and must not leave a calculation behind that goes on beside
the one which is started in its place. So a supervisor process stands between worker and
calculation: it ends the calculation when its pipe to the worker closes, however the worker ended.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

OUTPUT, ERRORS = "launch.out", "launch.err"
"""Files in the folder of a calculation: output and errors that the line does not redirect."""

_GRACE_S = 5.0
"""From asking processes to end to killing them; a launcher ends its remote ones meanwhile."""


@dataclass(frozen=True)
class Ended:
    """How a shell line ended.

    Attributes:
        code: Its exit code, 128 + the signal's number if a signal ended it; None: out of time.
        seconds: How long it ran.
    """

    code: int | None
    seconds: float


def run(line: str, folder: Path, timeout_s: float) -> Ended:
    """Run a shell line, exactly as it is, in a folder.

    Args:
        line: For bash if the machine has it, else for sh.
        folder: Where it runs; gets `OUTPUT` and `ERRORS`.
        timeout_s: Time after which all its processes are ended.

    Raises:
        OSError: Nothing can be started, or the folder cannot be written to.
    """
    shell = shutil.which("bash") or "sh"
    began = time.monotonic()
    with (folder / OUTPUT).open("ab") as output, (folder / ERRORS).open("ab") as errors:
        supervisor = subprocess.Popen(
            [sys.executable, "-I", __file__, shell, line],
            cwd=folder,
            # How to reach Prefect is no business of the program, nor of who sees its environment.
            env={n: v for n, v in os.environ.items() if not n.startswith("PREFECT_")},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
    code: int | None = None
    try:
        code = supervisor.wait(timeout_s)
    except subprocess.TimeoutExpired:
        pass  # the exit code stays None
    finally:
        _end(supervisor)
    return Ended(code, time.monotonic() - began)


def _end(supervisor: subprocess.Popen[bytes]) -> None:
    """Have the supervisor end what it runs, which it does when its pipe closes."""
    assert supervisor.stdin is not None
    supervisor.stdin.close()
    try:
        supervisor.wait(3 * _GRACE_S)
    except subprocess.TimeoutExpired:
        supervisor.kill()
        supervisor.wait()


def _supervise(shell: str, line: str) -> int:
    """Run the line in a process group of its own; nothing of the group is left in the end."""
    child = subprocess.Popen([shell, "-c", line], stdin=subprocess.DEVNULL, start_new_session=True)
    stopping = threading.Event()

    def watch() -> None:
        os.read(0, 1)  # nothing is ever written: it returns when the pipe closes
        stopping.set()
        _signal(child.pid, signal.SIGTERM)
        time.sleep(_GRACE_S)
        _signal(child.pid, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    code = child.wait()
    end = time.monotonic() + _GRACE_S
    while stopping.is_set() and time.monotonic() < end and _signal(child.pid, 0):
        time.sleep(0.05)  # the shell ends at once, its launcher has processes elsewhere to end
    _signal(child.pid, signal.SIGKILL)
    return code if code >= 0 else 128 - code


def _signal(group: int, number: int) -> bool:
    """Send a signal to a process group; False if it has ended."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(_supervise(*sys.argv[1:]))
