"""What a campaign shows on its page in Prefect: how far it is, errors, costs, jobs, pictures."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial

from aimspax_core.campaign.state import CampaignState
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.report.document.story import Story
from aimspax_core.report.error_tables import error_rows, have_data
from aimspax_core.report.forecast import BASIS, NOTHING, Learning, forecast_rows
from aimspax_core.report.geometry_table import geometry_rows
from aimspax_core.report.progress import progress
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.settings import Settings
from flows.page.all_campaigns import AllCampaigns
from flows.page.artifacts import Cards, link_dask
from flows.page.drawn import Drawn, running_s
from flows.runs.api_watch import api_watch
from flows.runs.best_effort import best_effort
from flows.runs.teller import tell

REFRESH_S = 10.0
"""From one renewal of the progress to the next; each is a call to the API."""

JOBS_S = 30.0
"""From one table of Slurm jobs to the next, if something has changed."""

TABLE_S = 60.0
"""From one table of errors to the next."""

JobRows = Mapping[str, list[dict[str, str]]]
"""The Slurm jobs of each pool, a row each, by the pool's name."""


class CampaignPage:
    """The cards of one flow run.

    Args:
        settings: The campaign's.
        job_rows: Returns the Slurm jobs of all pools as they are now.
        job_texts: Returns what they do, in a few words, by the pool's name.
    """

    def __init__(
        self,
        settings: Settings,
        job_rows: Callable[[], JobRows],
        job_texts: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._settings, self._job_rows, self._job_texts = settings, job_rows, job_texts
        self._cards = Cards(settings.directory.name)
        self._drawn = Drawn(self._cards, job_texts)
        self._all = AllCampaigns(RunDir.of(settings).output, settings.al.max_convergence_epochs)
        self._shown = self._tabled = self._listed = 0.0
        self._rounds: tuple[int, int] = (-1, -1)
        self._jobs: dict[str, list[dict[str, str]]] = {}
        self._outages = 0
        self._foretold: tuple[object, ...] | None = None
        self._foretold_at = -math.inf
        self._foretells = False

    def link(self, pool: str, dashboard: str, workers: int) -> None:
        """Link the Dask dashboard of a pool; see `link_dask`."""
        tell(partial(link_dask, self._cards, pool, dashboard, workers))
        self._drawn.workers[pool] = workers
        self._drawn.links[f"Dask dashboard of the {pool} pool"] = dashboard

    def draw(self, inputs: Inputs, story: Story, state: CampaignState, last: bool = False) -> None:
        """Have the cards with pictures drawn, if it is time; nobody waits for that.

        Args:
            inputs: What the user has given.
            story: What the journal tells so far.
            state: The campaign.
            last: Draw them now, and return once they are drawn: this is the end.
        """
        draw = self._drawn.finish if last else self._drawn.renew
        draw(inputs, story, state)
        self._all.renew(state, running_s(story, state))

    def stop(self, inputs: Inputs, story: Story, state: CampaignState, why: str) -> None:
        """Have it told where the campaign was stopped, and why; see `draw`."""
        self._drawn.stop(inputs, story, state)
        self._all.renew(state, story.seconds, why)

    def learn(self, learning: Learning) -> None:
        """Have it shown what the errors so far foretell, if that may have changed since."""
        state = learning.state
        if state is None or time.monotonic() - self._foretold_at <= TABLE_S:
            return
        on = (state.rounds, len(learning.held_out), state.phase, state.rules)
        if on != self._foretold:
            self._foretold, self._foretold_at = on, time.monotonic()
            tell(partial(self._show_forecast, deepcopy(learning)))

    def _show_forecast(self, learning: Learning) -> None:
        with best_effort("forecasting"):
            rows = forecast_rows(learning)
            self._foretells = self._foretells or bool(rows)
            if self._foretells:  # what was said once may not hold any more
                what = f"What more labels will bring ({BASIS}; times at the pace of late)"
                self._cards.table("forecast", rows or [{"forecast": NOTHING}], what)

    def show(self, state: CampaignState, force: bool = False) -> None:
        """Have the cards renewed, if it is time or forced; nobody waits for that."""
        if force or time.monotonic() - self._shown > REFRESH_S:
            self._shown = time.monotonic()
            tell(partial(self._renew, state, force))

    def show_last_jobs(self) -> None:
        """Have it shown what has become of the Slurm jobs, once the workers have been dismissed."""
        tell(self._show_last_jobs)

    def _show_last_jobs(self) -> None:
        with best_effort("renewing the tables"):
            self._show_jobs(force=True)

    def _renew(self, state: CampaignState, force: bool) -> None:
        now = progress(state, self._settings.al.max_convergence_epochs)
        self._cards.progress("progress", now.fraction or 0.0, f"{now.title}: {now.reached}")
        with best_effort("renewing the tables"):
            self._show_jobs(force)
            self._show_errors(state, force)
            self._show_outages()

    def _show_jobs(self, force: bool) -> None:
        """Show the Slurm jobs of each pool if more than their remaining times has changed."""
        if not force and time.monotonic() - self._listed <= JOBS_S:
            return
        self._listed = time.monotonic()
        for pool, jobs in self._job_rows().items():
            known = [{**job, "time limit at": ""} for job in jobs]
            if known != self._jobs.get(pool, []):
                self._jobs[pool] = known
                told = self._job_texts().get(pool, "")
                what = f"Slurm jobs of the {pool} pool{f': {told}' if told else ''}"
                self._cards.table(f"slurm-{pool}", jobs, what)

    def _show_errors(self, state: CampaignState, force: bool) -> None:
        """Show the members' errors if there was training since."""
        rounds = state.rounds, sum(m.converge_epochs for m in state.members.values())
        due = force or time.monotonic() - self._tabled > TABLE_S
        if due and rounds != self._rounds and have_data(state):
            self._tabled, self._rounds = time.monotonic(), rounds
            self._cards.table(
                "validation-errors",
                error_rows(state, self._settings.model.MISC.error_table),
                "Errors of each member on its own validation set",
            )
            if geometries := geometry_rows(state):
                self._cards.table("geometries", geometries, "Labels and errors by geometry")

    def _show_outages(self) -> None:
        """Show the times without the API, if there was one since."""
        over = [outage for outage in api_watch().outages if outage.seconds is not None]
        if len(over) != self._outages:
            self._outages = len(over)
            rows = [outage.row() for outage in over]
            self._cards.table("without-server", rows, "Times without the Prefect API")
