"""Run a campaign: what all flows share."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Cancelled, Completed, Failed

from aimspax_core.campaign.events import (
    Event,
    ExplorationAsked,
    Launched,
    Resumed,
    Started,
)
from aimspax_core.campaign.journal import Journal
from aimspax_core.campaign.labels import LabelStore, require_labels
from aimspax_core.campaign.rules import apply, next_actions
from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.errors import CampaignError
from aimspax_core.inputs import Inputs
from aimspax_core.report.figures import learning_curve
from aimspax_core.report.losses import append_losses, losses_file
from aimspax_core.report.narrative import lines
from aimspax_core.report.progress import told
from aimspax_core.settings.provenance import record
from flows.courtesy import courtesy
from flows.dashboard import Dashboard
from flows.logs import campaign_logs
from flows.pools import pools
from flows.shell import Shell
from flows.tidy import tidy

GRACE_S = 15.0
"""How long a stop waits for what is running, before it is given up."""

POLL_S = 2.0
"""From one look at the flow run's own state to the next."""

log = logging.getLogger("aimspax")


def run_campaign(
    directory: Path, overrides: dict[str, Any] | None, until: Phase, explore: bool
) -> State[Any]:
    """Run a campaign, from where it is, until a phase is reached.

    Args:
        directory: The run directory.
        overrides: Values that replace those of the settings files.
        until: `Phase.READY` ends with the initial dataset, `Phase.FINISHED` with everything.
        explore: Begin active learning when the initial dataset is there.

    Returns:
        The state that the flow run ends in: completed, cancelled (start it again to go on), or
        failed with the reason.

    Raises:
        SettingsError, StructureError: There are mistakes in the run directory.
        CampaignError: Another process runs this campaign.
    """
    campaign = Inputs.read(directory, overrides)
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(get_client(sync_client=True))
        journal = stack.enter_context(Journal(campaign.run))
        stack.enter_context(campaign_logs(campaign.run, campaign.settings))
        if _over(_take_up(campaign, journal), until):
            log.info("finished already: %s", told(journal.state))
        else:
            stopped = stack.enter_context(_stop_signals(client))
            _drive(campaign, journal, client, until, explore, stopped)
            if stopped.reason:
                log.info("stopped (%s); start again to go on", stopped.reason)
                return Cancelled(message=f"{stopped.reason}; start again to go on")
        state = journal.state
    if state.phase is Phase.FAILED:
        return Failed(message=state.stop_reason)
    return _completed(state)


def _take_up(campaign: Inputs, journal: Journal) -> CampaignState:
    """Begin the campaign, or take it up where it was."""
    changes = record(campaign.run, campaign.settings, campaign.geometries)
    for note in campaign.settings.notes:
        log.warning("%s", note)
    if not journal.begun:
        for tag in campaign.seeds:  # of a campaign that was moved aside
            losses_file(campaign.run, tag).unlink(missing_ok=True)
        _record(journal, Started(rules=campaign.rules))
        return journal.state
    if not campaign.settings.misc.create_restart:
        raise CampaignError(
            f"{campaign.run.output}: MISC.create_restart is False, so the campaign that was begun "
            "here is not taken up; --fresh begins anew"
        )
    require_labels(LabelStore(campaign.run.labels), journal.state.labelled)
    resumed = Resumed(rules=campaign.rules, changes=changes)
    if not journal.state.finished or not apply(journal.state, resumed).finished:
        _record(journal, resumed)
    return journal.state


def _over(state: CampaignState, until: Phase) -> bool:
    """True if what was asked for has been done."""
    beyond = until is Phase.READY and state.published_initial
    return state.phase is until or state.phase is Phase.FINISHED or beyond


def _drive(
    campaign: Inputs,
    journal: Journal,
    client: SyncPrefectClient,
    until: Phase,
    explore: bool,
    stopped: _Stop,
) -> None:
    """The loop: launch what the rules want, and tell them what comes back."""
    with pools(campaign.settings) as workers:
        shell = Shell(
            campaign.run, campaign.settings, workers, client, campaign.seeds, campaign.elements
        )
        dashboard = Dashboard(workers, campaign.settings)
        dashboard.show(journal.state, force=True)
        while not stopped.asked():
            state = journal.state
            if state.phase is Phase.READY and explore:
                state = _record(journal, ExplorationAsked())
            if _over(state, until) or state.phase is Phase.FAILED:
                break
            for action in next_actions(state):
                state = _record(journal, Launched(action=action))
                shell.launch(action, state)
            _tell(campaign, journal, shell.next_event(POLL_S))
            dashboard.show(journal.state)
        _land(campaign, journal, shell)
        dashboard.show(journal.state, force=True)
        if journal.state.finished:
            learning_curve(campaign.run, campaign.run.report)
            dashboard.picture(campaign.run.report, told(journal.state))


def _land(campaign: Inputs, journal: Journal, shell: Shell) -> None:
    """Give what still runs a little time to come back, then give it up."""
    end = time.monotonic() + GRACE_S
    while journal.state.in_flight and (left := end - time.monotonic()) > 0:
        _tell(campaign, journal, shell.next_event(left))
    shell.cancel()


def _tell(campaign: Inputs, journal: Journal, event: Event | None) -> None:
    """Record an event, and do what follows from it outside the campaign's state."""
    if event is None:
        return
    before = journal.state
    after = _record(journal, event)
    append_losses(campaign.run, event)
    tidy(campaign.run, before, after)


def _record(journal: Journal, event: Event) -> CampaignState:
    before = journal.state if journal.begun else None
    after = journal.record(event)
    for line in lines(before, event, after):
        log.info("%s", line, extra={"campaign": after})
    return after


def _completed(state: CampaignState) -> State[Any]:
    return Completed(message=f"{state.phase}: {told(state)}")


class _Stop:
    """Whether somebody wants the run to stop: a signal, or Cancel in the UI."""

    def __init__(self, client: SyncPrefectClient) -> None:
        self.reason = ""
        self._client = client
        self._looked = 0.0
        context = FlowRunContext.get()
        self._flow_run_id: UUID | None = (
            context.flow_run.id if context and context.flow_run else None
        )

    def asked(self) -> bool:
        """Look at the flow run's own state now and then; nobody else tells us of a Cancel."""
        if not self.reason and self._flow_run_id and time.monotonic() - self._looked > POLL_S:
            self._looked = time.monotonic()
            with courtesy("looking for a Cancel"):
                state = self._client.read_flow_run(self._flow_run_id).state
                if state is not None and (state.is_cancelling() or state.is_cancelled()):
                    self.reason = "cancelled in Prefect"
        return bool(self.reason)


@contextlib.contextmanager
def _stop_signals(client: SyncPrefectClient) -> Iterator[_Stop]:
    """Let Ctrl-C and SIGTERM end the loop cleanly; a second Ctrl-C ends the process at once."""
    stop = _Stop(client)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, _: FrameType | None) -> None:
        if stop.reason and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.reason = signal.Signals(number).name
        log.info("%s: stopping, at most %d s", stop.reason, 2 * GRACE_S)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
