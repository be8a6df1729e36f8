"""Settings of Dask for the pools: quiet, private, patient with jobs."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import dask
from distributed.http.routing import DirectoryHandler
from prefect_dask.task_runners import DaskTaskRunner
from tornado.routing import Rule, RuleRouter
from tornado.web import Application

from aimspax_core.campaign.leftovers import folder_prefix
from aimspax_core.settings.cluster import BatchJobs, Cluster
from flows.pools.environment import CALM, MEMORY
from flows.pools.jobs.address import reachable_address
from flows.pools.jobs.scheduler import Scheduler
from flows.pools.jobs.script import TCP, BatchCluster, keys

DASK = {
    **CALM,
    **{f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in MEMORY.items()},
    # A task whose worker dies is lost at once; the rules count that, and ask for it again.
    "distributed.scheduler.allowed-failures": 0,
    # What becomes of a job is for `pools.jobs.fleet` to see, of a process for its nanny: Dask would
    # give up one that is not back in 15 s.
    "distributed.deploy.lost-worker-timeout": "365 days",
}


FAR = {
    # Whether a job is there its scheduler knows; a silent network costs nothing for a while.
    "distributed.scheduler.worker-ttl": None,
    "distributed.comm.timeouts.tcp": TCP,
}


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Keep Dask's own files in a folder that no other user can enter.

    By default Dask has one folder in /tmp for all users of a machine. It belongs to the first of
    them, and Dask imports Python modules from below it.
    """
    with (
        tempfile.TemporaryDirectory(
            prefix=folder_prefix("aimspax"), ignore_cleanup_errors=True
        ) as folder,
        dask.config.set({"temporary-directory": folder}),
    ):
        _scratch.add(folder)
        try:
            yield Path(folder)
        finally:
            _scratch.discard(folder)


_scratch: set[str] = set()


def remove_scratch() -> None:
    """Remove the folders of pools that are open: the process is about to end at once."""
    for folder in tuple(_scratch):  # pools may be closing meanwhile
        shutil.rmtree(folder, ignore_errors=True)


def secret_prefix() -> str:
    """Return a path for a dashboard that others on this machine cannot guess."""
    return f"/{secrets.token_urlsafe(16)}"


def scheduler_options(
    scheduler: Scheduler,
    jobs: BatchJobs,
    cluster: Cluster,
    folder: Path,
    output: str,
    prefix: str,
) -> DaskTaskRunner:
    """Return the runner of a pool of jobs; only those who have the folder's key can talk to it.

    Args:
        scheduler: What starts the jobs.
        jobs: What the settings say of the jobs.
        cluster: The section CLUSTER.
        folder: Where the pool keeps what workers need; gets the keys.
        output: Where jobs write their output, as `Scheduler.header` has it.
        prefix: First part of the paths of the dashboard.
    """
    return DaskTaskRunner(
        cluster_class=BatchCluster,
        cluster_kwargs={
            "security": keys(folder),
            "interface": cluster.interface,
            "scheduler_options": {
                "host": reachable_address(cluster.host, cluster.interface, scheduler),
                "port": 0,
                "dashboard_address": "127.0.0.1:0",
                "http_prefix": prefix,
            },
            "jobs": jobs,
            "header": scheduler.header(jobs, output),
            "folder": folder,
        },
    )


def hide_paths(application: Application) -> None:
    """Remove the page that lists all pages: the secret path of the dashboard is among them.

    Args:
        application: The web server of a Dask scheduler.
    """
    router = application.default_router
    router.rules[:] = [rule for rule in router.rules if not _lists_paths(rule)]


def _lists_paths(rule: Rule) -> bool:
    inner = rule.target.rules if isinstance(rule.target, RuleRouter) else []
    return any(one.target is DirectoryHandler for one in inner)
