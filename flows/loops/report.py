"""The report of a campaign: written while it runs, in a thread, so seldom that it costs nothing."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from aimspax_core.campaign.journal import entries
from aimspax_core.campaign.state import CampaignState
from aimspax_core.errors import AimspaxError, ModelError
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.inputs.electrons_of_models import given_by_reference
from aimspax_core.storage import text

if TYPE_CHECKING:
    from aimspax_core.report.document.source import Source

LEAST_S = 60.0
"""From one report to the next, at least."""

SHARE = 0.01
"""Of the time: what writing reports may take of one core."""

log = logging.getLogger("aimspax")


def written(inputs: Inputs, save: Path | None = None) -> tuple[Path, ...]:
    """Write the report of a campaign from its files as they are; return the new files.

    Args:
        inputs: The campaign.
        save: Where to write; None: into the run directory.

    Raises:
        CampaignError: Its journal is too damaged, or a file of another's making stands in the place
            of the page.
        OSError: A file cannot be written.
    """
    from aimspax_core.report.document.writing import write_report  # takes its time to import

    return write_report(source(inputs), save or inputs.run.output)


def source(inputs: Inputs) -> Source:
    """Return what a campaign's report is made from, as its files are.

    Raises:
        CampaignError: Its journal is too damaged.
    """
    from aimspax_core.output.compared import last_compared
    from aimspax_core.report.document.source import Source
    from aimspax_core.report.document.story import Story

    story = Story.of(entries(inputs.run.journal))
    state = inputs.state if inputs.state is not None else story.last
    assert state is not None, "a campaign has a state"
    return Source(
        run=inputs.run,
        settings=inputs.settings,
        geometries=inputs.geometries,
        seeds=inputs.seeds,
        story=story,
        state=state,
        model_card=_model_card(inputs, state),
        electrons=given_by_reference(inputs.settings),
        compared=last_compared(inputs.run, state),
    )


def _model_card(inputs: Inputs, state: CampaignState) -> str | None:
    """Return the card of the models, if there are results that it can be of."""
    from aimspax_core.evaluation.finished import Finished
    from aimspax_core.evaluation.model_card import model_card
    from aimspax_core.evaluation.whose import files_of

    if not state.finished:
        return None
    finished = Finished(inputs.run, inputs.settings, state, inputs.geometries)
    try:
        return model_card(finished, list(files_of(inputs.run.results).averaged))
    except (ModelError, OSError):
        return None  # moved away, or damaged: `aimspax verify` tells


class Reports:
    """Keeps a campaign's report up with it: after rounds, and at the end.

    Nothing waits for it while the campaign runs, and nothing fails with it.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._begun, self._took = time.monotonic(), 0.0
        self._rounds: int | None = None

    def renew(self, inputs: Inputs, state: CampaignState) -> None:
        """Have the report written, if rounds have ended since and it is time."""
        due = max(LEAST_S, self._took / SHARE)
        busy = self._thread is not None and self._thread.is_alive()
        if busy or state.rounds == self._rounds or time.monotonic() - self._begun < due:
            return
        self._begun, self._rounds = time.monotonic(), state.rounds
        self._thread = threading.Thread(
            target=self._write, args=(inputs, state), name="report", daemon=True
        )
        self._thread.start()

    def finish(self, inputs: Inputs, state: CampaignState) -> None:
        """Write the report at the end."""
        if self._thread is not None:
            self._thread.join()
        self._write(inputs, state)

    def _write(self, inputs: Inputs, state: CampaignState) -> None:
        before = time.thread_time()
        try:
            written(replace(inputs, state=state))
        except (AimspaxError, OSError) as error:
            said = text(error) if isinstance(error, OSError) else str(error)
            log.warning("no report: %s; `aimspax report` writes it later", said)
        except Exception:  # a campaign can do without its report: a bug in it must not end one
            log.exception("no report")
        self._took = time.thread_time() - before
