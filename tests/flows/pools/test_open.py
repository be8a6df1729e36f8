"""The pools of workers."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import httpx
import pytest

from aimspax_core.machine import visible_gpus
from flows.pools.local import local_pool
from tests.flows.hosting import Landed, Nap, evaluate, in_a_flow, inside, lines, nap, wait_for


def seen_by(pool) -> list[str | None]:
    """What each worker of a pool sees; it cannot import this module, so the code is a builtin's."""
    look = "__import__('os').environ.get('CUDA_VISIBLE_DEVICES')"
    return sorted(pool.runner.client.run(eval, look).values())


@pytest.mark.parametrize(
    ("gpus", "seen"),
    [(("2", "3"), ["2", "3", "2"]), (("7",), ["7", "7", "7"])],
)
def test_each_worker_of_a_pool_sees_one_gpu(gpus, seen):
    with local_pool("ml", 3, gpus) as pool:
        pool.runner.client.wait_for_workers(3, timeout=60)
        assert seen_by(pool) == sorted(seen)


def test_a_pool_grows_with_the_settings(inputs):
    more = inputs.load({"CLUSTER.max_workers": 2})
    with local_pool("reference", 1, wanted=lambda new: new.cluster.max_workers) as pool:
        pool.follow(more)
        pool.runner.client.wait_for_workers(2, timeout=60)
        assert pool.capacity == 2


def test_without_gpus_nothing_is_hidden(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4")
    with local_pool("ml", 1) as pool:
        assert seen_by(pool) == ["4"]


def test_the_files_of_dask_are_where_nobody_else_can_enter():
    with local_pool("ml", 1) as pool:
        places = [Path(state.local_directory) for state in pool._scheduler.workers.values()]
        places.append(Path(pool._scheduler.local_directory))
        own = [
            next(p for p in (place, *place.parents) if p.name.startswith("aimspax-"))
            for place in places
        ]
        assert {folder.stat().st_mode & 0o777 for folder in own} == {0o700}
    assert not any(folder.exists() for folder in own)


def test_a_dashboard_is_seen_only_by_who_knows_its_name():
    with local_pool("ml", 1) as pool:
        assert httpx.get(pool.dashboard).status_code == 200
        port = pool.dashboard.split("/")[2]
        for page in (
            "",
            "status",
            "sitemap.json",
            "json/identity.json",
            "metrics",
            "info/main/workers.html",
        ):
            assert httpx.get(f"http://{port}/{page}").status_code == 404, page


def test_gpus_are_those_that_the_environment_names(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-5f,")
    assert visible_gpus() == ("2", "GPU-5f")


def test_no_gpu_is_seen_where_none_may_be_used(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == ()


def test_gpus_are_those_that_the_driver_lists(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: H100 (UUID: a)'\necho 'GPU 1: H100 (UUID: b)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert visible_gpus() == ("0", "1")


def test_each_worker_prepares_once_when_it_is_idle(tmp_path):
    journal = tmp_path / "journal"
    with local_pool("ml", 2, warm_up=partial(nap.fn, Nap(journal, "warm"))):
        wait_for(lambda: len(lines(journal, "end")) == 2, "both workers are warm")
        workers = {line.split()[2] for line in journal.read_text().splitlines()}
        time.sleep(1.0)
        assert len(workers) == len(lines(journal, "begin")) == 2


def test_a_task_is_more_urgent_than_to_prepare(prefect_server, tmp_path):
    journal, over, landed = tmp_path / "journal", tmp_path / "over", Landed()
    opened = local_pool("ml", 1, warm_up=partial(nap.fn, Nap(journal, "warm")))
    with in_a_flow() as context, inside(context, opened) as pool:
        pool.submit(nap, Nap(journal, "task", until=over), landed)
        wait_for(lambda: bool(lines(journal, "begin")), "the task has begun")
        time.sleep(1.0)
        over.touch()
        landed.wait(1)
        wait_for(lambda: "warm" in lines(journal, "end"), "the worker is warm")
        assert lines(journal, "begin") == ["task", "warm"]


def test_tasks_have_the_flows_settings_of_prefect_though_none_are_sent(prefect_server):
    names = ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_API_REQUEST_TIMEOUT")
    look = f"[str(getattr(__import__('prefect').settings, n).value()) for n in {names}]"
    with in_a_flow() as context, inside(context, local_pool("ml", 1)) as pool:
        assert pool._settings_known
        landed = Landed()
        pool.submit(evaluate, look, landed)
        (ticket,) = landed.wait(1)
        assert ticket.result() == eval(look)
