"""The cards of a flow run, on a real server: one of each, whatever happens in between."""

from __future__ import annotations

import json
from typing import Any

import pytest
from prefect import flow
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.page.artifacts import Cards, key_of, link_dask
from flows.server import Server
from tests.conftest import free_port
from tests.prefect_api import call


def this_run() -> str:
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    return str(context.flow_run.id)


def cards_of(server: Server, run: str) -> list[dict[str, Any]]:
    """The cards that the page of a flow run shows."""
    mine = {"artifacts": {"flow_run_id": {"any_": [run]}, "type": {"not_any_": ["result"]}}}
    return call("POST", f"{server.api_url}/artifacts/filter", mine)


@pytest.mark.slow
def test_each_card_is_one_card_however_often_it_is_renewed(prefect_server: Server) -> None:
    @flow
    def showing() -> str:
        cards = Cards("Water (2)")
        for count in range(3):
            cards.progress("progress", count / 4, f"{count} labels")
            cards.table("errors", [{"member": "-", "error": count}], "Errors")
            cards.markdown("summary", f"**{count}** labels", f"{count} labels")
            cards.image("curve", bytes([count]), "Learning")
            link_dask(cards, "ml", f"http://127.0.0.1:{count}/status", 1)
        return this_run()

    found = {one["key"]: one for one in cards_of(prefect_server, showing())}
    assert len(cards_of(prefect_server, next(iter(found.values()))["flow_run_id"])) == 5
    assert set(found) == {
        "water-2-progress", "water-2-errors", "water-2-summary", "water-2-curve",
        "water-2-dask-ml",
    }  # fmt: skip
    assert found["water-2-progress"]["data"] == 50.0
    rows = json.loads(found["water-2-errors"]["data"])
    assert rows == [{"member": "–", "error": 2}], "a dash alone would be shown as a list"
    assert found["water-2-curve"]["type"] == "markdown", "an image shows its address besides"
    assert found["water-2-summary"]["description"] == "2 labels"
    assert "1 worker" in found["water-2-dask-ml"]["description"]
    latest = call("GET", f"{prefect_server.api_url}/artifacts/water-2-progress/latest")
    assert latest["data"] == 50.0, "the page of all artifacts shows it, too"


@pytest.mark.slow
def test_a_later_attempt_at_a_run_renews_the_cards_of_the_first(prefect_server: Server) -> None:
    attempts: list[str] = []

    @flow(retries=1)
    def dying() -> None:
        attempts.append(this_run())
        Cards("ethanol").table("errors", [{"attempt": len(attempts)}], "Errors")
        if len(attempts) == 1:
            raise RuntimeError("the first attempt dies")

    dying()
    assert attempts[0] == attempts[1]
    (card,) = cards_of(prefect_server, attempts[0])
    assert card["data"] == '[{"attempt": 2}]'


@pytest.mark.slow
def test_a_card_that_somebody_has_deleted_comes_back(prefect_server: Server) -> None:
    @flow
    def showing() -> str:
        cards = Cards("ethanol")
        cards.progress("progress", 0.0, "none")
        (card,) = cards_of(prefect_server, this_run())
        call("DELETE", f"{prefect_server.api_url}/artifacts/{card['id']}")
        cards.progress("progress", 0.5, "half")
        return this_run()

    (card,) = cards_of(prefect_server, showing())
    assert card["data"] == 50.0


@pytest.mark.slow
def test_cards_are_renewed_when_the_api_is_back(prefect_server: Server) -> None:
    @flow
    def showing() -> str:
        cards = Cards("ethanol")
        cards.progress("progress", 0.25, "a quarter")
        # As the run's client finds it while the server is away.
        from flows.page import artifacts

        nowhere = f"http://127.0.0.1:{free_port()}/api"
        with temporary_settings({PREFECT_API_URL: nowhere}), pytest.MonkeyPatch.context() as patch:
            client = artifacts.get_client(sync_client=True)
            patch.setattr(artifacts, "get_client", lambda sync_client: client)
            cards.progress("progress", 0.5, "half")
        cards.progress("progress", 0.5, "half")
        return this_run()

    (card,) = cards_of(prefect_server, showing())
    assert card["data"] == 50.0


def test_what_has_not_changed_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    cards = Cards("water")
    monkeypatch.setattr(FlowRunContext, "get", classmethod(lambda _: _Context()))
    monkeypatch.setattr(cards, "_send", lambda *what: sent.append(what[-1]))
    for description in ("one", "one", "two", "one"):
        cards.markdown("summary", "text", description)
    assert sent == ["one", "two", "one"]


def test_outside_of_a_flow_run_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = Cards("water")
    monkeypatch.setattr(cards, "_send", lambda *what: pytest.fail("sent"))
    cards.progress("progress", 0.5, "half")


@pytest.mark.parametrize(
    ("name", "key"), [("H2O in Å (2)", "h2o-in-2"), ("aspirin", "aspirin"), ("水", "")]
)
def test_keys_have_small_letters_and_dashes_only(name: str, key: str) -> None:
    assert key_of(name) == key


class _Context:
    class flow_run:
        id = "a run"
