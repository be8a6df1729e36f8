"""Environment of the workers of all pools: threads, and what Prefect prints."""

from __future__ import annotations

import os

_LIBRARIES = ("OMP", "MKL", "OPENBLAS", "NUMEXPR")

ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in _LIBRARIES}
"""Environment of workers with one thread: many of them use a machine better than many threads."""

QUIET = {
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_EXTRA_LOGGERS": ",".join(
        filter(None, (os.environ.get("PREFECT_LOGGING_EXTRA_LOGGERS"), "aimspax"))
    ),
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    # That the API is away is told by the flow, once: not by each worker for each line and event.
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
}
"""Workers print nothing: what they log is on the page of the task run, and in the run's logs."""
