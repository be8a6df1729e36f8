"""What the labelling of a dataset shows on its page in Prefect: progress, and failed frames."""

from __future__ import annotations

from functools import partial

from prefect.artifacts import create_table_artifact

from aimspax_core.inputs.relabel_inputs import RelabelInputs
from aimspax_core.labels.relabelling import Relabelled, failed_file
from flows.page.artifacts import ProgressArtifact, key_of, link_dask
from flows.runs.teller import tell

_ROWS = 200
"""Failed frames that the page lists; the file beside the output has all."""


class RelabelPage:
    """The artifacts of one flow run.

    Args:
        inputs: The dataset, and where its labels go.
    """

    def __init__(self, inputs: RelabelInputs) -> None:
        self._inputs = inputs
        self._key = key_of(f"{inputs.settings.directory.name}-{inputs.file.stem}")
        self._progress = ProgressArtifact(f"{self._key}-label-progress")

    def begin(self, pool: str, dashboard: str, workers: int) -> None:
        """Link the Dask dashboard of the pool (see `link_dask`); nothing is done yet."""
        tell(partial(link_dask, self._key, pool, dashboard, workers))
        self.show(0.0, f"labelling {self._inputs.file.name}")

    def show(self, fraction: float, description: str) -> None:
        """Renew the progress; see `ProgressArtifact.show`."""
        tell(partial(self._progress.show, fraction, description))

    def end(self, found: Relabelled) -> None:
        """Show how many frames are labelled, and list those that failed."""
        labelled, failed, total = len(found.labelled), found.failed, len(self._inputs.frames)
        self.show(
            (labelled + len(failed)) / total,
            f"{labelled} of {total} frames labelled, {len(failed)} failed",
        )
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
        tell(
            partial(
                create_table_artifact,
                table=rows,
                key=f"{self._key}-label-failed",
                description=f"{len(failed)} frames failed; {failed_file(self._inputs.output)}",
            )
        )
