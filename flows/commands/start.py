"""Where the console scripts begin: Ctrl-C is taken in before anything else is imported."""

from __future__ import annotations

import atexit
import importlib
import os
import signal

from flows.runs.exits import SIGNALS, stop_at_once

_WARNINGS = "PYTHONWARNINGS"


def aimspax() -> None:
    """Run `aimspax`."""
    _run("app", "main")


def aims_pax() -> None:
    """Run `aims-PAX`."""
    _run("original", "aims_pax")


def initial_ds() -> None:
    """Run `aims-PAX-initial-ds`."""
    _run("original", "initial_ds")


def al() -> None:
    """Run `aims-PAX-al`."""
    _run("original", "al")


def recalc() -> None:
    """Run `aims-PAX-recalc`."""
    _run("original", "recalc")


def test() -> None:
    """Run `aims-PAX-test`."""
    _run("original", "test")


def _run(module: str, function: str) -> None:
    # Of semaphores that are tidied away after a process that ended at once.
    quiet = ("ignore::UserWarning:multiprocessing.resource_tracker", os.environ.get(_WARNINGS))
    os.environ[_WARNINGS] = ",".join(filter(None, quiet))
    atexit.register(_ignore_signals)  # first, so that it is called last
    for number in SIGNALS:
        signal.signal(number, stop_at_once)
    getattr(importlib.import_module(f"flows.commands.{module}"), function)()


def _ignore_signals() -> None:
    """Let no signal end a process that is over: Python, while it tidies up, would let it."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
