"""What the cards of a campaign's page say, from its story, and how large their pictures are."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk, molecule

from aimspax_core.campaign.actions import Label
from aimspax_core.campaign.state import CampaignState, PointStatus
from aimspax_core.report.calibration_figure import calibration_drawing
from aimspax_core.report.compared import Compared
from aimspax_core.report.document.costs import PoolWork, by_pool
from aimspax_core.report.document.source import Source
from aimspax_core.report.document.story import Work
from aimspax_core.report.failed_labels import rows
from aimspax_core.report.figures import learning_figure
from aimspax_core.report.markdown import table
from aimspax_core.report.page_texts import (
    campaign_card,
    costs_card,
    label_rows,
    trajectories_card,
    without_label_card,
)
from aimspax_core.report.parity import parity_figure
from aimspax_core.report.pictures import png, structure_picture
from aimspax_core.report.trajectory_figure import trajectory_figure
from aimspax_core.report.use_figure import use_figure
from tests.report.document.test_report import source

PNG = b"\x89PNG"
LARGEST = 100_000


@pytest.fixture(scope="module")
def finished() -> Source:
    return source("finished")


def failing(state: CampaignState, reason: str) -> CampaignState:
    """The state, of which the last point has no label."""
    key, point = list(state.points.items())[-1]
    failed = point.but(status=PointStatus.FAILED, reason=reason)
    return state.but(points={**state.points, key: failed}, failed_labels=1)


def test_the_first_card_begins_with_phase_and_errors_and_has_the_curve(finished: Source) -> None:
    text, sentence = campaign_card(finished, PNG, {"report": "`report.html`"})
    assert text.index("| phase |") < text.index("in validation") < text.index("| labels |")
    assert text.index("data:image/png;base64,") < text.index("## Members")
    assert all(tag in text for tag in finished.state.members)
    assert text.endswith("- report: `report.html`")
    assert sentence.startswith("**finished**; force MAE ")


def test_a_campaign_that_has_only_begun_has_its_cards(finished: Source) -> None:
    begun = CampaignState.begin(finished.state.rules)
    young = replace(finished, state=begun, story=type(finished.story)())
    text, sentence = campaign_card(young, None, {})
    assert "0 done" in text
    assert "data:image" not in text
    assert "workers are starting" in text
    assert not [empty for empty in ("training 0", "Members", "0 rounds", "nan") if empty in text]
    assert sentence.startswith("**initial dataset**")
    assert costs_card(young, [], None)[1].startswith("0 core-seconds for 0 labels")


def test_what_is_done_comes_after_the_phase_with_jobs_and_what_is_next(finished: Source) -> None:
    label = Label(key="k")
    begun = CampaignState.begin(finished.state.rules).but(in_flight={label.id: label})
    young = replace(finished, state=begun, story=type(finished.story)())
    text, _ = campaign_card(young, None, {}, jobs={"reference": "1 pending (Priority)"})
    rows = [line.split(" | ")[0].strip("| ") for line in text.splitlines() if " | " in line]
    assert rows[rows.index("phase") :][:4] == ["phase", "now", "reference jobs", "next"]
    assert "| now | 1 label |" in text
    assert "| now |" not in campaign_card(finished, None, {})[0], "it is over"


def test_each_stopping_rule_is_told_while_it_may_end_the_phase() -> None:
    text, _ = campaign_card(source("interrupted"), None, {})
    assert len(re.findall(r"\| \d+% \|", text)) > 0


def test_trajectories_have_a_row_each(finished: Source) -> None:
    text, _ = trajectories_card(finished, None)
    assert text.count("\n| ") >= len(finished.state.trajectories)


def test_all_computed_labels_are_counted_with_what_they_took(finished: Source) -> None:
    told = label_rows(finished)
    took = [one for one in finished.story.asked.values() if one.wall_s is not None]
    assert sum(int(str(row["computed"])) + int(str(row["from the store"])) for row in told) == len(
        took
    )


def test_points_without_a_label_come_with_reason_and_picture(finished: Source) -> None:
    state = failing(finished.state, "SCF [1] | did not <converge>")
    point = list(state.points.values())[-1]
    text, sentence = without_label_card(state, [(point, PNG)], rows(state))
    assert sentence.startswith("1 points have no label")
    assert r"SCF \[1] \| did not &lt;converge>" in text
    assert "data:image/png;base64," in text


def test_what_programs_say_does_not_break_a_table() -> None:
    text = table([{"reason": "a|b\nc", "n": 1}])
    assert text.splitlines()[2] == r"| a\|b c | 1 |"
    assert table([]) == ""


def test_pictures_stay_small_however_long_a_campaign_is(finished: Source) -> None:
    rng = np.random.default_rng(1)
    checks = [(n % 40, 5 * n, float(u), 0.2) for n, u in enumerate(rng.lognormal(-2, 0.5, 8000))]
    kinds = ("MD", "training", "labels")
    work = [Work(kinds[n % 3], 30.0 * n, 25.0) for n in range(3000)]  # type: ignore[arg-type]
    pools = [PoolWork(name, 4, done) for name, done in by_pool(finished.settings, work).items()]
    forces = rng.normal(size=(50, 300, 3))
    compared = [
        Compared(("C",) * 150 + ("H",) * 150, f, f + rng.normal(0, 0.1, f.shape), 0.0, 0.1)
        for f in forces
    ]
    for figure in (
        trajectory_figure(checks, "eV/Å"), use_figure(pools, 90_000.0), parity_figure(compared),
        learning_figure(finished.story.curves),
    ):  # fmt: skip
        assert figure is not None
        assert len(png(figure)) < LARGEST


def test_of_nothing_nothing_is_drawn(finished: Source) -> None:
    assert trajectory_figure([(0, 5, float("nan"), None)], "eV/Å") is None
    assert use_figure([PoolWork("ml", 2, [])], 100.0) is None
    assert parity_figure([]) is None
    assert calibration_drawing(type(finished.story.judgements)()) is None


@pytest.mark.parametrize("structure", [molecule("CH3CH2OH"), bulk("Si", cubic=True)])
def test_a_structure_has_a_small_picture(structure: object) -> None:
    drawn = structure_picture(structure)  # type: ignore[arg-type]
    assert drawn is not None
    assert drawn.startswith(PNG)
    assert len(drawn) < LARGEST // 3


def test_structures_that_cannot_be_drawn_have_no_picture() -> None:
    broken, large = molecule("H2O"), bulk("Si").repeat(8)
    broken.positions[0] = np.nan
    assert structure_picture(broken) is None
    assert structure_picture(large) is None
