"""What a pool hooks into Dask and Prefect."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from distributed import Client, Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin
from prefect.context import SettingsContext, get_settings_context, root_settings_context
from pydantic import PrivateAttr

_TRIES = 5
"""So often all workers are told something; each time one of them may die meanwhile."""


class RememberedSettings(SettingsContext):
    """Prefect's settings, which are serialised once: doing so for each task is most of its cost.

    Workers that read the same settings by themselves are sent none: to take them in costs more.
    """

    _known: bool = PrivateAttr(default=False)
    _serialized: dict[bool, dict[str, Any]] = PrivateAttr(default_factory=dict)

    @classmethod
    def of_now(cls, known: bool) -> RememberedSettings:
        """Return the settings in force; `known`: workers have them already."""
        now = get_settings_context()
        remembered = cls(profile=now.profile, settings=now.settings)
        remembered._known = known
        return remembered

    def serialize(self, include_secrets: bool = True) -> dict[str, Any]:
        """See `ContextModel.serialize`."""
        if self._known:
            return {}
        if include_secrets not in self._serialized:
            self._serialized[include_secrets] = super().serialize(include_secrets)
        return self._serialized[include_secrets]


def set_by_environment() -> bool:
    """Return whether a process with this environment has the settings of Prefect in force here."""
    now, others = get_settings_context(), root_settings_context()
    return now.settings.model_dump() == others.settings.model_dump()


class WorkerWatch(SchedulerPlugin):
    """Wakes the pool when a worker has come or gone."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """Note that a worker has come."""
        self._wake()

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:
        """Note that a worker is gone."""
        self._wake()


def forward_logs(client: Client) -> None:
    """Have what `aimspax` logs on workers, present and future ones, handled in this process.

    A worker that dies while it is told makes Dask give up, though all is well with the others.

    Raises:
        OSError: The scheduler is gone, or a worker died each time.
    """
    level = logging.getLogger("aimspax").getEffectiveLevel()
    for left in reversed(range(_TRIES)):
        try:
            client.forward_logging("aimspax", level)
        except OSError:
            if not left:
                raise
        else:
            return
