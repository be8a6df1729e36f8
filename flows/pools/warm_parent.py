"""The warm parent: a process with all imports that the workers on this machine have in common.

Workers are forked from it: what it imported once they have, at no cost, and share its memory. It
is Python's fork server (`multiprocessing.forkserver`), which Dask knows how to use. Forking is safe
as long as there is one thread, which is why libraries that start threads of their own have one
only (`ONE_THREAD`), and why torch is never imported here for workers that use a GPU.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from multiprocessing import forkserver

from aimspax_core.settings.families.known_families import row_of
from aimspax_core.settings.settings import Settings
from flows.pools.environment import ONE_THREAD, QUIET

START_METHOD = {"distributed.worker.multiprocessing-method": "forkserver"}
"""Dask's setting that has workers forked."""

GONE = "AIMSPAX_GONE"
"""Environment variable of a worker: those that it has from its parent, and the flow no longer."""

_ALL = ("distributed", "prefect", "tasks.label", "tasks.label_many", "flows.pools.preload")
"""Modules of every worker. One that cannot be imported is left to the worker, to say so."""

_TRIM = {"MALLOC_TRIM_THRESHOLD_": "65536"}  # as Dask sets it for workers; read when they begin

_began_with: dict[str, str] = {}


def learning_modules(settings: Settings) -> tuple[str, ...]:
    """Return the modules that training and MD with the models need, torch and MACE among them."""
    family = row_of(settings.model.ARCHITECTURE.model_choice).implementation.partition(":")[0]
    tasks = ("tasks.train", "tasks.propagate", "tasks.sample", "tasks.publish")
    return *tasks, "aimspax_core.model.member", "aimspax_core.model.ensemble", family


def common_modules(settings: Settings) -> tuple[str, ...]:
    """Return what all workers on this machine need besides; of a GPU the parent knows nothing."""
    cluster, reference = settings.cluster, settings.reference
    learn = [] if cluster.reference_jobs is not None else [reference.is_network]
    learn += [] if cluster.ml_jobs is not None else [True]
    on_cpu = settings.model.MISC.device == "cpu" and getattr(reference, "device", "cpu") == "cpu"
    return learning_modules(settings) if all(learn) and on_cpu else ()


def begin(modules: Sequence[str]) -> None:
    """Start the parent, unless this process has one; it imports while this process goes on.

    Args:
        modules: What it imports, besides what every worker needs.
    """
    multiprocessing.set_forkserver_preload([*_ALL, *modules])
    if not _began_with:
        _began_with.update(os.environ)
    with _also({**_TRIM, **ONE_THREAD, **QUIET}):
        forkserver.ensure_running()


def environment() -> dict[str, str]:
    """Return this process's environment, for workers whose parent began with an earlier one."""
    gone = _began_with.keys() - os.environ.keys()
    return {**os.environ, GONE: ",".join(sorted(gone))}


def settle() -> None:
    """In a worker that was forked: take the environment of the flow, and be no twin of others."""
    gone = os.environ.pop(GONE, None)
    if gone is None:
        return
    for name in filter(None, gone.split(",")):
        os.environ.pop(name, None)
    importlib.import_module("prefect.context").refresh_global_settings_context()
    importlib.import_module("numpy").random.seed()


@contextlib.contextmanager
def _also(variables: dict[str, str]) -> Iterator[None]:
    """Have other variables in the environment while the block runs."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
