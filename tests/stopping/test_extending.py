"""The rule of docs/extending/stopping-rule.md is one file and one row, and ends a campaign."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.extending import ROOT, Copy, extended

PLAY = """
import json
from pathlib import Path
import numpy as np
from virtual import VirtualShell, World
from aimspax_core.campaign.recorded_rules import Rules
from aimspax_core.campaign.state import CampaignState
from aimspax_core.report.plan import plan
from aimspax_core.report.progress import limits_text, progress
from aimspax_core.settings.derived.reference_page import page
from aimspax_core.settings.load import load
from aimspax_core.settings.geometries.files import read_geometries

settings = load(Path("run"))
rules = Rules.of(settings, ("a", "b"), geometries=1)
exploring = []
def watch(state, event):
    if state.phase == "active":
        exploring.append(state)
shell = VirtualShell(rules, World(label_core_hours=0.01), np.random.default_rng(1), watch)
state = shell.run()
half = next(s for s in exploring if s.core_hours >= 0.245)
print(json.dumps({
    "end": [state.phase, state.stop_rule, state.stop_reason],
    "limit": CampaignState.model_validate_json(state.model_dump_json()).rules.limits,
    "plan": plan(settings, read_geometries(settings.geometry_files), ("a", "b")),
    "status": limits_text(half),
    "fraction": progress(half, 100).fraction,
    "page": [line for line in page().splitlines() if "`max_core_hours`" in line],
}))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    found = extended("stopping-rule.md", tmp_path_factory.mktemp("extended"))
    shutil.copy(ROOT / "tests" / "campaign" / "virtual.py", found.folder)
    (found.folder / "run" / "mace.yaml").write_text("GENERAL: {name_exp: water}\n")
    (found.folder / "run" / "geometry.in").write_text(
        "atom 0 0 0.119 O\natom 0 0.763 -0.477 H\natom 0 -0.763 -0.477 H\n"
    )
    return found


@pytest.fixture(scope="module")
def played(copy: Copy) -> dict[str, object]:
    return json.loads(copy.python(PLAY))


def test_a_rule_is_one_file_and_one_row(copy: Copy) -> None:
    code = [name for name in copy.files if name.endswith(".py")]
    assert (len(code), copy.rows) == (1, 1)


def test_the_new_rule_ends_a_campaign(played: dict[str, object]) -> None:
    assert played["end"] == [
        "finished", "max_core_hours", "max_core_hours: 0.5 core hours of labels"
    ]  # fmt: skip
    assert played["limit"] == {"max_core_hours": 0.5}


def test_the_plan_says_the_new_rule(played: dict[str, object]) -> None:
    (line,) = (line for line in played["plan"] if line.startswith("active learning"))
    assert line.endswith("until labels have cost 0.5 core hours")


def test_the_status_shows_how_near_the_new_limit_is(played: dict[str, object]) -> None:
    assert played["status"] == ["ends when labels have cost 0.5 core hours: 50%"]
    assert played["fraction"] == pytest.approx(0.5)


def test_the_page_of_the_settings_has_the_new_key(played: dict[str, object]) -> None:
    *_, row = played["page"]
    assert row == (
        "| `max_core_hours` | a number above 0, or inf | `.inf` "
        "| Core hours of all labels that end the phase. |"
    )


def test_a_wrong_value_of_the_new_key_is_a_mistake(copy: Copy) -> None:
    wrong = """
from pathlib import Path
from aimspax_core.errors import SettingsError
from aimspax_core.settings.load import load
try:
    load(Path("run"), overrides={"ACTIVE_LEARNING.max_core_hours": -1})
except SettingsError as error:
    print(error)
"""
    told = copy.python(wrong)
    assert "ACTIVE_LEARNING.max_core_hours: found -1; allowed: a number above 0, or inf" in told


def test_the_new_rule_passes_the_conformance_test(copy: Copy) -> None:
    tests = copy.folder / "conformance.py"
    shutil.copy(ROOT / "tests" / "stopping" / "test_conformance.py", tests)
    assert " passed" in copy.python("import pytest, sys; sys.exit(pytest.main(['conformance.py']))")
