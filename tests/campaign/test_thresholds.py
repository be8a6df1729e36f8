"""Thresholds of several systems: one that all share, or one for each."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from aimspax_core.campaign.events import (
    ExplorationAsked,
    ParametersSet,
    Resumed,
    SegmentFinished,
    Started,
)
from aimspax_core.campaign.recorded_rules import Rules
from aimspax_core.campaign.rules import apply
from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.campaign.thresholds import calibrated_levels, windows
from aimspax_core.report.threshold_text import calibrated_text, frozen_text, threshold_text
from aimspax_core.uncertainty.calibration import FOR_A_CURVE, LEAST, SHARE_OF_LINE
from aimspax_core.uncertainty.threshold import Window
from tests.campaign.test_rules import make_rules
from tests.campaign.virtual import VirtualShell, World

RIGID, FLOPPY = 0, 1
WORLD = World(spreads=(0.02, 0.4))
"""A rigid molecule, of which the committee is sure, and a floppy one."""


def labels(scope: str) -> Counter[int]:
    """How many structures of each geometry active learning labels, out of 60."""
    rules = make_rules(threshold_scope=scope, max_train_set_size=60, desired_acc=0.0)
    shell = VirtualShell(rules, WORLD, np.random.default_rng(1))
    state = shell.run()
    assert state.finished
    return Counter(p.geometry for p in state.points.values() if p.trajectory is not None)


@pytest.mark.key("ActiveLearning", "threshold_scope")
def test_a_floppy_molecule_does_not_starve_a_rigid_one() -> None:
    """A common mean lies above all that the rigid one does, but for the very first checks."""
    shared, own = labels("shared"), labels("geometry")
    assert shared[RIGID] < 0.1 * shared.total()
    assert own[RIGID] > 0.4 * own.total()
    assert own[FLOPPY] > 0.4 * own.total()


def exploring(**changes: object) -> CampaignState:
    rules = make_rules(desired_acc=0.0, threshold_scope="geometry", **changes)
    shell = VirtualShell(rules, WORLD, np.random.default_rng(1))
    while shell.state.phase is not Phase.READY:
        shell.advance()
    return shell.tell(ExplorationAsked())


def seen(state: CampaignState, *pairs: tuple[int, float]) -> CampaignState:
    """Checks of trajectories; trajectory i is of geometry i mod 2."""
    event = SegmentFinished(
        action_id="none",
        results=(),
        uncertainties=tuple(value for _, value in pairs),
        checked=tuple(index for index, _ in pairs),
    )
    return apply(state, event)


def test_each_geometry_sees_the_checks_of_its_own_trajectories() -> None:
    state = seen(exploring(), (0, 1.0), (1, 9.0), (2, 2.0), (0, 3.0))
    assert [window.values for window in state.windows] == [(1.0, 2.0, 3.0), (9.0,)]
    assert state.window.values == (1.0, 9.0, 2.0, 3.0)


def test_each_threshold_freezes_as_soon_as_it_is_there() -> None:
    state = seen(exploring(freeze_threshold_dataset=1), *[(0, 1.0)] * 11, *[(1, 9.0)] * 10)
    assert [window.frozen for window in state.windows] == [1.0, None]
    after = seen(state, (1, 9.0), (0, 5.0))
    assert [window.frozen for window in after.windows] == [1.0, 9.0]
    (line,) = frozen_text(state, after)
    assert "geometry 1" in line
    assert "1.0000 to 9.0000" in threshold_text(after)


def test_a_journal_that_does_not_know_the_scope_has_one_threshold() -> None:
    content = json.loads(make_rules().model_dump_json())
    del content["threshold_scope"]
    state = apply(None, Started(rules=Rules.model_validate(content)))
    assert windows(state) == (Window(),)


def test_the_scope_can_be_changed_between_two_starts() -> None:
    state = seen(exploring(), *[(0, 1.0)] * 12)
    shared = apply(state, Resumed(rules=state.rules.but(threshold_scope="shared")))
    assert windows(shared) == (state.window,), "it has seen everything all the time"
    again = apply(shared, Resumed(rules=state.rules))
    assert windows(again) == (Window(), Window()), "each begins anew"


# ---- calibrated -----------------------------------------------------------------------------


def calibrated(**changes: object) -> tuple[CampaignState, list[CampaignState]]:
    """A campaign in which true errors are 1.5 times the spreads of 0.02 and 0.4 eV/Å."""
    numbers = {
        "threshold": "calibrated", "max_train_set_size": 90, "desired_acc": 0.0,
        "max_md_steps": 400,
    }  # fmt: skip
    states: list[CampaignState] = []
    world = World(spreads=WORLD.spreads, factor=1.5)
    shell = VirtualShell(
        make_rules(**{**numbers, **changes}), world, np.random.default_rng(1),
        lambda state, _: states.append(state),
    )  # fmt: skip
    return shell.run(5_000), states


def found_since(states: list[CampaignState], points: int) -> Counter[int]:
    """Structures of each geometry that asked for a label once so many had told their error."""
    before = next(s for s in states if s.judgement.points >= points)
    new = states[-1].points.keys() - before.points.keys()
    return Counter(states[-1].points[key].geometry for key in new)


@pytest.mark.key("ActiveLearning", "threshold", "force_error")
def test_only_errors_above_the_acceptable_one_ask_for_a_label() -> None:
    state, states = calibrated(force_error=0.3)
    (level,) = calibrated_levels(state)
    assert level == pytest.approx(0.2, rel=0.1)
    new = found_since(states, LEAST)
    assert new[RIGID] == 0
    assert new[FLOPPY] > 20


def test_where_no_error_is_above_it_no_more_labels_are_asked_for() -> None:
    state, states = calibrated(force_error=1.0)
    assert state.finished
    assert "trajectories" in state.stop_reason
    assert found_since(states, LEAST).total() <= 6, "those of segments under way"


def test_until_enough_labels_have_told_their_error_the_threshold_moves() -> None:
    _, states = calibrated(force_error=0.3)
    for state in states:
        if state.judgement.points < LEAST:
            assert windows(state) == (state.window,)
        else:
            assert windows(state)[0].frozen == calibrated_levels(state)[0]


def test_a_geometry_is_calibrated_by_its_own_labels_once_there_are_enough() -> None:
    state, _ = calibrated(force_error=0.3, threshold_scope="geometry")
    assert len(calibrated_levels(state)) == 2
    points = state.judgement.recent
    one = points[0]
    mine = tuple(one.but(geometry=0, spread=0.1, error=0.3) for _ in range(LEAST))
    other = tuple(one.but(geometry=1, spread=0.1, error=0.1) for _ in range(LEAST - 1))
    state = state.but(judgement=state.judgement.but(recent=(*mine, *other)))
    own, common = calibrated_levels(state)
    assert own == pytest.approx(0.1)
    common_factor = (0.3 * LEAST + 0.1 * (LEAST - 1)) / (0.1 * (2 * LEAST - 1))
    assert common == pytest.approx(0.3 / common_factor)


def test_it_can_be_asked_for_and_given_up_on_the_way() -> None:
    _, states = calibrated(force_error=0.3)
    known = next(s for s in states if s.judgement.points >= LEAST)
    moving = apply(known, ParametersSet(rules=known.rules.but(threshold="moving"), values=()))
    assert windows(moving) == (moving.window,)
    assert calibrated_text(known, moving) and calibrated_text(moving, known)
    assert calibrated_text(known, known) == []
    looser = apply(known, ParametersSet(rules=known.rules.but(force_error=0.6), values=()))
    ratio = calibrated_levels(looser)[0] / calibrated_levels(known)[0]
    assert ratio == pytest.approx(2.0)


def test_a_journal_that_does_not_know_of_calibration_has_a_moving_threshold() -> None:
    content = json.loads(make_rules().model_dump_json())
    del content["threshold"], content["force_error"]
    assert Rules.model_validate(content).threshold == "moving"


def test_a_control_is_told_in_place_of_the_threshold() -> None:
    state = seen(exploring(random_share=0.25), *[(0, 1.0)] * 12)
    assert "25%" in threshold_text(state)


def told(states: list[CampaignState]) -> list[str]:
    """Everything that is said of thresholds in a campaign."""
    pairs = list(pairwise(states))
    return [line for pair in pairs for line in (*frozen_text(*pair), *calibrated_text(*pair))]


def test_a_control_has_no_threshold_that_is_calibrated_or_freezes() -> None:
    _, states = calibrated(force_error=0.3, random_share=0.5, freeze_threshold_dataset=40)
    assert any(level is not None for level in calibrated_levels(states[-1]))
    assert states[-1].window.frozen is not None
    assert told(states) == []


def test_what_is_frozen_under_a_calibrated_threshold_is_not_told() -> None:
    state, states = calibrated(force_error=0.3, freeze_threshold_dataset=40)
    assert state.window.frozen is not None
    assert len(told(states)) == 1, "that it is calibrated from here on"
    _, moving = calibrated(threshold="moving", freeze_threshold_dataset=40)
    assert len(told(moving)) == 1, "that it is frozen"


@pytest.mark.parametrize(("share", "same"), [(0.0, True), (SHARE_OF_LINE, False)])
def test_a_campaign_keeps_the_curve_of_calibration_that_it_was_begun_with(
    share: float, same: bool
) -> None:
    """Errors that do not grow with the spread: a curve is level, unless the line is in it."""
    state, _ = calibrated(force_error=0.3, share_of_line=share)
    one = state.judgement.recent[0]
    points = tuple(
        one.but(geometry=0, spread=0.001 * (1 + number), error=0.3) for number in range(FOR_A_CURVE)
    )
    state = state.but(judgement=state.judgement.but(recent=points))
    found = state.calibration()
    assert found is not None
    low, high = found.expected(np.array([0.03, 0.08]))
    assert bool(low == pytest.approx(high, rel=1e-6)) is same
    assert calibrated_levels(state) == (found.spread_of(0.3),)
