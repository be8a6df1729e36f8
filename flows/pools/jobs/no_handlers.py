"""Imports of libraries that would take over signals as they are imported."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def no_handlers_set() -> Iterator[None]:
    """Leave out what this thread asks of `signal.signal`; what other threads ask is done."""
    done, own, over = signal.signal, threading.get_ident(), threading.Event()

    def left_out(number: int, handler: Any) -> Any:
        if threading.get_ident() == own and not over.is_set():
            return signal.getsignal(number)
        return done(number, handler)

    signal.signal = left_out  # type: ignore[assignment]
    try:
        yield
    finally:
        over.set()
        signal.signal = done
