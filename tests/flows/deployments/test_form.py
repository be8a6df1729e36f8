"""The form for a flow's parameters, as `aimspax deploy` gives it to the web page."""

from __future__ import annotations

import json

from flows.deployments.form import form
from flows.pipeline import aims_pax
from flows.recalculate import recalculate


def test_what_may_be_left_out_has_a_box_of_its_own_kind() -> None:
    found = form(recalculate)["properties"]
    kinds = {name: found[name]["type"] for name in ("output", "end", "overrides", "save_interval")}
    assert kinds == {
        "output": "string",
        "end": "integer",
        "overrides": "object",
        "save_interval": "integer",
    }
    assert "null" not in json.dumps(found)


def test_only_what_has_to_be_given_is_required() -> None:
    assert form(aims_pax)["required"] == ["directory"]
    assert form(recalculate)["required"] == ["directory", "file"]


def test_what_it_says_is_plain_text() -> None:
    said = form(aims_pax)["properties"]["overrides"]["description"]
    assert '{"ACTIVE_LEARNING.desired_acc": 0.05}' in said
    assert "`" not in said
