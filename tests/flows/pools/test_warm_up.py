"""Workers that prepare while they have nothing to do."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from distributed import Client, LocalCluster
from distributed.scheduler import WorkerState

from flows.pools.local import local_pool
from flows.pools.warm_up import WarmUp
from tests.flows.hosting import kill_worker, lines, wait_for


@pytest.fixture
def client() -> Iterator[Client]:
    """A client of two workers, which are threads of this process."""
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=False,
            dashboard_address=None,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def cold(warm_up: WarmUp, workers: dict[str, WorkerState]) -> bool:
    """Whether some of these workers are still to be asked to prepare."""
    warm_up.look(workers, workers)
    return warm_up.cold


def prepare(warm_up: WarmUp, workers: dict[str, WorkerState]) -> None:
    """Have all these workers asked to prepare."""
    wait_for(lambda: not cold(warm_up, workers), "workers are asked to prepare")


def workers_of(client: Client) -> dict[str, WorkerState]:
    """The workers, by their addresses."""
    assert isinstance(client.cluster, LocalCluster)
    return dict(client.cluster.scheduler.workers)


def test_dask_forgets_what_workers_have_prepared(client: Client) -> None:
    workers, scheduler = workers_of(client), client.cluster.scheduler
    warm_up = WarmUp(client, list)
    prepare(warm_up, workers)
    wait_for(lambda: not scheduler.tasks and warm_up.last(workers) == [*workers], "all is over")


def test_a_worker_at_the_address_of_one_that_left_prepares_too(client: Client) -> None:
    workers = workers_of(client)
    address = min(workers)
    others = {other: worker for other, worker in workers.items() if other != address}
    warm_up = WarmUp(client, list)
    prepare(warm_up, workers)
    assert not cold(warm_up, workers)
    warm_up.look(others, others)
    assert cold(warm_up, workers)


def test_workers_that_preparing_kills_are_asked_no_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = tmp_path / "journal"

    def warned() -> bool:
        return any(
            record.levelno == logging.WARNING and record.name.endswith("warm_up")
            for record in caplog.records
        )

    with local_pool("ml", 1, warm_up=partial(kill_worker.fn, journal)) as pool:
        wait_for(warned, "the pool gives up")
        pool.runner.client.wait_for_workers(1, timeout=60)
        assert len(lines(journal, "begin")) == 3
