"""What a pool must know of its workers beside what Dask tells: why they go, how long they stay."""

from __future__ import annotations

from typing import Any, Protocol

from aimspax_core.errors import AimspaxError
from aimspax_core.labels.tries import Fate


class WorkerLostError(AimspaxError):
    """A task's worker is gone, and the task with it.

    Args:
        reason: What became of the worker, in words.
        fate: The same in one.
    """

    def __init__(self, reason: str, fate: Fate = Fate.DIED) -> None:
        super().__init__(reason)
        self.fate = fate

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the fate."""
        return WorkerLostError, (str(self), self.fate)


class Workforce(Protocol):
    """What a pool must know of its workers beside what Dask tells."""

    def explain(self, address: str) -> WorkerLostError | None:
        """Say what became of a worker that is gone; None while that is not known yet."""
        ...

    def room(self, address: str, seconds: float | None) -> bool:
        """Tell whether a task that takes so long has the time on a worker."""
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
        """Return the jobs that the workers are in, in words, for a table."""
        ...

    def dismiss(self) -> None:
        """Ask that all workers go, without waiting for it."""
        ...


class Steady:
    """Workers on this machine: they have all the time, and nobody knows why they die."""

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

    def dismiss(self) -> None:
        """See `Workforce.dismiss`; they end with the pool, which takes no time."""
