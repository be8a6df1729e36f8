"""The page of a campaign, as Prefect's pages of both versions show it in a browser."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from prefect import flow
from prefect.context import FlowRunContext

from aimspax_core.inputs.campaign_inputs import Inputs
from flows.page.campaign_page import CampaignPage
from flows.server import Server
from tests.browser import chromium, shown
from tests.flows.commands.test_run import FINISHED
from tests.prefect_api import call
from tests.report.document.test_report import source

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@flow
def showing() -> str:
    """Show a finished campaign."""
    inputs, found = Inputs.read(FINISHED), source("finished")
    page = CampaignPage(inputs.settings, dict)
    page.link("ml", "http://127.0.0.1:8787/status", 2)
    page.show(found.state, force=True)
    page.draw(inputs, found.story, found.state, last=True)
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    return str(context.flow_run.id)


@pytest.fixture(scope="module")
def run(prefect_server: Server) -> str:
    chromium()
    return showing()


@pytest.fixture(scope="module")
def cards(prefect_server: Server, run: str) -> dict[str, dict[str, Any]]:
    """The cards of the run, by key."""
    mine = {"artifacts": {"flow_run_id": {"any_": [run]}, "type": {"not_any_": ["result"]}}}
    found = call("POST", f"{prefect_server.api_url}/artifacts/filter", mine)
    return {one["key"]: one for one in found}


def text_of(page: str) -> str:
    """What one can read on a page."""
    scripts = re.compile(r"<(script|style)\b.*?</\1>", re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", scripts.sub("", page))).split())


def test_the_page_of_the_run_shows_each_card_once(
    prefect_server: Server, run: str, cards: dict[str, dict[str, Any]]
) -> None:
    text = text_of(
        shown(f"{prefect_server.url}/v2/runs/flow-run/{run}?tab=Artifacts", "finished-progress")
    )
    assert {"finished-campaign", "finished-progress", "finished-costs"} <= set(cards)
    assert {key: text.count(f" {key} ") for key in cards} == dict.fromkeys(cards, 1)


@pytest.mark.parametrize("version", ["/v2", ""])
def test_the_card_of_the_campaign_is_shown_with_its_picture(
    prefect_server: Server, cards: dict[str, dict[str, Any]], version: str
) -> None:
    card = cards["finished-campaign"]["id"]
    page = shown(f"{prefect_server.url}{version}/artifacts/artifact/{card}", "in validation")
    text = text_of(page)
    for said in ("in validation", "labels", "Learning curve", "Members", "all campaigns"):
        assert said in text
    assert re.search(r'<img[^>]+src="data:image/png;base64,', page)
