"""What the labelling of a dataset shows on its page in Prefect."""

from __future__ import annotations

import re
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from aimspax_core.inputs.relabel_inputs import LabelInputs
from aimspax_core.labels.relabelling import Relabelled, failed_file
from flows.pools.pool import Pool
from flows.runs.best_effort import best_effort

_ROWS = 200
"""Failed frames that the page lists; the file beside the output has all."""


class RelabelPage:
    """The artifacts of one flow run: progress, the failed frames, and the Dask dashboard."""

    def __init__(self, inputs: LabelInputs, pool: Pool) -> None:
        self._inputs = inputs
        stem = f"{inputs.settings.directory.name}-{inputs.file.stem}"
        self._name = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")
        self._progress: UUID | None = None
        with best_effort("linking the Dask dashboard"):
            create_link_artifact(
                link=pool.dashboard,
                link_text=f"Dask dashboard of the reference pool ({pool.capacity} workers at most)",
                key=f"{self._name}-dask-reference",
            )
        self.show(0.0, f"labelling {inputs.file.name}")

    def show(self, fraction: float, description: str) -> None:
        """Renew the progress."""
        with best_effort("renewing the progress"):
            if self._progress is None:
                self._progress = create_progress_artifact(
                    100 * fraction, f"{self._name}-label-progress", description
                )  # type: ignore[assignment]
            else:
                update_progress_artifact(self._progress, 100 * fraction, description)

    def end(self, found: Relabelled) -> None:
        """Show how it ended."""
        labelled, failed, total = len(found.labelled), found.failed, len(self._inputs.frames)
        told = f"{labelled} of {total} frames labelled, {len(failed)} failed"
        self.show((labelled + len(failed)) / total, told)
        if not failed:
            return
        rows = [
            {
                "frame": frame.index,
                "formula": frame.atoms.get_chemical_formula(),
                "reason": reason,
            }
            for frame, reason in failed[:_ROWS]
        ]
        with best_effort("listing the failed frames"):
            create_table_artifact(
                table=rows,
                key=f"{self._name}-label-failed",
                description=f"{len(failed)} frames failed; {failed_file(self._inputs.output)}",
            )
