"""Tasks that run without Prefect: their plain functions."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from distributed import Client, LocalCluster

from aimspax_core.errors import LabelError
from flows.pools.plain import begin_plainly
from tests.flows.hosting import PATIENCE_S, Landed, evaluate, throw


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def test_the_function_runs_on_the_worker_that_was_named_and_knows_no_api(client: Client) -> None:
    (address,) = client.scheduler_info()["workers"]
    where = "__import__('distributed').get_worker().address"
    future = begin_plainly(client, evaluate, where, address)
    assert future.result(PATIENCE_S) == address
    assert future.task_run_id is None


def test_options_of_the_task_are_no_hindrance(client: Client) -> None:
    (address,) = client.scheduler_info()["workers"]
    with_options = evaluate.with_options(refresh_cache=True, persist_result=True)
    assert begin_plainly(client, with_options, "6 * 7", address).result(PATIENCE_S) == 42


def test_what_it_raises_arrives_as_it_is(client: Client) -> None:
    (address,) = client.scheduler_info()["workers"]
    landed = Landed()
    future = begin_plainly(client, throw, LabelError("no", transient=True), address)
    future.add_done_callback(landed)  # type: ignore[arg-type]
    landed.wait(1)
    with pytest.raises(LabelError) as raised:
        future.result(PATIENCE_S)
    assert raised.value.transient
