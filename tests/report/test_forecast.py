"""What is foretold of a learning curve: as often right as it says, and nothing unknown."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aimspax_core.campaign.events import Event
from aimspax_core.campaign.state import CampaignState
from aimspax_core.report.forecast import Forecast, Learning, forecast_lines, forecasts
from aimspax_core.report.power_law import LEAST, Estimate, fit
from tests.campaign.test_rules import make_rules
from tests.campaign.virtual import VirtualShell, World

LABELS = np.arange(20.0, 80.0, 3.0)


def curve(
    seed: int, exponent: float = 0.6, floor: float = 0.0, noise: float = 0.05, memory: float = 0.0
) -> list[tuple[float, float]]:
    """Errors of rounds with noise, of which some stays from one to the next."""
    rng, off, points = np.random.default_rng(seed), 0.0, []
    for labels in LABELS:
        off = memory * off + math.sqrt(1 - memory**2) * rng.normal() * noise
        points.append((labels, (2 * labels**-exponent + floor) * math.exp(off)))
    return points


@pytest.mark.parametrize(
    "truth",
    [{}, {"memory": 0.5}, {"floor": 0.06}, {"exponent": 0.3}, {"noise": 0.02}],
    ids=str,
)
def test_the_interval_holds_the_truth_about_as_often_as_it_says(truth: dict[str, float]) -> None:
    goal = 2 * 150 ** -truth.get("exponent", 0.6) + truth.get("floor", 0.0)
    fits = [found for seed in range(60) if (found := fit(curve(seed, **truth))) is not None]
    labels = [found.labels(goal) for found in fits]
    errors = [found.error(150) for found in fits]
    assert len(fits) > 45
    # 90 %, less three standard deviations of 60 tosses.
    assert np.mean([one.least <= 150 <= one.most for one in labels]) > 0.78
    assert np.mean([one.least <= goal <= one.most for one in errors]) > 0.78
    if not truth.get("floor"):
        assert np.median([one.value for one in labels]) == pytest.approx(150, rel=0.1)


def test_with_little_noise_the_interval_is_narrow() -> None:
    found = fit(curve(1, noise=0.005))
    assert found is not None
    estimate = found.labels(2 * 150**-0.6)
    assert 130 < estimate.least < estimate.value < estimate.most < 180


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.8])
def test_of_a_flat_curve_nothing_is_said(memory: float) -> None:
    told = [fit(curve(seed, exponent=0.0, noise=0.1, memory=memory)) for seed in range(100)]
    assert sum(found is not None for found in told) <= 5


def test_of_a_rising_curve_nothing_is_said() -> None:
    assert fit(curve(1, exponent=-0.5)) is None


def test_of_few_rounds_nothing_is_said() -> None:
    assert fit(curve(1, noise=0.001)[: LEAST - 1]) is None
    assert fit(curve(1, noise=0.001)[:LEAST]) is not None


def test_a_goal_below_the_floor_is_perhaps_never_reached() -> None:
    found = fit(curve(1, floor=0.1, noise=0.005))
    assert found is not None
    assert found.labels(0.09).most == math.inf


def played(noise: float = 0.0, **changes: object) -> Learning:
    """A campaign in which the error falls with the labels, up to 60 of them."""
    rules = make_rules(**{"max_train_set_size": math.inf, "desired_acc": 0.05, **changes})
    world = World(error_start=0.5, error_decay=0.02, label_core_hours=0.5)
    shell = VirtualShell(rules, world, np.random.default_rng(2))
    learning, before = Learning(), shell.state

    def watch(state: CampaignState, event: Event) -> None:
        nonlocal before
        learning.note(before, event, state, shell.clock)
        before = state

    shell.watch = watch
    shell.run_until(lambda state: state.labels >= 100)
    return learning


def by_what(learning: Learning) -> dict[str, Forecast]:
    return {one.what: one for one in forecasts(learning)}


def test_a_campaign_is_told_when_its_errors_will_be_small_enough() -> None:
    found = by_what(played())["desired_acc"]
    assert found.labels.least > 100
    assert found.seconds is not None and found.seconds.least > 0
    assert found.error == Estimate(0.05, 0.05, 0.05)


def test_a_campaign_is_told_what_its_budget_comes_to() -> None:
    learning = played(limits={"budget_labels": 150})
    found = by_what(learning)["BUDGET.labels"]
    assert found.labels.value == pytest.approx(150, abs=3)
    assert found.error.least <= found.error.value < learning.curve[-1][1]
    assert "BUDGET.labels" in "\n".join(forecast_lines(learning))


def test_of_several_limits_that_is_told_which_comes_first() -> None:
    learning = played(limits={"budget_labels": 500, "budget_core_hours": 60.0})
    assert [w for w in by_what(learning) if w.startswith("BUDGET")] == ["BUDGET.core_hours"]


def test_a_campaign_without_a_goal_or_budget_is_told_nothing() -> None:
    assert forecasts(played(desired_acc=0.0)) == []
