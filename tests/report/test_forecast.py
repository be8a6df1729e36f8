"""What is foretold of a learning curve: as often right as it says, and nothing unknown."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from aimspax_core.campaign.events import Event, ExplorationAsked
from aimspax_core.campaign.members import Errors
from aimspax_core.campaign.state import CampaignState, Phase
from aimspax_core.report.forecast import (
    AGAIN,
    FARTHEST,
    HELD_OUT,
    IN_VALIDATION,
    Forecast,
    Learning,
    Round,
    ahead,
    forecast_lines,
    forecasts,
)
from aimspax_core.report.power_law import LEAST, Estimate, fit
from tests.campaign.test_rules import make_rules
from tests.campaign.virtual import VirtualShell, World


def curve(
    seed: int,
    exponent: float = 0.6,
    floor: float = 0.0,
    noise: float = 0.05,
    memory: float = 0.0,
    rounds: int = 20,
) -> list[tuple[float, float]]:
    """Errors of rounds with noise, of which some stays from one to the next."""
    rng, off, points = np.random.default_rng(seed), 0.0, []
    for labels in 20.0 + 3.0 * np.arange(rounds):
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


def test_long_campaigns_have_honest_intervals_too() -> None:
    """Much data leaves little room: less than between two points of a fixed grid."""
    goal = 2 * 1000**-0.3
    fits = [fit(curve(seed, exponent=0.3, noise=0.01, rounds=100)) for seed in range(60)]
    labels = [found.labels(goal) for found in fits if found is not None]
    assert len(labels) == 60
    assert np.mean([one.least <= 1000 <= one.most for one in labels]) > 0.8


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


def played(**changes: object) -> Learning:
    """A campaign in which the error falls with the labels, up to 100 of them."""
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


ERRORS = Errors(
    epoch=0, train_loss=1, valid_loss=1, mae_f=1, rmse_f=1, mae_e=1, rmse_e=1, mae_e_per_atom=1,
    rmse_e_per_atom=1, mae_stress=None, rmse_stress=None, lr=0.01, seconds=1.0,
)  # fmt: skip


def made(
    limits: dict[str, float] | None = None,
    desired_acc: float = 0.0,
    unseen: float = 0.0,
    held_out: Callable[[float], float] | None = None,
    convergence_s: float = 0.0,
) -> Learning:
    """A campaign of 20 rounds whose error is 2/√n, without noise; 3 labels, 30 s a round.

    Args:
        limits: Of its budget.
        desired_acc: Its goal (eV/Å).
        unseen: Labels for `analysis` for each that the models see.
        held_out: The error on the held-out set with n labels; none: there is no such set.
        convergence_s: How long it converged after 15 rounds, until a budget was raised.
    """
    rules = make_rules(desired_acc=desired_acc, limits=limits or {}, assessed=held_out is not None)
    state = CampaignState.begin(rules).but(phase=Phase.ACTIVE, training=("a",))
    rng, found = np.random.default_rng(3), Learning(state=state)
    for index in range(20):
        seen, late = 20 + 3 * index, convergence_s * (index >= 15)
        labels = round(seen * (1 + unseen))
        found.rounds.append(
            Round(seen, labels, 0.5 * labels, 30.0 * index + late, exploring=30.0 * index)
        )
        noise = math.exp(0.005 * rng.normal())
        found.validation.append((seen, 2 * seen**-0.5 * noise))
        if held_out is not None:
            found.held_out.append((seen, held_out(seen) * noise))
    last = found.rounds[-1]
    found.state = state.but(labels=last.labels, core_hours=last.core_hours)
    return found


def by_what(learning: Learning) -> dict[str, Forecast]:
    return {one.what.split(" ")[0]: one for one in forecasts(learning)}


def test_a_campaign_is_told_when_its_errors_will_be_small_enough() -> None:
    found = by_what(played())["desired_acc"]
    assert found.labels.least > 80
    assert found.seconds is not None and found.seconds.least > 0
    assert found.errors[IN_VALIDATION] == Estimate(0.05, 0.05, 0.05)


def test_a_campaign_is_told_what_its_budget_comes_to() -> None:
    learning = played(limits={"budget_labels": 150})
    found = by_what(learning)["BUDGET.labels"]
    assert found.labels.value == pytest.approx(150, abs=3)
    error = found.errors[IN_VALIDATION]
    assert error.least <= error.value < learning.validation[-1][1]
    assert "BUDGET.labels" in "\n".join(forecast_lines(learning))


@pytest.mark.parametrize(
    "limits", [{"budget_labels": 300.0}, {"budget_core_hours": 150.0}], ids=str
)
def test_labels_for_analysis_use_the_budget_but_teach_nothing(limits: dict[str, float]) -> None:
    (found,) = forecasts(made(limits, unseen=0.5))
    assert found.labels.value == pytest.approx(200, abs=3)
    assert found.errors[IN_VALIDATION].value == pytest.approx(2 * 200**-0.5, rel=0.03)


def test_the_goal_is_judged_in_validation_and_the_held_out_error_told_beside_it() -> None:
    found = by_what(made(desired_acc=2 * 150**-0.5, held_out=lambda n: 3 * n**-0.4))["desired_acc"]
    assert found.labels.value == pytest.approx(150, rel=0.1)
    assert found.errors[HELD_OUT].value == pytest.approx(3 * 150**-0.4, rel=0.05)
    assert list(found.errors) == [IN_VALIDATION, HELD_OUT]


def test_no_fewer_labels_are_told_than_there_are() -> None:
    learning = made(desired_acc=2 * 73**-0.5)
    learning.validation[-1] = (77, 2 * 72.5**-0.5)  # the last round alone is not below the goal
    found = by_what(learning)["desired_acc"]
    assert (found.labels.least, found.labels.value) == (77, 77)
    assert "any round now" in found.text()
    sure = Forecast("desired_acc", Estimate(77, 77, 77), found.errors, Estimate(0, 0, 0), 77)
    assert "any round now" in sure.text() and "pace" not in sure.text()
    assert sure.row()["takes, at the pace of late"] == ""


def test_converging_until_a_budget_was_raised_is_no_pace_of_exploring() -> None:
    limits = {"budget_labels": 107.0}
    (quick,), (slow,) = forecasts(made(limits)), forecasts(made(limits, convergence_s=1e5))
    assert quick.seconds == slow.seconds
    assert quick.seconds is not None and quick.seconds.value == pytest.approx(300)
    learning = made({"budget_hours": 30.0}, convergence_s=1e5)
    (found,) = forecasts(learning)
    assert found.labels.value == pytest.approx(77 + (30 * 3600 - 1e5 - 570) / 10)


def test_converging_is_not_counted_as_exploring() -> None:
    learning, state = Learning(), CampaignState.begin(make_rules())
    for phase, time in ((Phase.ACTIVE, 0), (Phase.CONVERGE, 10), (Phase.ACTIVE, 1010)):
        now = state.but(phase=phase, training=("a",))
        learning.note(learning.state, ExplorationAsked(), now, time)
    members = {tag: m.but(errors=ERRORS) for tag, m in now.members.items()}
    learning.note(now, ExplorationAsked(), now.but(members=members, rounds=1), 1015)
    (found,) = learning.rounds
    assert (found.seconds, found.exploring) == (1015, 15)


def test_no_more_labels_are_seen_than_the_budget_has() -> None:
    """Rounds of late have learnt what had waited: more labels were seen than came."""
    (found,) = forecasts(made({"budget_labels": 100.0}, unseen=-0.2))
    assert found.labels.value == 77 + 100 - round(0.8 * 77)


@pytest.mark.parametrize("phase", [Phase.CONVERGE, Phase.PUBLISH, Phase.FINISHED])
def test_once_exploring_is_over_it_is_told_what_as_many_labels_again_would_bring(
    phase: Phase,
) -> None:
    learning = made({"budget_labels": 77.0}, desired_acc=2 * 100**-0.5)
    assert learning.state is not None
    learning.state = learning.state.but(phase=phase)
    goal, again = forecasts(learning)
    assert again.what == AGAIN and again.labels.value == 2 * 77
    assert again.errors[IN_VALIDATION].value == pytest.approx(2 * 154**-0.5, rel=0.03)
    assert goal.labels.value == pytest.approx(100, rel=0.05)


def test_what_is_drawn_goes_from_the_last_round_to_the_farthest_forecast() -> None:
    learning = made({"budget_labels": 120.0}, held_out=lambda n: 3 * n**-0.4)
    validation, held_out = ahead(learning)
    assert (validation.on, held_out.on) == (IN_VALIDATION, HELD_OUT)
    for one in (validation, held_out):
        assert (one.labels[0], one.labels[-1]) == pytest.approx((77, 120))
        assert list(one.labels) == sorted(one.labels)
        assert all(e.least <= e.value <= e.most for e in one.errors)
    assert held_out.errors[-1].value == pytest.approx(3 * 120**-0.4, rel=0.05)
    assert ahead(made())[0].labels[-1] == pytest.approx(1.5 * 77), "nothing ends it"
    assert ahead(made({"budget_labels": 5000.0}))[0].labels[-1] == pytest.approx(FARTHEST * 77)


def test_of_several_limits_that_is_told_which_comes_first() -> None:
    learning = played(limits={"budget_labels": 500, "budget_core_hours": 60.0})
    assert [w for w in by_what(learning) if w.startswith("BUDGET")] == ["BUDGET.core_hours"]


def test_a_campaign_without_a_goal_or_budget_is_told_nothing() -> None:
    assert forecasts(played(desired_acc=0.0)) == []
