"""What workers are told by their environment, and Dask by its settings."""

from __future__ import annotations

import warnings
from pathlib import Path

import dask
import dask.config
import distributed  # noqa: F401  # has the settings that there are
import pytest

from flows.pools.environment import CALM, CALM_JOB
from flows.pools.local import local_pool
from flows.runs.library_warnings import NAME, kept_apart


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


def test_what_libraries_warn_of_on_workers_is_in_the_file_of_the_run(tmp_path: Path) -> None:
    with kept_apart(tmp_path), local_pool("ml", 1) as pool:
        pool.runner.client.run(warnings.warn, "the lot is old", FutureWarning)
    assert (tmp_path / NAME).read_text().count("FutureWarning: the lot is old") == 1
