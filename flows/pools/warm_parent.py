"""The warm parent: a process with all imports that the workers on this machine have in common.

Workers are forked from it: what it imported once they have, at no cost, and share its memory. It
is Python's fork server (`multiprocessing.forkserver`), which Dask knows how to use. Forking is safe
as long as there is one thread, which is why libraries that start threads of their own have one
only (`ONE_THREAD`), and why torch is never imported here for workers that use a GPU.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import threading
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver

from aimspax_core.environment import changed_environment
from aimspax_core.settings.families.known_families import row_of
from aimspax_core.settings.settings import Settings
from flows.pools.environment import IMPORTS, MEMORY

METHOD = "distributed.worker.multiprocessing-method"
"""Dask's setting of how the processes of workers start."""

START_METHOD = {METHOD: "forkserver"}
"""Dask's setting that has workers forked."""

NAMES = "AIMSPAX_NAMES"
"""Environment variable of a forked worker: the names of those that it may have."""

_ALL = ("distributed", "prefect", "tasks.label", "tasks.label_many", "flows.pools.preload")
"""Modules of every worker."""

_DASKS = (*MEMORY, "PYTHONHASHSEED")  # given to workers by Dask itself

_BEGINS_WITH = MEMORY | {"PYTHONSAFEPATH": "1"}
"""Environment that the parent begins with: it imports no module of the folder it is started in.

A user's `ase.py` or `queue.py` there would else be taken for the package or Python's own.
"""

_begun: list[frozenset[str]] = []  # what the parent imports besides, as it was first begun
_one_at_a_time = threading.Lock()


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
    return learning_modules(settings) if all(learn) and not uses_gpu(settings) else ()


def uses_gpu(settings: Settings) -> bool:
    """Return whether models or the reference engine are on a GPU."""
    devices = (settings.model.MISC.device, getattr(settings.reference, "device", "cpu"))
    return devices != ("cpu", "cpu")


def begin(modules: Sequence[str], gpu: bool = False) -> dict[str, str]:
    """Start the parent, unless this process has one; it imports while this process goes on.

    Args:
        modules: What it imports, besides what every worker needs.
        gpu: Whether the workers use a GPU.

    Returns:
        Dask's setting of how the workers start that need these modules. With a GPU they are not
        forked if the parent began with more, for an earlier campaign of this process: with torch.
    """
    if not _begun:
        _begun.append(frozenset(modules))
        os.environ[IMPORTS] = ",".join((*_ALL, *modules))  # kept: a parent that dies begins again
    multiprocessing.set_forkserver_preload(["flows.pools.warm_imports"])
    keep()
    return {METHOD: "spawn"} if gpu and not _begun[0] <= set(modules) else START_METHOD


def keep() -> None:
    """Start the parent if there is none, or it has died."""
    with _one_at_a_time, changed_environment(_BEGINS_WITH):
        forkserver.ensure_running()


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of workers: the flow's, and not that which their parent began with.

    Args:
        own: Variables of the workers.
    """
    ours = {**os.environ, **own}
    ours.pop(IMPORTS, None)
    return {**ours, NAMES: ",".join((*ours, *_DASKS))}


def settle() -> bool:
    """In a worker that was forked: take the environment of the flow, and be no twin of others.

    Returns:
        Whether it was.
    """
    names = os.environ.pop(NAMES, None)
    os.environ.pop(IMPORTS, None)
    if names is None:
        return False
    # Whoever started the parent: what this module did not see there began here, and is the flow's.
    began = importlib.import_module("flows.pools.warm_imports").BEGAN
    for name in began.difference(names.split(",")):
        os.environ.pop(name, None)
    importlib.import_module("numpy").random.seed()
    return True
