"""What workers are told by their environment, and Dask by its settings."""

from __future__ import annotations

import dask
import dask.config
import distributed  # noqa: F401  # has the settings that there are
import pytest

from flows.pools.environment import CALM, CALM_JOB
from flows.pools.local import local_pool


@pytest.mark.parametrize("key", CALM)
def test_dask_knows_what_we_set(key: str) -> None:
    assert dask.config.get(key, None) is not None


def test_a_job_is_told_the_same() -> None:
    told = dask.config.collect_env(CALM_JOB)
    assert {key: dask.config.get(key, config=told) for key in CALM} == CALM


def test_flow_and_workers_do_not_watch_themselves() -> None:
    with local_pool("ml", 1) as pool:
        client = pool.runner.client
        (clocks,) = client.run(lambda dask_worker: sorted(dask_worker.periodic_callbacks)).values()
        assert "heartbeat" in clocks
        assert "profile" not in clocks
        assert "stealing" not in pool._scheduler.extensions
        remembered = pool._scheduler.transition_log.maxlen  # of tasks that are over
        assert remembered is not None and remembered <= 100
