"""The page of a campaign in Prefect: what is shown, and when it is shown again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.report.forecast import AGAIN, NOTHING
from aimspax_core.report.geometry_table import geometry_rows
from flows.page import campaign_page
from flows.page.campaign_page import CampaignPage
from tests.report.test_error_tables import campaign
from tests.report.test_forecast import made
from tests.settings_files import SettingsFiles


@dataclass
class Shown:
    """What the page was told to show: the sort of card, its key, and what it shows.

    Attributes:
        calls: In their order.
        jobs: The Slurm jobs of the reference pool.
    """

    calls: list[tuple[str, str, Any]] = field(default_factory=list)
    jobs: list[dict[str, str]] = field(default_factory=list)

    def tables(self, key: str) -> list[Any]:
        """The tables with a key, in their order."""
        return [what for kind, of, what in self.calls if (kind, of) == ("table", key)]

    def named(self, _: str) -> Shown:
        """The cards of a run; they are all noted here."""
        return self

    def __getattr__(self, kind: str) -> Any:
        return lambda key, what, *more: self.calls.append((kind, key, what))


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """The cards of the run, which note what they show."""
    found = Shown()
    monkeypatch.setattr(campaign_page, "Cards", found.named)
    return found


@pytest.fixture
def page(shown: Shown, inputs: SettingsFiles) -> CampaignPage:
    return CampaignPage(inputs.load(), lambda: {"reference": shown.jobs})


def test_a_page_that_shows_nothing_yet_calls_no_api(shown: Shown, page: CampaignPage) -> None:
    assert shown.calls == []


def test_the_page_and_the_terminal_show_the_same_errors(shown: Shown, page: CampaignPage) -> None:
    from aimspax_core.report.error_tables import error_rows

    page.show(campaign(), force=True)
    assert shown.tables("validation-errors") == [error_rows(campaign(), "PerAtomMAE")]


def test_errors_are_shown_again_only_after_training(shown: Shown, page: CampaignPage) -> None:
    state: CampaignState = campaign()
    page.show(state, force=True)
    page.show(state, force=True)
    assert len(shown.tables("validation-errors")) == 1


def test_members_without_data_have_no_table(shown: Shown, page: CampaignPage) -> None:
    page.show(CampaignState.begin(campaign().rules), force=True)
    assert shown.tables("validation-errors") == []
    page.show(campaign(), force=True)
    assert len(shown.tables("validation-errors")) == 1


def test_several_geometries_are_shown_one_by_one(shown: Shown, page: CampaignPage) -> None:
    page.show(campaign(), force=True)
    assert shown.tables("geometries") == [], "there is only one"
    state = campaign().but(rules=campaign().rules.but(geometries=2), rounds=1)
    page.show(state, force=True)
    assert shown.tables("geometries") == [geometry_rows(state)]


@pytest.mark.parametrize(
    ("change", "tables"), [({"time limit at": "1 h"}, 1), ({"state": "PENDING"}, 2)]
)
def test_jobs_are_shown_again_if_more_than_their_time_has_changed(
    shown: Shown, page: CampaignPage, change: dict[str, str], tables: int
) -> None:
    for one in ({}, change):
        shown.jobs = [{"job": "17", "state": "RUNNING", "time limit at": "2 h", **one}]
        page.show(campaign(), force=True)
    assert len(shown.tables("slurm-reference")) == tables


@pytest.mark.usefixtures("at_once")
def test_no_job_is_shown_as_running_once_the_workers_have_gone(
    shown: Shown, page: CampaignPage
) -> None:
    shown.jobs = [{"job": "17", "state": "running", "why": ""}]
    page.show(campaign(), force=True)
    shown.jobs = [{"job": "17", "state": "given back", "why": "the run has ended"}]
    page.show_last_jobs()
    assert [rows[0]["why"] for rows in shown.tables("slurm-reference")] == [
        "", "the run has ended"
    ]  # fmt: skip


def test_a_pool_without_jobs_has_no_table(shown: Shown, page: CampaignPage) -> None:
    page.show(campaign(), force=True)
    assert shown.tables("slurm-reference") == []


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are renewed whenever they have changed."""
    monkeypatch.setattr(campaign_page, "TABLE_S", -1.0)
    monkeypatch.setattr(campaign_page, "tell", lambda call: call())


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    "change", [{"limits": {"budget_labels": 200.0}}, {"desired_acc": 0.0, "limits": {}}], ids=str
)
def test_a_forecast_is_shown_anew_with_other_limits_though_no_round_ended(
    shown: Shown, page: CampaignPage, change: dict[str, Any]
) -> None:
    learning = made({"budget_labels": 120.0})
    state = learning.state
    assert state is not None
    page.learn(learning)
    page.learn(learning)
    learning.state = state.but(rules=state.rules.but(**change))
    page.learn(learning)
    first, then = shown.tables("forecast")
    assert first[0]["forecast"] == "BUDGET.labels"
    assert then != first
    assert (then == [{"forecast": NOTHING}]) is not bool(change["limits"])


@pytest.mark.usefixtures("at_once")
def test_before_anything_can_be_foretold_there_is_no_forecast(
    shown: Shown, page: CampaignPage
) -> None:
    learning = made({"budget_labels": 120.0})
    learning.rounds.clear()
    page.learn(learning)
    assert shown.tables("forecast") == []


@pytest.mark.usefixtures("at_once")
def test_once_the_campaign_converges_the_forecast_is_of_more_labels_than_it_has(
    shown: Shown, page: CampaignPage
) -> None:
    learning = made({"budget_labels": 120.0})
    page.learn(learning)
    assert learning.state is not None
    learning.state = learning.state.but(phase=Phase.CONVERGE)
    page.learn(learning)
    ((told,),) = shown.tables("forecast")[1:]
    assert told["forecast"] == AGAIN


@pytest.mark.usefixtures("at_once")
def test_a_forecast_is_shown_anew_as_models_are_assessed(shown: Shown, page: CampaignPage) -> None:
    learning = made({"budget_labels": 120.0}, held_out=lambda n: 3 * n**-0.4)
    last = learning.held_out.pop()
    page.learn(learning)
    learning.held_out.append(last)
    page.learn(learning)
    assert len(shown.tables("forecast")) == 2
