"""What the labelling of a dataset shows on its page in Prefect: progress, and failed frames."""

from __future__ import annotations

from functools import partial

from aimspax_core.inputs.relabel_inputs import RelabelInputs
from aimspax_core.labels.relabelling import Relabelled, failed_file
from flows.page.artifacts import Cards, link_dask
from flows.runs.teller import tell

_ROWS = 200
"""Failed frames that the page lists; the file beside the output has all."""


class RelabelPage:
    """The cards of one flow run.

    Args:
        inputs: The dataset, and where its labels go.
    """

    def __init__(self, inputs: RelabelInputs) -> None:
        self._inputs = inputs
        self._cards = Cards(f"{inputs.settings.directory.name}-{inputs.file.stem}")

    def begin(self, pool: str, dashboard: str, workers: int) -> None:
        """Link the Dask dashboard of the pool (see `link_dask`); nothing is done yet."""
        tell(partial(link_dask, self._cards, pool, dashboard, workers))
        self.show(0.0, f"labelling {self._inputs.file.name}")

    def show(self, fraction: float, description: str) -> None:
        """Renew the progress; see `Cards.progress`."""
        tell(partial(self._cards.progress, "label-progress", fraction, description))

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
        told = f"{len(failed)} frames failed; {failed_file(self._inputs.output)}"
        tell(partial(self._cards.table, "label-failed", rows, told))
