"""Choices that the rules would not have made are found by the independent reader."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from aimspax_core.verification.findings import Kind
from aimspax_core.verification.ledger import Ledger
from tests.campaign.test_rules import make_rules
from tests.campaign.virtual import VirtualShell
from tests.verification.test_ledger import CHOSEN, CROWDED

Events = list[dict[str, Any]]


@pytest.fixture(scope="module")
def campaign() -> Events:
    """The events of a campaign that chooses its candidates, within a budget, with restarts."""
    rules = make_rules(**CHOSEN)
    events: Events = [{"kind": "started", "rules": json.loads(rules.model_dump_json())}]
    shell = VirtualShell(
        rules, CROWDED, np.random.default_rng(5),
        lambda _, event: events.append(json.loads(event.model_dump_json())),
    )  # fmt: skip
    assert shell.run().finished
    return events


def complaints(events: Events) -> list[tuple[Kind, str]]:
    """What the reader says of them, up to the first event that it has something to say of."""
    found: list[tuple[Kind, str]] = []
    ledger = Ledger(complain=lambda kind, what: found.append((kind, what)))
    for event in events:
        ledger.take(event)
        if found:
            break
    return found


def refusals(events: Events, why: str) -> Iterator[dict[str, Any]]:
    for event in events:
        for one in event.get("refusals", ()):
            if one["why"] == why:
                yield one


def test_nothing_is_said_of_what_the_rules_have_chosen(campaign: Events) -> None:
    assert complaints(campaign) == []


def test_a_label_that_is_launched_though_another_one_is_worth_more(campaign: Events) -> None:
    """The least of those that wait takes the place of the first that was chosen among others."""
    events = copy.deepcopy(campaign)
    ledger = Ledger()
    for event in events:
        action = event.get("action", {})
        chosen = ledger.candidates.get(action.get("key", ""))
        if event["kind"] == "launched" and chosen is not None:
            others = {
                key: one.spread
                for key, one in ledger.candidates.items()
                if not one.begun and one.geometry == chosen.geometry and one.spread < chosen.spread
            }
            if others:
                action["key"] = min(others, key=lambda key: others[key])
                break
        ledger.take(event)
    told = [*events[: events.index(event) + 1], {"kind": "unpaused"}]
    ((kind, _), *_) = complaints(told)
    assert kind is Kind.CHOICE


def test_more_labels_than_there_are_slots(campaign: Events) -> None:
    events = copy.deepcopy(campaign)
    events[0]["rules"]["label_slots"] = 1
    ((kind, _), *_) = complaints(events)
    assert kind is Kind.CHOICE


@pytest.mark.parametrize(("why", "told"), [("near", "renewed"), ("renewed", "near")])
def test_a_refusal_for_another_reason(campaign: Events, why: str, told: str) -> None:
    events = copy.deepcopy(campaign)
    next(refusals(events, why))["why"] = told
    ((kind, _), *_) = complaints(events)
    assert kind is Kind.CHOICE


def test_a_refusal_of_what_is_far_from_all_others(campaign: Events) -> None:
    events = copy.deepcopy(campaign)
    key = next(refusals(events, "near"))["key"]
    for event in events:
        for result in event.get("results", ()):
            if result["key"] == key:
                result |= {"distance": 9.0, "sketch": [99.0, 99.0]}
    ((kind, what), *_) = complaints(events)
    assert kind is Kind.CHOICE and key[:8] in what


def test_refusals_where_none_are_chosen_among(campaign: Events) -> None:
    events = copy.deepcopy(campaign)
    events[0]["rules"]["candidates"] = "first"
    ((kind, _), *_) = complaints(events)
    assert kind is Kind.CHOICE


@pytest.mark.parametrize("origin", [None, "another"])
def test_a_sampling_step_that_begins_anew_from_another_label(
    campaign: Events, origin: str | None
) -> None:
    events = copy.deepcopy(campaign)
    begun = next(e["action"] for e in events if e.get("action", {}).get("origin"))
    begun["origin"] = origin
    ((kind, _), *_) = complaints(events)
    assert kind is Kind.CHOICE
