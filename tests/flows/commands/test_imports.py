"""What commands import before they do anything: they begin at once."""

from __future__ import annotations

import subprocess
import sys

import pytest


def imported(module: str, packages: set[str]) -> set[str]:
    """Return which of the packages a new process has after it has imported a module."""
    script = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return packages & {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    ("module", "not_needed"),
    [
        ("flows.commands.app", {"prefect", "distributed", "torch", "matplotlib"}),
        ("flows.pipeline", {"torch", "matplotlib", "pandas"}),
        ("tasks.label", {"torch", "matplotlib", "pandas", "distributed"}),
    ],
)
def test_what_is_not_needed_is_not_imported(module: str, not_needed: set[str]) -> None:
    assert not imported(module, not_needed)


def test_flows_can_be_imported_in_a_thread_and_leave_signals_alone() -> None:
    script = """
import signal, threading
before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
def load():
    import flows.pipeline
    print("loaded")
thread = threading.Thread(target=load)
thread.start()
thread.join()
print([signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["loaded", "True"], done.stderr
