"""What a campaign tells Prefect's event feed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prefect import flow
from prefect.events.worker import EventsWorker

from aimspax_core.campaign.actions import Label
from aimspax_core.campaign.events import (
    Event,
    FileDamaged,
    LabelArrived,
    LabelFailed,
    Launched,
    Started,
    TrainingDiverged,
)
from aimspax_core.campaign.state import CampaignState, Phase, TrajectoryStatus
from aimspax_core.errors import StalledError
from aimspax_core.run_directory import RunDir
from flows.page import events
from flows.page.events import CampaignEvents, DirectoryEvents, News, changes, news_of
from flows.runs.previous_attempt import RunAttempt
from flows.server import Server
from tests.campaign.test_modes import exploring
from tests.campaign.test_rules import make_rules
from tests.campaign.virtual import VirtualShell, World
from tests.flows.hosting import ROOT, wait_for
from tests.prefect_api import call


def directory(path: Path) -> RunDir:
    return RunDir(path, path, path, path, path, path)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, str], dict[str, Any]]]:
    """What was handed to Prefect, as if this were a flow run."""
    sent: list[tuple[str, dict[str, str], dict[str, Any]]] = []
    monkeypatch.setattr(events.FlowRunContext, "get", lambda: object())
    monkeypatch.setattr(
        events,
        "emit_event",
        lambda event, resource, payload: sent.append((event, resource, payload)),
    )
    return sent


def test_a_whole_campaign_tells_each_thing_once(tmp_path: Path, sent: list[Any]) -> None:
    told, before = CampaignEvents(directory(tmp_path)), None

    def listen(after: CampaignState, event: Event) -> None:
        nonlocal before
        told.on_event(before, event, after)
        before = after

    shell = VirtualShell(
        make_rules(max_train_set_size=12),
        World(label_fails=0.2),
        np.random.default_rng(3),
        watch=listen,
    )
    shell.run()
    names = [event for event, _, _ in sent]
    assert names.count("aimspax.label.stored") == shell.state.labels
    assert names.count("aimspax.label.failed") == shell.state.failed_labels > 0
    assert names.count("aimspax.campaign.finished") == 1
    assert names[-1] == "aimspax.campaign.finished"
    assert sent[-1][2]["again"] is False


def test_the_resource_is_the_run_directory(tmp_path: Path, sent: list[Any]) -> None:
    here, there = tmp_path / "a" / "water", tmp_path / "b" / "water"
    for path in (here, here, there):
        DirectoryEvents(directory(path)).label_stored("k", 1)
    ids = [resource["prefect.resource.id"] for _, resource, _ in sent]
    assert ids[0].startswith("aimspax.campaign.")
    assert ids[0] == ids[1] != ids[2]
    assert sent[0][1]["prefect.resource.name"] == "water"
    assert sent[0][1]["aimspax.directory"] == str(here)


def test_outside_of_a_flow_run_nothing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "emit_event", lambda *what, **more: pytest.fail("told"))
    DirectoryEvents(directory(tmp_path)).label_stored("k", 1)


def test_a_retired_trajectory_is_told(state: CampaignState) -> None:
    trajectory = state.trajectories[0]
    retired = trajectory.but(status=TrajectoryStatus.FAILED, rollbacks=10)
    after = state.but(trajectories=(retired, *state.trajectories[1:]))
    (news,) = changes(state, after)
    assert (news.event, news.payload["trajectory"]) == ("trajectory.retired", 0)
    assert not changes(after, after.but(labels=1))


def test_accuracy_is_reached_where_errors_ended_the_phase(state: CampaignState) -> None:
    reached = state.but(phase=Phase.DRAIN, stop_rule="desired_acc", stop_reason="it is")
    (news,) = changes(state, reached)
    assert (news.event, news.payload["reason"]) == ("accuracy.reached", "it is")
    limit = state.but(phase=Phase.DRAIN, stop_rule="max_train_set_size", stop_reason="8 points")
    assert not changes(state, limit)


def test_a_campaign_that_cannot_go_on_is_told(state: CampaignState) -> None:
    (news,) = changes(state, state.but(phase=Phase.FAILED, stop_reason="the disk burnt"))
    assert (news.event, news.payload["reason"]) == ("campaign.failed", "the disk burnt")


def test_labels_are_told_with_what_they_cost(state: CampaignState) -> None:
    (news,) = news_of(LabelArrived(key="k", wall_s=3.0, core_hours=0.5), state)
    assert news.event == "label.stored"
    assert news.payload == {"key": "k", "labels": state.labels, "wall_s": 3.0, "core_hours": 0.5}
    (news,) = news_of(LabelFailed(key="k", reason="SCF"), state)
    assert (news.event, news.payload["reason"]) == ("label.failed", "SCF")


def test_training_that_diverged_and_files_that_were_damaged_are_told(state: CampaignState) -> None:
    (news,) = news_of(TrainingDiverged(action_id="t", tag="a-1", reason="NaN"), state)
    assert (news.event, news.payload["member"]) == ("training.diverged", "a-1")
    damaged = FileDamaged(what="checkpoint", which="a-1", name="c", reason="digest")
    (news,) = news_of(damaged, state)
    assert (news.event, news.payload["which"]) == ("file.damaged", "a-1")


def test_a_launch_tells_nothing(state: CampaignState) -> None:
    assert not news_of(Launched(action=Label(key="k")), state)


def test_a_run_that_is_given_up_is_told(tmp_path: Path, sent: list[Any]) -> None:
    with (
        pytest.raises(StalledError),
        DirectoryEvents(directory(tmp_path)).telling_stalls(),
    ):
        raise StalledError("three times")
    assert [event for event, _, _ in sent] == ["aimspax.campaign.stalled"]


@pytest.mark.parametrize(
    ("phase", "number", "told"),
    [
        (Phase.FINISHED, 2, ["aimspax.campaign.finished"]),  # the one before had no API
        (Phase.FINISHED, 1, []),
        (Phase.READY, 2, []),
    ],
)
def test_an_end_is_told_again_by_the_next_attempt_and_called_so(
    tmp_path: Path,
    sent: list[Any],
    state: CampaignState,
    monkeypatch: pytest.MonkeyPatch,
    phase: Phase,
    number: int,
    told: list[str],
) -> None:
    monkeypatch.setattr(events, "this_attempt", lambda: RunAttempt("a", number))
    CampaignEvents(directory(tmp_path)).finished_already(state.but(phase=phase))
    assert [event for event, _, _ in sent] == told
    assert all(payload["again"] for _, _, payload in sent)


def every_news(state: CampaignState) -> list[News]:
    """One of each kind, as campaigns tell it."""
    trajectory = state.trajectories[0].but(status=TrajectoryStatus.FAILED, rollbacks=10)
    others = state.trajectories[1:]
    of_events: list[Event] = [
        Started(rules=state.rules),
        LabelArrived(key="k", wall_s=3.0, core_hours=0.5),
        LabelFailed(key="k", reason="SCF"),
        TrainingDiverged(action_id="t", tag="a-1", reason="NaN"),
        FileDamaged(what="checkpoint", which="a-1", name="c", reason="digest"),
    ]
    ways = [
        state.but(trajectories=(trajectory, *others)),
        state.but(phase=Phase.DRAIN, stop_rule="desired_acc", stop_reason="it is"),
        state.but(phase=Phase.FINISHED),
        state.but(phase=Phase.FAILED, stop_reason="the disk burnt"),
    ]
    news = [one for event in of_events for one in news_of(event, state)]
    return news + [one for after in ways for one in changes(state, after)]


@pytest.mark.slow
def test_every_event_is_in_the_docs_and_taken_by_a_real_server(
    tmp_path: Path, state: CampaignState, prefect_server: Server
) -> None:
    told = every_news(state)
    run = directory(tmp_path / "ethanol")

    @flow
    def telling() -> None:
        campaign = CampaignEvents(run)
        for one in told:
            campaign.tell(one)
        with pytest.raises(StalledError), campaign.telling_stalls():
            raise StalledError("three times")

    telling()
    EventsWorker.drain_all(timeout=60)
    where = {
        "event": {"prefix": ["aimspax."]},
        "resource": {"labels": {"aimspax.directory": str(run.output)}},
    }
    names = {f"aimspax.{one.event}" for one in told} | {"aimspax.campaign.stalled"}
    found: list[Any] = []

    def arrived() -> bool:
        url = f"{prefect_server.api_url}/events/filter"
        found[:] = call("POST", url, {"filter": where, "limit": 50})["events"]
        return len(found) > len(told)

    wait_for(arrived, "all events are there")
    assert {one["event"] for one in found} == names
    page = (ROOT / "docs" / "deployment.md").read_text()
    assert set(re.findall(r"^\| `(aimspax\.[a-z.]+)` \|", page, re.MULTILINE)) == names


@pytest.fixture
def state() -> CampaignState:
    return exploring().state
