"""Thresholds of several systems: one that all share, or one for each."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from aimspax_core.campaign.events import ExplorationAsked, Resumed, SegmentFinished, Started
from aimspax_core.campaign.rules import apply
from aimspax_core.campaign.state import CampaignState, Phase, Rules
from aimspax_core.campaign.thresholds import windows
from aimspax_core.report.threshold_text import frozen_text, threshold_text
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
