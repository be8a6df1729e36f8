"""What a pool has to know of its workers that Dask does not: why they go, how long they stay."""

from __future__ import annotations

from typing import Any, Protocol

from aimspax_core.errors import AimspaxError
from aimspax_core.labels.tries import Fate


class WorkerLostError(AimspaxError):
    """A task's worker is gone, or the Prefect API was, and the task with it.

    Args:
        reason: What became of the worker, or was wrong with the API.
        fate: What that means for the task.
    """

    def __init__(self, reason: str, fate: Fate = Fate.DIED) -> None:
        super().__init__(reason)
        self.fate = fate

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the fate."""
        return WorkerLostError, (str(self), self.fate)


class Workforce(Protocol):
    """What a pool has to know of its workers that Dask does not."""

    @property
    def trouble(self) -> str:
        """Why no worker will come any more; empty while all is well."""
        ...

    def explain(self, address: str) -> WorkerLostError | None:
        """Return what became of a worker that is gone; None while that is not known yet."""
        ...

    def room(self, address: str, seconds: float | None) -> bool:
        """Tell whether a task that takes so long (s; None: not known) has the time on a worker."""
        ...

    def sound(self, address: str, since: float) -> bool | None:
        """Tell whether all was well with a worker when something failed on it.

        Args:
            address: The worker.
            since: When it failed, by the monotonic clock.

        Returns:
            None while that is not known yet.
        """
        ...

    def rows(self) -> list[dict[str, str]]:
        """Return the jobs that the workers are in, as rows of a table."""
        ...

    def told(self) -> str:
        """Return what these jobs do, in a few words; empty where there is no scheduler."""
        ...

    def dismiss(self) -> None:
        """Ask that all workers go, and do not wait for them."""
        ...


class Steady:
    """Workers on this machine: they have no time limit, and nobody knows why they die."""

    @property
    def trouble(self) -> str:
        """See `Workforce.trouble`."""
        return ""

    def explain(self, address: str) -> WorkerLostError | None:
        """See `Workforce.explain`."""
        return WorkerLostError("its worker died", Fate.DIED)

    def room(self, address: str, seconds: float | None) -> bool:
        """See `Workforce.room`."""
        return True

    def sound(self, address: str, since: float) -> bool | None:
        """See `Workforce.sound`."""
        return True

    def rows(self) -> list[dict[str, str]]:
        """See `Workforce.rows`."""
        return []

    def told(self) -> str:
        """See `Workforce.told`."""
        return ""

    def dismiss(self) -> None:
        """See `Workforce.dismiss`; these workers end with the pool, which takes no time."""


def from_outside(error: BaseException) -> bool:
    """Tell what Dask, Prefect or the network raise from what our own code does."""
    return from_dask(error) or type(error).__module__.split(".")[0] in {"prefect", "httpx"}


def from_dask(error: BaseException) -> bool:
    """Tell what Dask raises about a worker that left from what a task raises."""
    modules = {"distributed", "asyncio", "concurrent"}
    return isinstance(error, TimeoutError) or type(error).__module__.split(".")[0] in modules
