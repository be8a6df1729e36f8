"""What the pages of all flow runs have in common: their keys, the progress, links to Dask."""

from __future__ import annotations

import re
from typing import cast
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_progress_artifact,
    update_progress_artifact,
)

from flows.runs.best_effort import best_effort


def key_of(name: str) -> str:
    """Return a name as the beginning of artifact keys, which have small letters and dashes only."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


class ProgressArtifact:
    """The progress of a flow run; it appears on the page when it is first shown.

    Args:
        key: Its key in Prefect.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._id: UUID | None = None

    def show(self, fraction: float, description: str) -> None:
        """Show how much is done.

        Args:
            fraction: Of all that there is to do, from 0 to 1.
            description: The same in words.
        """
        percent = 100 * fraction
        with best_effort("renewing the progress"):
            if self._id is None:
                self._id = cast(UUID, create_progress_artifact(percent, self._key, description))
            else:
                update_progress_artifact(self._id, percent, description)


def link_dask(key: str, pool: str, url: str, workers: int) -> None:
    """Link the Dask dashboard of a pool.

    Args:
        key: What the keys of the page begin with.
        pool: The pool's name.
        url: Its dashboard, which only this machine can open.
        workers: How many it has at most.
    """
    count = "1 worker" if workers == 1 else f"{workers} workers at most"
    with best_effort("linking the Dask dashboards"):
        create_link_artifact(
            link=url,
            link_text=f"Dask dashboard of the {pool} pool ({count})",
            key=f"{key}-dask-{pool}",
            description=f"Watch the {count} of the {pool} pool at work",
        )
