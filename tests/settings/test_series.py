"""Temperatures and pressures that follow each other: how they are read, and who takes which."""

from __future__ import annotations

import pytest

from aimspax_core.settings.derived.schema import schema
from aimspax_core.settings.md import MD, Dynamics


@pytest.mark.key("MD", "temperature")
@pytest.mark.parametrize(("text", "entries"), [
    ("500", [500, 500, 500]),
    ("[300, 500]", [300, 500, 300, 500]),
    ("{from: 300, to: 600, steps: 4}", [300, 400, 500, 600, 300]),
    ("{from: 600, to: 300, steps: 2}", [600, 300, 600]),
])  # fmt: skip
def test_trajectory_k_takes_entry_k(inputs, text, entries):
    inputs.plant("aimsPAX.yaml", "MD", "temperature", text)
    settings = inputs.load()
    assert [settings.md(0, k).temperature for k in range(len(entries))] == entries
    assert type(settings.md(0)) is Dynamics


@pytest.mark.key("MD", "pressure")
def test_temperatures_and_pressures_go_on_each_by_itself(inputs):
    inputs.project["MD"] = {
        "stat_ensemble": "NPT", "temperature": "[300, 400]", "pressure": "[0, 1.0e+9, -1e9]",
    }  # fmt: skip
    settings = inputs.load()
    found = [(settings.md(0, k).temperature, settings.md(0, k).pressure) for k in range(6)]
    assert found[:3] == [(300, 0), (400, 1e9), (300, -1e9)]
    assert len(set(found)) == settings.md_section(0).period == 6


def test_each_geometry_may_have_several_of_its_own(inputs):
    inputs.project["MD"] = {
        "0": "{stat_ensemble: NVT, temperature: [300, 400]}",
        "1": "{stat_ensemble: NVT, temperature: {from: 500, to: 700, steps: 3}}",
    }
    inputs.plant("aimsPAX.yaml", "MISC", "path_to_geometry", "{0: geometry.in, 1: geometry.in}")
    settings = inputs.load()
    assert [settings.md(g, 2).temperature for g in (0, 1)] == [300, 700]


def test_a_ramp_ends_exactly_where_it_says():
    for last in (0.1 + 0.2, 1e5 / 3, 299.99):
        md = MD(stat_ensemble="nvt", temperature={"from": 0.7, "to": last, "steps": 97})
        assert (md.temperature[0], md.temperature[-1], len(md.temperature)) == (0.7, last, 97)


@pytest.mark.parametrize(("key", "text", "told"), [
    ("temperature", "[]", "wrong value []"),
    ("temperature", "[300, -1]", "wrong value -1 as item 2"),
    ("temperature", "[300, [400]]", "wrong value [400] as item 2"),
    ("temperature", "[300, .nan]", "wrong value nan as item 2"),
    ("temperature", "True", "wrong value True"),
    ("temperature", "0", "wrong value 0"),
    ("temperature", "warm", "wrong value 'warm'"),
    ("temperature", "null", "wrong value nothing"),
    ("temperature", "{from: 300, to: 400}", "wrong value {from: 300, to: 400}"),
    ("temperature", "{from: 0, to: 400, steps: 3}", "wrong value 0 for from"),
    ("temperature", "{from: 300, to: 400, steps: 1}", "wrong value 1 for steps"),
    ("temperature", "{from: 300, to: 400, steps: 2.0}", "wrong value 2.0 for steps"),
    ("pressure", "[1e5, null]", "wrong value nothing as item 2"),
    ("pressure", "[1e5, .inf]", "wrong value inf as item 2"),
])  # fmt: skip
def test_what_is_no_series_is_told_once(inputs, key, text, told):
    inputs.project["MD"] = {"stat_ensemble": "NPT"}
    assert inputs.mistake("aimsPAX.yaml", "MD", key, text) == f"MD.{key}: {told}"


def test_editors_are_told_of_all_spellings():
    node = schema("aimsPAX.yaml")["$defs"]["MD"]["properties"]
    kinds = {
        key: [way["type"] for way in node[key]["anyOf"]] for key in ("temperature", "pressure")
    }
    assert kinds["temperature"] == ["number", "array", "object"]
    assert kinds["pressure"] == ["number", "array", "object", "null"]


def test_of_one_entry_nothing_is_several():
    assert MD(stat_ensemble="nvt", temperature=[300]).several == {}
    assert MD(stat_ensemble="nvt", pressure=[1e5, 2e5]).several == {}, "it means nothing to NVT"
