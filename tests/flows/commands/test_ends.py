"""How commands end that are interrupted."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass

import pytest

STARTING = """
import sys, types
from flows.commands import start
late = types.ModuleType("flows.commands.late")
def command():
    print("imports", flush=True)
    sys.stdin.read()
late.command = command
sys.modules["flows.commands.late"] = late
start._run("late", "command")
"""
RUNNING = """
import sys, threading, time
from cyclopts import App
from aimspax_core.errors import SettingsError
from flows.commands.app import finish
app = App()
@app.default
def command() -> int:
    while True:
        try:
            print("runs", flush=True)
            sys.stdin.read()
        except BaseException as error:
            if HOW == "swallows":
                continue
            if HOW == "is taken for an error of an import":
                raise ImportError("circular lazy import") from error
            if HOW == "is followed by a mistake":
                raise SettingsError("c_x: found 'far'")
            if HOW == "is followed by a lost file":
                raise OSError(5, "Input/output error", "/data/label.json")
            if HOW == "leaves a thread, and is followed by a mistake":
                threading.Thread(target=time.sleep, args=(60,)).start()
                raise SettingsError("c_x: found 'far'")
            if HOW == "is followed by a bug":
                raise KeyError("frame")
            raise
finish(app)
"""
ENDING = """
import sys, threading, time, types
from flows.commands import start
def said(word, seconds):
    print(word, flush=True)
    time.sleep(seconds)
class Last:
    def __del__(self, said=said):
        said("tidies up", 0.5)
def command():
    from flows.commands.ends import interruptible, leave
    interruptible()
    if WHEN == "threads":
        threading.Timer(0.5, said, args=("waits for a thread", 60)).start()
    else:
        sys.modules["kept to the end"] = types.SimpleNamespace(last=Last())
    leave(2)
late = types.ModuleType("flows.commands.late")
late.command = command
sys.modules["flows.commands.late"] = late
start._run("late", "command")
"""


@dataclass(frozen=True)
class End:
    """How a process ended."""

    code: int
    printed: str


def interrupted(script: str, number: signal.Signals, times: int = 1) -> End:
    """Interrupt a process each time that it says that it is at work."""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for _ in range(times):
            process.stdout.readline()
            process.send_signal(number)
        _, printed = process.communicate(timeout=50)
    return End(process.returncode, printed)


BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@BOTH
def test_a_signal_during_the_imports_ends_a_command_in_a_line(number: signal.Signals) -> None:
    assert interrupted(STARTING, number) == End(130, "stopped\n")


@pytest.mark.parametrize("how", ["passes", "is taken for an error of an import"])
@BOTH
def test_a_signal_ends_a_command_in_a_line(number: signal.Signals, how: str) -> None:
    script = f"HOW = {how!r}{RUNNING}"
    assert interrupted(script, number) == End(130, "stopped\n")


@pytest.mark.parametrize(
    ("how", "end"),
    [
        ("is followed by a mistake", End(2, "c_x: found 'far'\n")),
        ("leaves a thread, and is followed by a mistake", End(2, "c_x: found 'far'\n")),
        ("is followed by a lost file", End(1, "/data/label.json: Input/output error\n")),
    ],
)
def test_an_error_after_a_signal_is_told(how: str, end: End) -> None:
    assert interrupted(f"HOW = {how!r}{RUNNING}", signal.SIGINT) == end


def test_a_bug_after_a_signal_has_its_traceback() -> None:
    end = interrupted(f"HOW = 'is followed by a bug'{RUNNING}", signal.SIGTERM)
    assert end.code == 130
    assert "Traceback" in end.printed and "KeyError: 'frame'" in end.printed
    assert end.printed.endswith("\nstopped\n")


def test_the_second_signal_ends_a_command_that_swallowed_the_first() -> None:
    script = f"HOW = 'swallows'{RUNNING}"
    assert interrupted(script, signal.SIGINT, times=2) == End(130, "stopped at once\n")


IMPORTING = """
import sys, time
from flows.commands.ends import interruptible, nothing_to_end
interruptible()
with nothing_to_end():
    try:
        print("imports", flush=True)
        time.sleep(60)
    except BaseException:
        sys.exit(0)  # what a library makes of an interruption
"""


@BOTH
def test_a_signal_while_large_libraries_are_imported_ends_a_command_at_once(
    number: signal.Signals,
) -> None:
    assert interrupted(IMPORTING, number) == End(130, "stopped\n")


@BOTH
@pytest.mark.parametrize("when", ["threads", "python"])
def test_a_signal_at_the_end_leaves_a_command_its_exit_code(
    number: signal.Signals, when: str
) -> None:
    assert interrupted(f"WHEN = {when!r}{ENDING}", number) == End(2, "")
