"""Run a campaign, or a part of it: the loop that all flows share."""

from __future__ import annotations

import contextlib
import logging
import secrets
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from aimspax_core.campaign.actions import tasks_of
from aimspax_core.campaign.budget import overdrawn
from aimspax_core.campaign.candidates import refusals
from aimspax_core.campaign.events import (
    Event,
    ExplorationAsked,
    LabelsGone,
    Launched,
    Resumed,
    Started,
)
from aimspax_core.campaign.journal import Journal
from aimspax_core.campaign.leftovers import remove_leftovers
from aimspax_core.campaign.restarts import mark_of
from aimspax_core.campaign.rules import apply, next_actions
from aimspax_core.campaign.state import SCHEMA_VERSION, CampaignState, Phase
from aimspax_core.errors import CampaignError
from aimspax_core.inputs.campaign_inputs import Inputs, Part
from aimspax_core.inputs.damaged_files import find_damaged
from aimspax_core.inputs.provenance import frozen_digest, write_provenance
from aimspax_core.labels.store import LabelStore, gone_labels
from aimspax_core.output.loss_logs import losses_file
from aimspax_core.output.trajectories import forget
from aimspax_core.report.progress import paused_text, progress_text
from aimspax_core.run_directory import RunDir
from aimspax_core.versions import release
from flows.loops.begin_anew import Look, insist
from flows.loops.executor import Executor
from flows.loops.figures import Figures
from flows.loops.kept_files import KeptFiles
from flows.loops.page_switch import PageSwitch
from flows.loops.read_inputs import read_inputs
from flows.loops.report import Reports
from flows.loops.room import Room, StoppedWaitingError, look_for_campaigns_room
from flows.loops.stop import Stop, StopRequested, stop_signals
from flows.loops.taking_requests import LOOK_S, Requests
from flows.loops.time_spent import TimeSpent
from flows.page.campaign_page import CampaignPage
from flows.page.events import campaign_events
from flows.pools.open import pools
from flows.runs.api_watch import api_watch
from flows.runs.best_effort import best_effort
from flows.runs.handed_over import handed_over
from flows.runs.listeners import listeners
from flows.runs.log_files import campaign_logs
from flows.runs.one_at_a_time import naming_the_holder
from flows.runs.previous_attempt import replace_previous, was_copied
from flows.runs.restarts import count_restart
from flows.runs.shown_state import show_waiting

T = TypeVar("T")

log = logging.getLogger("aimspax")


def run_campaign(directory: Path, overrides: dict[str, Any] | None, part: Part) -> State[Any]:
    """Run a campaign, or a part of it, from where it is.

    Args:
        directory: The run directory.
        overrides: Values that replace those of the settings files.
        part: `initial` ends with the initial dataset, `active` begins with it.

    Returns:
        The state that the flow run ends in: completed, cancelled (start it again to go on),
        interrupted (a deployed run that is started again by itself), or failed with the reason.

    Raises:
        SettingsError, StructureError: There are mistakes in the run directory.
        HeldError: Another process runs this campaign.
        StalledError: It was started again by itself too often without progress.
    """
    with stop_signals() as stopped, get_client(sync_client=True) as client:
        run = partial(_run, directory, overrides, part, client, stopped)
        return insist(run, client, stopped)


def _run(
    directory: Path,
    overrides: dict[str, Any] | None,
    part: Part,
    client: SyncPrefectClient,
    stopped: Stop,
    writes: Callable[[Look], None],
) -> State[Any]:
    """Run a campaign, or a part of it, and say how to look for the room that it needs."""
    inputs = handed_over(Inputs) or read_inputs(directory, overrides, part)
    writes(partial(look_for_campaigns_room, inputs.run))
    with contextlib.ExitStack() as stack:
        api_watch().waits = inputs.settings.misc.without_server == "wait"
        with naming_the_holder(client, inputs.run.flow_run):
            journal = stack.enter_context(Journal(inputs.run))
        before = journal.state if journal.begun else None
        if inputs.state is not None and before is not None:
            inputs = inputs.with_set_values(before)  # perhaps since they were read
        stack.enter_context(campaign_logs(inputs.run, inputs.settings, before))
        for note in journal.notes:
            log.warning("%s", note)
        _clean_up(inputs.run)
        stack.callback(_clean_up, inputs.run)
        copied = was_copied(inputs.run.flow_run)
        replace_previous(client, inputs.run)
        events = stack.enter_context(campaign_events(inputs.run))
        with events.telling_stalls():
            mark, limit = mark_of(before), inputs.settings.misc.restarts
            count_restart(inputs.run.restarts, mark, limit)
        stopped.counted_in = inputs.run.restarts
        campaign = Campaign(inputs, journal, part)
        campaign.take_up(copied)
        if campaign.over:
            log.info("finished already: %s", progress_text(journal.state))
            events.finished_already(journal.state)
        else:
            with contextlib.suppress(StopRequested, StoppedWaitingError):
                campaign.drive(client, stopped)
            if stopped.reason:
                log.info("stopped (%s); start again to go on", stopped.reason)
                return stopped.state(f"{stopped.reason}; start again to go on")
        state = journal.state
    if state.phase is Phase.FAILED:
        return Failed(message=state.stop_reason)
    return _completed(state)


