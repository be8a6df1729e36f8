"""What follows from events beside a campaign's state: log, losses, frames, analysis, forecast."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from aimspax_core.campaign.events import Event, Launched
from aimspax_core.campaign.journal import entries
from aimspax_core.campaign.obsolete_files import remove_obsolete
from aimspax_core.campaign.state import CampaignState
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.output.analysis import Analysis
from aimspax_core.output.loss_logs import append_losses
from aimspax_core.output.thinning import Thinning
from aimspax_core.output.trajectories import gather, settle
from aimspax_core.report.document.story import Story
from aimspax_core.report.narrative import lines
from flows.runs.best_effort import best_effort
from flows.runs.listeners import Listener

ANALYSIS_S = 60.0
"""From one renewal of `analysis/` to the next."""

log = logging.getLogger("aimspax")


class KeptFiles:
    """Keeps what a campaign writes beside its journal up with its events.

    None of it decides anything: what cannot be written is told, and the campaign goes on.

    Args:
        inputs: What the user has given.
        insist: Calls what writes, and again once there is room if there was none.

    Attributes:
        settings: Those in force; others may be set.
        story: What the campaign's page tells of it so far.
    """

    def __init__(self, inputs: Inputs, insist: Callable[[Callable[[], Any]], Any]) -> None:
        self.settings, self.story = inputs.settings, Story()
        self._run, self._insist = inputs.run, insist
        self._analysis: Analysis | None = None
        self._analysed = time.monotonic()

    def take_up(self, state: CampaignState) -> None:
        """Bring all in line with the journal, as a process begins."""
        with best_effort("trajectories"):
            settle(self._run, state)
        with best_effort("what the page tells"):
            self.story = Story.of(entries(self._run.journal))
        with best_effort("analysis"):  # a part of the journal may be damaged
            self._analysis = Analysis.of(self._run, self.settings)

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """What follows from an event, in this order.

        The run's page is renewed by the clock, not by events.
        """
        return (
            self._log_event,
            self._append_losses,
            self._gather_frames,
            self._remove_obsolete_files,
            self._note_for_analysis,
            self._note_for_page,
        )

    def _log_event(self, before: CampaignState | None, event: Event, after: CampaignState) -> None:
        for line in lines(before, event, after, self.settings.model.MISC.error_table):
            log.info("%s", line)

    def _append_losses(
        self, before: CampaignState | None, event: Event, after: CampaignState
    ) -> None:
        with best_effort("losses"):
            self._insist(partial(append_losses, self._run, event))

    def _gather_frames(
        self, before: CampaignState | None, event: Event, after: CampaignState
    ) -> None:
        with best_effort("trajectories"):
            self._insist(partial(gather, self._run, event, Thinning.of(self.settings)))

    def _remove_obsolete_files(
        self, before: CampaignState | None, event: Event, after: CampaignState
    ) -> None:
        if before is not None and not isinstance(event, Launched):  # a launch leaves all in use
            kept = self.settings.model.MISC.keep_checkpoints
            with best_effort("removing what is obsolete"):
                remove_obsolete(self._run, before, after, kept)

    def _note_for_analysis(
        self, before: CampaignState | None, event: Event, after: CampaignState
    ) -> None:
        if self._analysis is not None:
            self._analysis.note(event, after)
            self.write_analysis()

    def _note_for_page(
        self, before: CampaignState | None, event: Event, after: CampaignState
    ) -> None:
        # Events that come together have the same states: what changed between them counts once.
        known = before if self.story.last is not after else after
        self.story.note(known, event, after, time.time())

    def write_analysis(self, force: bool = False) -> None:
        """Renew `analysis/`, now and then or at once."""
        due = force or time.monotonic() - self._analysed > ANALYSIS_S
        if self._analysis is not None and self._analysis.wanted and due:
            with best_effort("analysis"):
                self._analysis.write()
            self._analysed = time.monotonic()
