"""The page of a campaign in Prefect: what is shown, and when it is shown again."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

import pytest

from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.report.forecast import AGAIN, NOTHING
from aimspax_core.report.geometry_table import geometry_rows
from flows.page import artifacts, campaign_page
from flows.page.artifacts import ProgressArtifact, key_of, link_dask
from flows.page.campaign_page import CampaignPage
from tests.report.test_error_tables import campaign
from tests.report.test_forecast import made
from tests.settings_files import SettingsFiles


@dataclass
class Api:
    """What was sent to Prefect: the function and its arguments.

    Attributes:
        calls: In their order.
        jobs: The Slurm jobs of the reference pool.
    """

    calls: list[tuple[str, Any]] = field(default_factory=list)
    jobs: list[dict[str, str]] = field(default_factory=list)

    def tables(self, ending: str) -> list[Any]:
        """The tables whose key has an ending."""
        found = [sent for name, sent in self.calls if name == "create_table_artifact"]
        return [sent["table"] for sent in found if sent["key"].endswith(ending)]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    """Prefect's API, which notes what it is told."""
    found = Api()

    def noting(name: str) -> Any:
        def call(*arguments: Any, **named: Any) -> uuid.UUID:
            found.calls.append((name, named or arguments))
            return uuid.UUID(int=1)

        return call

    for module in (artifacts, campaign_page):
        for name in vars(module):
            if name.endswith("_artifact"):
                monkeypatch.setattr(module, name, noting(name))
    return found


@pytest.fixture
def page(api: Api, inputs: SettingsFiles) -> CampaignPage:
    return CampaignPage(inputs.load(), lambda: {"reference": api.jobs})


def test_a_page_that_shows_nothing_yet_calls_no_api(api: Api, page: CampaignPage) -> None:
    assert api.calls == []


def test_the_progress_is_one_artifact_that_is_renewed(api: Api) -> None:
    progress = ProgressArtifact("water-progress")
    for fraction in (0.0, 0.25, 0.5):
        progress.show(fraction, "labelling")
    assert [name for name, _ in api.calls] == [
        "create_progress_artifact", "update_progress_artifact", "update_progress_artifact",
    ]  # fmt: skip
    assert api.calls[-1][1][:2] == (uuid.UUID(int=1), 50.0)


def test_the_page_and_the_terminal_show_the_same_errors(api: Api, page: CampaignPage) -> None:
    from aimspax_core.report.error_tables import error_rows

    page.show(campaign(), force=True)
    assert api.tables("-validation-errors") == [error_rows(campaign(), "PerAtomMAE")]


def test_errors_are_shown_again_only_after_training(api: Api, page: CampaignPage) -> None:
    state: CampaignState = campaign()
    page.show(state, force=True)
    page.show(state, force=True)
    assert len(api.tables("-validation-errors")) == 1


def test_several_geometries_are_shown_one_by_one(api: Api, page: CampaignPage) -> None:
    page.show(campaign(), force=True)
    assert api.tables("-geometries") == [], "there is only one"
    state = campaign().but(rules=campaign().rules.but(geometries=2), rounds=1)
    page.show(state, force=True)
    assert api.tables("-geometries") == [geometry_rows(state)]


@pytest.mark.parametrize(("change", "tables"), [({"ends": "1 h"}, 1), ({"state": "PENDING"}, 2)])
def test_jobs_are_shown_again_if_more_than_their_time_has_changed(
    api: Api, page: CampaignPage, change: dict[str, str], tables: int
) -> None:
    for one in ({}, change):
        api.jobs = [{"job": "17", "state": "RUNNING", "ends": "2 h", **one}]
        page.show(campaign(), force=True)
    assert len(api.tables("-slurm-reference")) == tables


def test_a_pool_without_jobs_has_no_table(api: Api, page: CampaignPage) -> None:
    page.show(campaign(), force=True)
    assert api.tables("-slurm-reference") == []


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
    api: Api, page: CampaignPage, change: dict[str, Any]
) -> None:
    learning = made({"budget_labels": 120.0})
    state = learning.state
    assert state is not None
    page.learn(learning)
    page.learn(learning)
    learning.state = state.but(rules=state.rules.but(**change))
    page.learn(learning)
    first, then = api.tables("-forecast")
    assert first[0]["forecast"] == "BUDGET.labels"
    assert then != first
    assert (then == [{"forecast": NOTHING}]) is not bool(change["limits"])


@pytest.mark.usefixtures("at_once")
def test_once_the_campaign_converges_the_forecast_is_of_more_labels_than_it_has(
    api: Api, page: CampaignPage
) -> None:
    learning = made({"budget_labels": 120.0})
    page.learn(learning)
    assert learning.state is not None
    learning.state = learning.state.but(phase=Phase.CONVERGE)
    page.learn(learning)
    ((told,),) = api.tables("-forecast")[1:]
    assert told["forecast"] == AGAIN


@pytest.mark.usefixtures("at_once")
def test_a_forecast_is_shown_anew_as_models_are_assessed(api: Api, page: CampaignPage) -> None:
    learning = made({"budget_labels": 120.0}, held_out=lambda n: 3 * n**-0.4)
    last = learning.held_out.pop()
    page.learn(learning)
    learning.held_out.append(last)
    page.learn(learning)
    assert len(api.tables("-forecast")) == 2


def test_keys_have_small_letters_and_dashes_only() -> None:
    assert key_of("H2O in Å (2)") == "h2o-in-2"


def test_the_link_to_dask_says_how_many_workers_there_are(api: Api) -> None:
    link_dask("water", "ml", "http://127.0.0.1:1/status", 1)
    ((_, sent),) = api.calls
    assert sent["key"] == "water-dask-ml"
    assert "1 worker" in sent["link_text"]
