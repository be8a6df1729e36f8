"""Signals while a library is imported that would take them over."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from flows.pools.jobs.no_handlers import no_handlers_set


def mine(*_: Any) -> None:
    """A handler."""


@pytest.fixture(autouse=True)
def before() -> Iterator[Any]:
    """The handler that there was, which is there again afterwards."""
    handler = signal.getsignal(signal.SIGUSR1)
    yield handler
    signal.signal(signal.SIGUSR1, handler)


def test_this_thread_sets_none_until_it_has_ended(before: Any) -> None:
    with no_handlers_set():
        assert signal.signal(signal.SIGUSR1, mine) == before
        kept = signal.signal
    assert signal.getsignal(signal.SIGUSR1) == before
    kept(signal.SIGUSR1, mine)
    assert signal.getsignal(signal.SIGUSR1) is mine


def test_the_main_thread_sets_its_own_while_another_imports() -> None:
    imports, may_end = threading.Event(), threading.Event()

    def importing() -> None:
        with no_handlers_set():
            imports.set()
            may_end.wait(60)

    thread = threading.Thread(target=importing)
    thread.start()
    assert imports.wait(60)
    signal.signal(signal.SIGUSR1, mine)
    may_end.set()
    thread.join()
    assert signal.getsignal(signal.SIGUSR1) is mine


@pytest.mark.parametrize("thread", [False, True])
def test_jobs_are_imported_in_any_thread_and_ctrl_c_stays_as_it_was(thread: bool) -> None:
    code = "import signal, threading; b = signal.getsignal(2); c = signal.signal; e = []\n"
    how = "import flows.pools.jobs.script as s; e.append(s)"
    code += f"def f(): {how}\n"
    code += "t = threading.Thread(target=f); t.start(); t.join()\n" if thread else "f()\n"
    code += "assert e and signal.getsignal(2) is b and signal.signal is c"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
