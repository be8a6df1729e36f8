"""What a pool hooks into Dask and Prefect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distributed import Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin
from prefect.context import SettingsContext
from pydantic import PrivateAttr


class RememberedSettings(SettingsContext):
    """Prefect's settings, written out once: for each task anew, that is most of what it costs."""

    _written: dict[str, Any] | None = PrivateAttr(default=None)

    def serialize(self, include_secrets: bool = True) -> dict[str, Any]:
        """See `ContextModel.serialize`."""
        if self._written is None:
            self._written = super().serialize(include_secrets)
        return self._written


class WorkerWatch(SchedulerPlugin):
    """Tells the pool that a worker has come or gone."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """Note that a worker has come."""
        self._wake()

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:
        """Note that a worker is gone."""
        self._wake()
