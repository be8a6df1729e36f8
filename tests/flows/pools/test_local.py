"""Workers on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing import forkserver, popen_forkserver
from types import ModuleType, SimpleNamespace

import dask
import psutil
import pytest
from distributed import Client, LocalCluster, Nanny
from distributed.core import Status

from aimspax_core.errors import CampaignError
from flows.pools import local, warm_parent
from flows.pools.dask_hooks import forward_logs
from flows.pools.dask_settings import DASK
from flows.pools.local import StubbornNanny, local_pool
from tests.flows.hosting import PATIENCE_S, wait_for

WORKERS = 2


@contextlib.contextmanager
def forked_workers() -> Iterator[Client]:
    """Workers that are forked, as those of a pool, with the pools' settings of Dask."""
    with (
        dask.config.set(DASK | warm_parent.START_METHOD),
        LocalCluster(
            n_workers=WORKERS,
            threads_per_worker=1,
            worker_class=StubbornNanny,
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@contextlib.contextmanager
def killing_the_first_worker() -> Iterator[list[int]]:
    """Kill the first process that becomes a worker, the moment it is there."""
    me, killed, over = psutil.Process(), [], threading.Event()
    there = {child.pid for child in me.children(recursive=True)}

    def kill() -> None:
        while not over.is_set() and not killed:
            for child in me.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    forked = "forkserver" in " ".join(child.cmdline()) and child.ppid() != me.pid
                    if child.pid not in there and forked:
                        child.kill()
                        killed.append(child.pid)
                        break
            time.sleep(0.005)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def test_a_worker_that_is_killed_while_it_starts_is_started_again() -> None:
    with killing_the_first_worker() as killed, forked_workers() as client:
        client.wait_for_workers(WORKERS, timeout=PATIENCE_S)
        assert len(killed) == 1


def test_a_worker_that_dies_while_it_is_told_to_forward_its_logs_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        LocalCluster(
            n_workers=WORKERS,
            threads_per_worker=1,
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.wait_for_workers(WORKERS, timeout=PATIENCE_S)
        deaf = psutil.Process(min(client.run(os.getpid).values()))
        deaf.suspend()  # so that it is asked, and does not answer
        killing = threading.Timer(1.0, deaf.kill)
        killing.start()
        forward_logs(client)
        client.submit(logging.getLogger("aimspax.test").error, "heard").result(PATIENCE_S)
        killing.join()
        wait_for(lambda: "heard" in caplog.messages, "what the worker logs")


def parents() -> list[psutil.Process]:
    """The parent of this process's workers, if it lives."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # as of one that was killed, and not reaped yet
            if "forkserver" in " ".join(child.cmdline()):
                found.append(child)
    return found


def processes(client: Client) -> set[int]:
    """The processes of all workers that are there."""
    answers = client.run(os.getpid, on_error="ignore") or {}
    return {*answers.values()}


def test_workers_come_back_whose_parent_is_killed_also_while_it_starts() -> None:
    with forked_workers() as client:
        before = processes(client)
        assert len(before) == WORKERS
        killed: set[int] = set()
        for _ in range(3):  # the second and the third as soon as they are there
            wait_for(lambda: any(one.pid not in killed for one in parents()), "a parent")
            (parent,) = [one for one in parents() if one.pid not in killed]
            parent.kill()
            killed.add(parent.pid)
        wait_for(lambda: len(processes(client) - before) == WORKERS, "workers are back")


def test_a_worker_whose_parent_dies_as_it_has_forked_it_is_not_kept_beside_its_successor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forked: list[int] = []

    def first_is_not_told(sentinel: int) -> int:
        """The process is there, but whoever forked it dies before it says which it is."""
        pid = forkserver.read_signed(sentinel)
        if forked:
            return pid
        forked.append(pid)
        raise EOFError("unexpected EOF")

    ours = SimpleNamespace(**{**vars(forkserver), "read_signed": first_is_not_told})
    monkeypatch.setattr(popen_forkserver, "forkserver", ours)
    with forked_workers() as client:
        client.wait_for_workers(WORKERS, timeout=PATIENCE_S)
        (orphan,) = forked
        wait_for(lambda: not psutil.pid_exists(orphan), "the orphan's end")
        wait_for(lambda: len(processes(client) - {orphan}) == WORKERS, "all workers")


def a_nanny(monkeypatch: pytest.MonkeyPatch, status: Status, fails: int) -> StubbornNanny:
    """A nanny whose process cannot be made so many times; nothing is waited for."""
    faults = iter(range(fails))

    async def instantiate(self: Nanny) -> Status:
        for number in faults:
            raise MemoryError(f"no fork {number}")
        return Status.running

    monkeypatch.setattr(Nanny, "instantiate", instantiate)
    monkeypatch.setattr(local, "_PAUSE_S", (0.0, 0.0))
    nanny = StubbornNanny.__new__(StubbornNanny)
    nanny.__dict__.update(
        process=None, _pool="reference", _insists=False, _fault=None, _status=status
    )
    return nanny


def test_a_worker_that_was_never_there_is_given_up_with_the_cause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nanny = a_nanny(monkeypatch, Status.starting, 100)
    with pytest.raises(MemoryError, match="no fork 4"):
        asyncio.run(nanny.instantiate())


@pytest.mark.parametrize("fault", [MemoryError("no fork"), TimeoutError("no answer")])
def test_a_pool_that_does_not_start_names_itself_and_the_cause(
    monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    async def instantiate(self: Nanny) -> Status:
        raise fault

    monkeypatch.setattr(Nanny, "instantiate", instantiate)
    monkeypatch.setattr(local, "_PAUSE_S", (0.0, 0.0))
    with (
        pytest.raises(CampaignError, match=f"reference pool.*{re.escape(str(fault))}"),
        local_pool("reference", 1),
    ):
        pass


def test_a_script_that_starts_a_campaign_is_asked_whether_workers_may_import_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def instantiate(self: Nanny) -> Status:
        raise RuntimeError("no worker")

    script = ModuleType("__main__")
    script.__file__ = "campaign.py"
    monkeypatch.setattr(Nanny, "instantiate", instantiate)
    monkeypatch.setattr(local, "_PAUSE_S", (0.0, 0.0))
    monkeypatch.setattr(local, "IS_COMMAND", threading.Event())
    monkeypatch.setitem(sys.modules, "__main__", script)
    with (
        pytest.raises(CampaignError, match=r"import campaign\.py.*__main__"),
        local_pool("reference", 1),
    ):
        pass


def test_of_a_worker_that_does_not_come_back_is_told_again_with_pool_and_cause(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    nanny = a_nanny(monkeypatch, Status.running, 45)
    assert asyncio.run(nanny.instantiate()) is Status.running
    told = [record.args for record in caplog.records if record.levelname == "WARNING"]
    assert told == [
        ("reference", number, f"MemoryError: no fork {number - 1}") for number in (5, 20, 40)
    ]
