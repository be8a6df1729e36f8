"""Environment of the workers of all pools: threads, what Prefect prints, what Dask watches."""

from __future__ import annotations

import os

_LIBRARIES = ("OMP", "MKL", "OPENBLAS", "NUMEXPR")

IMPORTS = "AIMSPAX_PARENT_IMPORTS"
"""Environment variable of the warm parent: names of the modules it imports, commas between."""

ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in _LIBRARIES}
"""Environment of workers with one thread: many of them use a machine better than many threads."""

_OF_TASKS = "PREFECT_LOGGING_LOGGERS_PREFECT_TASK_RUNS_LEVEL"

QUIET = {
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    # That a task has ended, on the run's page once for each label, and how: its state says it, and
    # of what failed the run's log says why.
    _OF_TASKS: os.environ.get(_OF_TASKS, "CRITICAL"),
    "PREFECT_LOGGING_EXTRA_LOGGERS": ",".join(
        filter(None, (os.environ.get("PREFECT_LOGGING_EXTRA_LOGGERS"), "aimspax"))
    ),
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    # That the API is away is told by the flow, once: not by each worker for each line and event.
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
}
"""Workers print nothing: what they log is on the page of the task run, and in the run's logs."""

MEMORY = {
    name: os.environ.get(name, most)
    for name, most in {
        "MALLOC_TRIM_THRESHOLD_": str(2**28),
        "MALLOC_MMAP_THRESHOLD_": str(2**25),
    }.items()
}
"""Environment of workers that lets them keep memory that they have freed (bytes): 256 MiB.

Dask would have them give back all but 64 KiB of it at once. The tensors of each step of training
would then be given new pages by the kernel, which costs more than half of the CPU time with 128
channels. Set at all, the first makes glibc fix the second, which is the most that it takes.
"""

CALM = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.admin.system-monitor.disk": False,
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.scheduler.work-stealing": False,
    "distributed.admin.low-level-log-length": 100,
    "distributed.scheduler.dashboard.tasks.task-stream-length": 100,
}
"""Settings of Dask for flow and workers: it watches itself less, and remembers less.

By default its profilers and clocks wake each process a hundred times a second: 12 % of a core for
two pools of two workers that do nothing, 2 % with these. No task of ours could be stolen or copied.
What it logs of tasks that are over took the flow 14 KiB of memory for each of the last thousands.
"""

CALM_JOB = {
    "DASK_" + key.upper().replace(".", "__").replace("-", "_"): str(value)
    for key, value in CALM.items()
}
"""The same as environment variables of a batch job."""
