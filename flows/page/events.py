"""Events of our own in Prefect's event feed, which automations can take: mail, webhooks, runs.

Each is about a run directory: its resource is `aimspax.campaign.` and a digest of the path, with
the directory's name, and the path as `aimspax.directory`. Prefect adds the flow run, its deployment
and its tags as related resources. To tell one costs the loop a tenth of a millisecond: a thread of
Prefect's sends them, and keeps them while the API does not answer.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from prefect.context import FlowRunContext
from prefect.events import emit_event

from aimspax_core.campaign.events import (
    Event,
    FileDamaged,
    LabelArrived,
    LabelFailed,
    Started,
    TrainingDiverged,
)
from aimspax_core.campaign.state import CampaignState, Phase, TrajectoryStatus
from aimspax_core.errors import StalledError
from aimspax_core.report.progress import progress_text
from aimspax_core.run_directory import RunDir
from aimspax_core.stopping.table import RULES
from flows.runs.listeners import listening
from flows.runs.previous_attempt import this_attempt


@dataclass(frozen=True)
class News:
    """One thing that is told: the event's name, without `aimspax.`, and its payload."""

    event: str
    payload: dict[str, Any] = field(default_factory=dict)


def news_of(event: Event, after: CampaignState) -> list[News]:
    """Return what an event of the journal itself has to tell."""
    match event:
        case LabelArrived():
            return [_label_stored(event.key, after.labels, event.wall_s, event.core_hours)]
        case LabelFailed():
            return [_label_failed(event.key, event.reason, event.failure.value)]
        case TrainingDiverged():
            return [News("training.diverged", {"member": event.tag, "reason": event.reason})]
        case FileDamaged():
            which = {"what": event.what, "which": event.which, "reason": event.reason}
            return [News("file.damaged", which)]
        case Started():
            return [News("campaign.started")]
        case _:
            return []


def changes(before: CampaignState, after: CampaignState) -> list[News]:
    """Return what has to be told of the way from one state of a campaign to a later one."""
    were = {one.index: one.status for one in before.trajectories}
    news = [
        News("trajectory.retired", {"trajectory": one.index, "rollbacks": one.rollbacks})
        for one in after.trajectories
        if one.status is TrajectoryStatus.FAILED is not were.get(one.index)
    ]
    if before.phase is after.phase:
        return news
    ended_by = next((rule for rule in RULES if rule.name == after.stop_rule), None)
    if ended_by and ended_by.judges_errors and after.stop_reason != before.stop_reason:
        mae = after.mean_force_mae
        news.append(News("accuracy.reached", {"reason": after.stop_reason, "force_mae": mae}))
    if after.phase is Phase.FAILED:
        news.append(News("campaign.failed", {"reason": after.stop_reason}))
    elif after.phase is Phase.FINISHED:
        news.append(_finished(after))
    return news


class DirectoryEvents:
    """Tells what happens in one run directory; outside of a flow run it tells nothing.

    Args:
        run: The run directory.
    """

    def __init__(self, run: RunDir) -> None:
        path = str(run.output)
        digest = hashlib.sha256(path.encode()).hexdigest()[:16]
        self._resource = {
            "prefect.resource.id": f"aimspax.campaign.{digest}",
            "prefect.resource.name": run.output.name,
            "aimspax.directory": path,
        }

    def tell(self, news: News) -> None:
        """Hand one event over to the thread that sends it."""
        if FlowRunContext.get() is not None:
            emit_event(f"aimspax.{news.event}", dict(self._resource), payload=news.payload)

    def label_stored(self, key: str, labels: int) -> None:
        """Tell of a label that is in the store, the so many-th of this work."""
        self.tell(_label_stored(key, labels))

    def label_failed(self, key: str, reason: str) -> None:
        """Tell of a structure that gets no label."""
        self.tell(_label_failed(key, reason))

    @contextlib.contextmanager
    def telling_stalls(self) -> Iterator[None]:
        """Tell if the block finds that the work was started again in vain too often."""
        try:
            yield
        except StalledError as error:
            self.tell(News("campaign.stalled", {"reason": str(error)}))
            raise


class CampaignEvents(DirectoryEvents):
    """The listener that tells what happens to a campaign."""

    def __init__(self, run: RunDir) -> None:
        super().__init__(run)
        self._seen: CampaignState | None = None

    def on_event(self, before: CampaignState | None, event: Event, after: CampaignState) -> None:
        """Tell of an event; events that come together have the same states before and after."""
        news = news_of(event, after)
        if self._seen is not after:
            if before is not None:
                news += changes(before, after)
            self._seen = after
        for one in news:
            self.tell(one)

    def finished_already(self, state: CampaignState) -> None:
        """Tell of the end again if an earlier attempt at this run reached it.

        Most often that one had no API, and told nobody; or it died after it had told, or somebody
        used Retry. Nobody here knows which, so that the payload says `again`. A run that finds a
        campaign finished at its first attempt has nothing to tell.
        """
        attempt = this_attempt()
        if attempt is not None and attempt.number > 1 and state.phase is Phase.FINISHED:
            self.tell(_finished(state, again=True))


@contextlib.contextmanager
def campaign_events(run: RunDir) -> Iterator[CampaignEvents]:
    """Tell what happens to the campaign of this process while the block runs."""
    events = CampaignEvents(run)
    with listening(events.on_event):
        yield events


def _finished(state: CampaignState, again: bool = False) -> News:
    reached = {"reason": state.stop_reason, "reached": progress_text(state), "again": again}
    return News("campaign.finished", reached)


def _label_stored(key: str, labels: int, wall_s: float = 0.0, core_hours: float = 0.0) -> News:
    return News(
        "label.stored", {"key": key, "labels": labels, "wall_s": wall_s, "core_hours": core_hours}
    )


def _label_failed(key: str, reason: str, failure: str = "other") -> News:
    return News("label.failed", {"key": key, "reason": reason, "failure": failure})