class Campaign:
    """A campaign that this process runs."""

    def __init__(self, inputs: Inputs, journal: Journal, part: Part) -> None:
        self.inputs, self.journal, self.part = inputs, journal, part
        self.run, self.settings = inputs.run, inputs.settings
        self._requests = Requests(self._record)
        self._time_spent = TimeSpent(inputs.run)
        self._kept_files = KeptFiles(inputs, self._insist)
        self._switch: PageSwitch | None = None
        self._room: Room | None = None  # nothing waits for room before the loop begins

    @property
    def state(self) -> CampaignState:
        """The state after all events so far."""
        return self.journal.state

    @property
    def over(self) -> bool:
        """True if what was asked for has been done."""
        ends = Phase.READY if self.part == "initial" else Phase.FINISHED
        beyond = self.part == "initial" and self.state.published_initial
        return self.state.phase is ends or self.state.phase is Phase.FINISHED or beyond

    def take_up(self, copied: bool = False) -> None:
        """Begin the campaign, or go on where an earlier process stopped, here or in the original.

        Args:
            copied: Whether the directory is a copy of another one.
        """
        if self.journal.begun and not self.settings.misc.create_restart and not self.over:
            raise CampaignError(
                f"{self.run.output}: MISC.create_restart is False, so the campaign that was begun "
                "here is not taken up; --fresh begins anew"
            )
        if self.journal.begun and self.state.adopting:
            self.run.settings.unlink(missing_ok=True)  # a mistake in them may be mended
        begun, adopts = self.journal.begun, self.inputs.given is not None
        adopted = self.state.adopted if begun else adopts
        changes = write_provenance(self.run, self.settings, self.inputs.geometries, adopted)
        for note in self.settings.notes:
            log.warning("%s", note)
        if self.journal.begun:
            self._resume(changes, copied)
        else:
            forget(self.run)  # what a campaign that was moved aside has left
            for tag in self.inputs.seeds:
                losses_file(self.run, tag).unlink(missing_ok=True)
            rules = self.inputs.rules
            self._record(Started(rules=rules, adopt=adopts, **self._written_by()))
        self._kept_files.take_up(self.state)

    def _resume(self, changes: tuple[str, ...], copied: bool) -> None:
        gone = gone_labels(LabelStore(self.run.labels), self.state.labelled, self.run.structure)
        resumed = Resumed(
            rules=self.inputs.rules,
            changes=changes,
            copied=copied,
            superseded=self.inputs.superseded,
            **self._written_by(),
        )
        if not self.state.finished or not apply(self.state, resumed).finished:
            self._record(resumed)
            if gone:
                self._record(LabelsGone(keys=tuple(gone)))
            while damaged := find_damaged(self.run, self.state):
                self._record(*damaged)

    def _written_by(self) -> dict[str, Any]:
        """What the events that begin a process say of it, for those who read them later."""
        return {
            "campaign": secrets.token_hex(8),
            "settings": frozen_digest(self.run),
            "aimspax": release(),
            "schema_version": SCHEMA_VERSION,
        }

    def drive(self, client: SyncPrefectClient, stopped: Stop) -> None:
        """Run the campaign until its end or a stop; while it is paused, without workers.

        Raises:
            StoppedWaitingError: A stop came while the disk had no room.
        """
        look, show = partial(look_for_campaigns_room, self.run), partial(show_waiting, client)
        self._room = Room(look, show, stopped.asked)
        self._switch = PageSwitch(self.run, client, api_watch())
        while not (stopped.asked() or self.over or self.state.phase is Phase.FAILED):
            if self.state.paused is not None:
                self._wait(stopped)
            else:
                self._drive(client, stopped)

    def _wait(self, stopped: Stop) -> None:
        """Wait until somebody resumes the campaign, or wants it to stop."""
        assert self.state.paused is not None
        log.info(
            "%s; `aimspax resume`, or Resume on the run's page, lets it go on",
            paused_text(self.state.paused),
        )
        while self.state.paused is not None and not stopped.asked():
            self._take_requests()
            time.sleep(LOOK_S)

    def _take_requests(self, executor: Executor | None = None) -> None:
        """Take what people have asked of the campaign."""
        inputs = self._requests.take(self.inputs, self.state)
        if inputs is not self.inputs:
            self.inputs, self.settings = inputs, inputs.settings
            self._kept_files.settings = inputs.settings
            if executor is not None:
                executor.follow(inputs)
        if self._switch is not None:
            if (event := self._switch.wish(self.state)) is not None:
                self._record(event)
            self._switch.show(self.state)
        if executor is not None and self.state.paused is not None:
            self._record(*executor.put_back())

    def _drive(self, client: SyncPrefectClient, stopped: Stop) -> None:
        """Launch what the rules want and record what comes back, until the end or a break.

        Raises:
            StopRequested: A stop came before there were workers.
        """
        with contextlib.ExitStack() as afterwards, contextlib.ExitStack() as stack:
            with stopped.at_once():
                workers = stack.enter_context(pools(self.settings))
            executor = Executor(
                self.inputs, workers, client, self._room, explores=self.part != "initial"
            )
            executor.labels.learn(self.state)
            page = CampaignPage(
                self.settings,
                lambda: {pool.name: pool.rows for pool in workers},
                lambda: {pool.name: pool.jobs_text for pool in workers},
            )
            afterwards.callback(page.show_last_jobs)
            for pool in workers:
                page.link(pool.name, pool.dashboard, pool.capacity)
            page.show(self.state, force=True)
            figures, reports = Figures(self.run), Reports()
            try:
                while not stopped.asked():
                    self._take_requests(executor)
                    if self.state.paused is not None and not self.state.in_flight:
                        break
                    ready = self.state.phase is Phase.READY and self.state.paused is None
                    if ready and self.part != "initial":
                        self._record(ExplorationAsked())
                    if self.over or self.state.phase is Phase.FAILED:
                        break
                    self._keep_to_budget(executor)
                    self._launch(executor)
                    figures.expect(self.state)
                    self._record_next(executor, LOOK_S)
                    page.show(self.state)
                    page.learn(self._kept_files.story.curves.learning)
                    page.draw(self.inputs, self._kept_files.story, self.state)
                    reports.renew(self.inputs, self.state)
                self._land(executor, stopped.grace_ends)
            finally:
                executor.cancel()
            page.show(self.state, force=True)
            if stopped.asked():
                why = f"stopped ({stopped.reason})"
                page.stop(self.inputs, self._kept_files.story, self.state, why)
            else:
                page.draw(self.inputs, self._kept_files.story, self.state, last=True)
            if self.state.finished:
                with best_effort("figures"):
                    figures.draw()
            if self.state.phase in (Phase.FINISHED, Phase.FAILED):
                reports.finish(self.inputs, self.state)
                page.draw(self.inputs, self._kept_files.story, self.state, last=True)  # its link

    def _keep_to_budget(self, executor: Executor) -> None:
        """Tell for how long the campaign has run; put labels back that it is too late to begin."""
        if (event := self._time_spent.due(self.state)) is not None:
            self._record(event)
        if overdrawn(self.state):
            self._record(*executor.put_back_labels())

    def _launch(self, executor: Executor) -> None:
        """Launch what the rules want; while there is no room, nothing, nor what has not begun."""
        if self._room is not None and not self._room.free():
            self._record(*executor.put_back())
            return
        if (passed_over := refusals(self.state)) is not None:
            self._record(passed_over)
        wanted = next_actions(self.state)
        self._record(*(Launched(action=action) for action in wanted))
        for actions in tasks_of(wanted):
            self._insist(partial(executor.launch_together, actions, self.state))

    def _insist(self, write: Callable[[], T]) -> T:
        """Write something down, and wait for room if there is none."""
        return write() if self._room is None else self._room.insist(write)

    def _land(self, executor: Executor, end: float) -> None:
        """Wait until a time, by `time.monotonic`, for the tasks that still run."""
        while executor.hold() and (left := end - time.monotonic()) > 0:
            self._record_next(executor, left)
        self._kept_files.write_analysis(force=True)

    def _record_next(self, executor: Executor, timeout_s: float) -> None:
        """Wait for the next completion, and record it if one comes in time."""
        for event in executor.next_events(timeout_s):
            self._record(event)  # each by itself: what is told of one follows from the one before

    def _record(self, *events: Event) -> None:
        """Put events that come together into the journal, and do what follows from each.

        Listeners see the state before the first of them and the state after the last.
        """
        before = self.state if self.journal.begun else None
        after = self._insist(partial(self.journal.append, *events))
        for event in events:
            self._time_spent.note(event)
            for listener in (*listeners(), *self._kept_files.listeners):
                listener(before, event, after)


def _clean_up(run: RunDir) -> None:
    with best_effort("removing what killed processes have left"):
        if count := remove_leftovers(run):
            log.info("removed %d files and folders that killed processes had left", count)


def _completed(state: CampaignState) -> State[Any]:
    return Completed(message=f"{state.phase}: {progress_text(state)}")
