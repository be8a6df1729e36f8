"""What Dask and Prefect leave to us about tasks: that they are over."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.states import Crashed
from prefect_dask.task_runners import PrefectDaskFuture

from flows.courtesy import courtesy


def give_up(client: SyncPrefectClient, futures: Collection[PrefectDaskFuture[Any]]) -> None:
    """Cancel tasks, and show that they do not run any more."""
    for future in futures:
        future.wrapped_future.cancel()
    mark_crashed(client, futures, "the run was stopped")


def mark_crashed(
    client: SyncPrefectClient, futures: Iterable[PrefectDaskFuture[Any]], why: str
) -> None:
    """Show in the UI that tasks do not run any more; nobody else would.

    A task that has just started reaches the server's database a moment later; one that never
    started never does.
    """
    left = [future.task_run_id for future in futures]
    with courtesy("setting the state of tasks"):
        for _ in range(6):
            left = [id_ for id_ in left if not _set_crashed(client, id_, why)]
            if not left:
                return
            time.sleep(0.5)


def _set_crashed(client: SyncPrefectClient, task_run_id: UUID, why: str) -> bool:
    """Set a task run's state; False if the server does not know it, or not yet."""
    try:
        client.set_task_run_state(task_run_id, Crashed(message=why), force=True)
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.NOT_FOUND:
            raise
        return False
    return True
