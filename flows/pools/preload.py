"""What every worker does first; Dask runs `dask_setup` when the worker (or its nanny) starts.

Prefect reads the environment when it is imported, and `dask_setup` prepares that environment. So
this module must not import Prefect: in a job, and in a process that was not forked, it is imported
after `dask_setup`. A worker that was forked has it from its parent, and has it read anew.
"""

from __future__ import annotations

import atexit
import importlib
import json
import logging
import os
import shutil
import socket
import sys
import threading
import time
import urllib.parse
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from distributed import Worker

from aimspax_core.machine import WORKER_ADDRESS
from aimspax_core.safe_files import write_text
from aimspax_core.versions import versions
from flows.pools.certificates import read_one
from flows.pools.warm_parent import settle
from flows.runs.library_warnings import keep_apart
from flows.server.api import URL, keep_off_proxies, silence
from flows.server.current import OURS

GPUS = "AIMSPAX_GPUS"
"""Environment variable that lists the GPUs of a pool, for its workers to share; `job` stands for
those of the batch job."""

POOL = "AIMSPAX_POOL"
"""Environment variable of a batch job: the folder with what its workers need to know."""

NO_PAGES = {"DASK_DISTRIBUTED__WORKER__HTTP__ROUTES": "[]"}
"""Environment of workers that gives them no web pages; the pool's dashboard shows their work."""

SCRATCH = "AIMSPAX_SCRATCH"
"""Environment variable of a job: a folder for Dask's own files that only its owner can enter."""

REFUSED = "refused.txt"
"""File in the folder of `POOL`: why a worker does not fit the flow."""

AWAY = "server-away"
"""File in the folder of `POOL`, there while the Prefect API is away: workers do without it."""

_API_PATIENCE_S = 60.0
_LEAVE_S = 3.0  # what Prefect has not been told yet is sent meanwhile


@dataclass(frozen=True)
class Orders:
    """What the workers of a pool of batch jobs need from the flow; a file that its owner can read.

    Attributes:
        variables: Variables for their environment; secrets among them.
        unset: Variables that they must not have.
        defaults: Variables that they have unless the job has set them.
        versions: Versions of the flow's Python and packages.
        api: Address of the Prefect API.
        near: Whether the API is on the cluster's network, and no proxy leads there.
    """

    variables: dict[str, str] = field(default_factory=dict)
    unset: tuple[str, ...] = ()
    defaults: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    api: str = ""
    near: bool = False

    def write(self, folder: Path) -> None:
        """Write the orders for the workers."""
        file = folder / _FILE
        file.touch(mode=0o600)
        file.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Orders:
        """Read the orders that a pool has written."""
        return cls(**json.loads((folder / _FILE).read_text(encoding="utf-8")))


_FILE = "orders.json"


def dask_setup(worker: Any) -> None:
    """Prepare a process for the tasks of a pool.

    In a job, torch and Prefect are not imported yet; a forked worker has Prefect, and torch if all
    workers on this machine need it. A worker on this machine leaves the terminal's process group:
    Ctrl-C is for the flow, which then ends its workers. A worker in a batch job reads its orders.
    """
    forked = settle()
    folder = os.environ.get(POOL)
    if folder is None:
        os.setpgrp()
        keep_apart()
        # On the terminal, as the pool closes; what became of workers and their tasks the run says.
        logging.getLogger("distributed.worker").setLevel(logging.CRITICAL)
        near = os.environ.get(URL) == os.environ.get(OURS)
    else:
        near = _take_orders(Path(folder))
    if not isinstance(worker, Worker):
        return  # the nannies of a job are one process, whose workers would inherit what one takes
    read_one(worker, near)
    if forked:
        importlib.import_module("prefect.context").refresh_global_settings_context()
    # Prefect would print on every log line that its API did not take; the flow says it once.
    logging.raiseExceptions = False
    os.environ[WORKER_ADDRESS] = str(worker.address)
    gpus = os.environ.get(GPUS, "")
    if gpus == "job":
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = [name for name in gpus.split(",") if name]
    if names:
        number = int(str(worker.name).rpartition("-")[2])
        os.environ["CUDA_VISIBLE_DEVICES"] = names[number % len(names)]


def dask_teardown(worker: Any) -> None:
    """End the process of a worker that leaves its batch job, and with it the job.

    Dask would wait for the calculation, whose result nobody needs any more, up to the time limit.
    """
    if POOL in os.environ and isinstance(worker, Worker):  # a nanny's process has others to mind
        end = threading.Timer(_LEAVE_S, os._exit, (0,))
        end.daemon = True
        end.start()


def _take_orders(folder: Path) -> bool:
    """Prepare the environment as the flow says; end the process if it does not fit the flow.

    Returns:
        Whether the API is near: see `Orders`.
    """
    try:
        orders = Orders.read(folder)
    except (OSError, ValueError, TypeError) as error:  # Dask would go on without
        _leave(f"the orders in {folder} cannot be read: {error}")
    if wrong := mismatch(orders.versions, versions()):
        reason = (
            f"the Python of the jobs ({sys.executable} on {socket.gethostname()}) does not "
            f"match that of the flow: {wrong}"
        )
        write_text(folder / REFUSED, reason)
        _leave(reason)
    for name in orders.unset:
        os.environ.pop(name, None)
    # At the end Python would abort, with a dump, where a thread of Prefect is still at work.
    atexit.register(os._exit, 0)
    if scratch := os.environ.get(SCRATCH):
        atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    for chatty in ("distributed.batched", "distributed.core"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    os.environ.update(orders.defaults | os.environ | orders.variables)
    if orders.near:
        keep_off_proxies(urllib.parse.urlsplit(orders.api).hostname or "")
    if orders.api and (problem := _unreachable(orders.api, folder / AWAY)):
        _leave(
            f"the Prefect API at {orders.api} cannot be reached from {socket.gethostname()}: "
            f"{problem}"
        )
    return orders.near


def mismatch(flow: dict[str, str], here: dict[str, str]) -> str:
    """Return which versions differ between the flow and a worker; empty if they fit.

    Of Python the patch release may differ: the pickles of both are alike.

    Args:
        flow: Versions of the flow's Python and packages.
        here: Those of the worker.
    """
    texts = []
    for name, version in flow.items():
        ours = here.get(name, "none")
        both = (version, ours)
        if name == "python":
            both = (version.rpartition(".")[0], ours.rpartition(".")[0])
        if both[0] != both[1]:
            texts.append(f"{name} is {ours} there, {version} here")
    return "; ".join(texts)


def _unreachable(api: str, away: Path) -> str:
    """Return why the Prefect API does not answer here, after some tries; empty if it does.

    Args:
        api: Its address.
        away: A file that is there while it answers nobody, which is no fault of this node.
    """
    end = time.monotonic() + _API_PATIENCE_S
    while (problem := silence(api)) and not away.exists() and time.monotonic() < end:
        time.sleep(2)
    return "" if problem is None or away.exists() else problem


def _leave(reason: str) -> NoReturn:
    """End the process, and with it its job; the reason is in the job's output."""
    print(f"aimspax: {reason}", file=sys.stderr, flush=True)
    os._exit(3)
