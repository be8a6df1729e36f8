"""Segments: where trajectories halt, what they share, and that cutting changes nothing."""

import itertools
import math

import numpy as np
import pytest
from ase.build import molecule

from aimspax_core.errors import StructureError
from aimspax_core.model.committee import Prediction
from aimspax_core.sampling.dynamics import random_stream, start
from aimspax_core.sampling.segment import Outcome, SegmentSettings, Start, run_segment
from aimspax_core.settings.project import MD
from aimspax_core.uncertainty import Window, measure

MD_SETTINGS = MD(stat_ensemble="nvt", temperature=500.0, timestep=1.0, friction=0.01)
REFERENCE = molecule("H2O").positions
STIFFNESS = np.array([4.0, 5.0, 6.0])
NEVER = 1e9
"""A margin under which nothing crosses."""


def springs(structures):
    """Hold each atom in its place, a member a stiffness: the farther away, the less sure."""
    predictions = []
    for atoms in structures:
        away = atoms.positions - REFERENCE
        forces = -STIFFNESS[:, None, None] * away
        energies = 0.5 * STIFFNESS * (away**2).sum()
        predictions.append(Prediction(energies.mean(), forces.mean(axis=0), energies, forces))
    return predictions


def any_structure(atoms):
    """Refuse nothing."""


def settings(**changes):
    values = {
        "skip_step": 5, "c_x": NEVER, "uncertainty_type": "max_atomic_sd", "max_steps": math.inf,
        "uncertain_limit": math.inf, "max_force": 100.0, "time_budget_s": 0.0,
    }  # fmt: skip
    return SegmentSettings(**(values | changes))


def starts(n, seed=0):
    return [
        Start(t, start(molecule("H2O"), MD_SETTINGS, random_stream(seed, t)), 0) for t in range(n)
    ]


def run(begin, window=None, evaluate=springs, check_structure=any_structure, clock=None, **changes):
    return run_segment(
        begin, MD_SETTINGS, settings(**changes), window or Window(), evaluate, check_structure,
        clock or itertools.count().__next__,
    )  # fmt: skip


def go_on(results):
    """Start again where each trajectory halted, whatever the reason."""
    return [Start(r.trajectory, r.state, r.since_crossing) for r in results]


def assert_same_state(a, b):
    assert np.array_equal(a.structure.positions, b.structure.positions)
    assert np.array_equal(a.structure.get_momenta(), b.structure.get_momenta())
    assert (a.step, a.rng, a.extras) == (b.step, b.rng, b.extras)


def test_checks_fall_on_multiples_of_skip_step():
    (result,) = run(starts(1), max_steps=23, time_budget_s=math.inf).results
    assert [c.step for c in result.checks] == [5, 10, 15, 20, 25]
    assert (result.outcome, result.steps, result.state.step) == (Outcome.FINISHED, 25, 25)


def test_uncertainty_is_that_of_the_state_checked():
    (result,) = run(starts(1)).results
    (prediction,) = springs([result.state.structure])
    expected = measure(prediction.member_forces, "max_atomic_sd")
    assert result.checks[-1].uncertainty == expected


def test_a_step_costs_one_evaluation():
    stats = run(starts(3), max_steps=50, time_budget_s=math.inf).stats
    assert (stats.evaluations, stats.mean_batch_size) == (51, 3.0)


def test_each_trajectory_makes_one_check_without_any_time():
    results = run(starts(3), time_budget_s=0.0).results
    assert [(r.outcome, r.steps, len(r.checks)) for r in results] == [(Outcome.RUNNING, 5, 1)] * 3


def test_time_budget_ends_all_trajectories_in_step():
    """A clock that ticks once a look: it is looked at once a round, not once a trajectory."""
    results = run(starts(3), time_budget_s=12).results
    assert {(r.outcome, r.steps) for r in results} == {(Outcome.RUNNING, 15)}


def test_results_are_in_trajectory_order():
    result = run(list(reversed(starts(3))))
    assert [r.trajectory for r in result.results] == [0, 1, 2]
    assert [c.trajectory for c in result.checks] == [0, 1, 2]


def test_trajectories_share_one_window_in_the_order_of_their_checks():
    result = run(starts(4), c_x=NEVER, max_steps=20, time_budget_s=math.inf)
    order = [(c.step, c.trajectory) for c in result.checks]
    assert order == sorted(order)
    window = Window()
    for made in result.checks:
        window = window.add(made.uncertainty)
        assert made.threshold == window.threshold(NEVER)
    assert result.checks[10].threshold is not None
    assert result.checks[9].threshold is None


def test_crossing_halts_one_trajectory_and_the_others_go_on():
    window = Window().extend([0.2] * 11)
    result = run(starts(4), window=window, c_x=0.0, max_steps=300, time_budget_s=math.inf)
    crossed = [r for r in result.results if r.outcome is Outcome.CROSSED]
    assert len({r.steps for r in crossed}) > 1
    for r in crossed:
        assert (r.reason, r.since_crossing) == ("uncertainty", 0)
        assert r.checks[-1].uncertainty > r.checks[-1].threshold
        assert all(c.uncertainty <= c.threshold for c in r.checks[:-1])


def test_uncertain_limit_counts_steps():
    (result,) = run(starts(1), uncertain_limit=12, time_budget_s=math.inf).results
    assert (result.outcome, result.reason, result.steps) == (Outcome.CROSSED, "limit", 15)
    assert result.since_crossing == 0


def test_uncertain_limit_counts_across_segments():
    begin, total = starts(1), 0
    while True:
        (result,) = run(begin, uncertain_limit=12).results
        total += result.steps
        if result.outcome is Outcome.CROSSED:
            break
        assert result.since_crossing == total
        begin = go_on([result])
    assert total == 15


def test_a_finished_trajectory_is_not_moved():
    (begin,) = go_on(run(starts(1)).results)
    result = run([begin], max_steps=5)
    assert result.results[0].outcome is Outcome.FINISHED
    assert result.results[0].steps == 0
    assert_same_state(result.results[0].state, begin.state)
    assert result.stats.evaluations == 0


@pytest.mark.parametrize(("force", "steps"), [(np.nan, 6), (np.inf, 6), (101.0, 7)])
def test_exploding_trajectory_is_apart_from_the_others(force, steps):
    """Trajectory 1 breaks in the forces of its seventh step: too large, or none to step with."""
    calls = itertools.count()

    def breaking(structures):
        predictions = springs(structures)
        if next(calls) == 7:
            predictions[1].forces[0, 0] = force
        return predictions

    end = {"max_steps": 20, "time_budget_s": math.inf}
    alone = run([s for s in starts(3) if s.trajectory != 1], **end)
    result = run(starts(3), evaluate=breaking, **end)
    bad = result.results[1]
    assert (bad.outcome, bad.state, bad.steps) == (Outcome.EXPLODED, None, steps)
    assert bad.reason
    assert [c.step for c in bad.checks] == [5]
    for a, b in zip(alone.results, (result.results[0], result.results[2]), strict=True):
        assert a.outcome is b.outcome is Outcome.FINISHED
        assert_same_state(a.state, b.state)


def test_nan_trajectory_does_not_enter_the_window():
    begin = starts(2)
    begin[0].state.structure.positions[0] = np.nan
    result = run(begin, max_steps=20, time_budget_s=math.inf)
    assert result.results[0].outcome is Outcome.EXPLODED
    assert {c.trajectory for c in result.checks} == {1}
    assert all(math.isfinite(c.uncertainty) for c in result.checks)


def test_member_forces_that_are_not_finite_are_an_explosion():
    def half_broken(structures):
        predictions = springs(structures)
        predictions[0].member_forces[0, 0, 0] = np.nan
        return predictions

    result = run(starts(1), evaluate=half_broken)
    assert result.results[0].outcome is Outcome.EXPLODED
    assert result.checks == ()


def test_refused_structure_is_an_explosion_and_does_not_enter_the_window():
    def refuse(atoms):
        assert not atoms.constraints
        raise StructureError("atoms 1 and 2 are 0.1 Å apart")

    result = run(starts(1), check_structure=refuse)
    (only,) = result.results
    assert (only.outcome, only.reason) == (Outcome.EXPLODED, "atoms 1 and 2 are 0.1 Å apart")
    assert result.checks == ()


def test_a_programming_mistake_is_raised():
    with pytest.raises(ValueError, match="max_sd"):
        run(starts(1), uncertainty_type="max_sd")


@pytest.mark.parametrize("budget", [1.0, 7.0, 23.0])
@pytest.mark.parametrize("c_x", [NEVER, 0.3])
def test_segments_equal_an_unbroken_run(budget, c_x):
    """Cut by time, trajectories make the same checks and end in the same states, bit for bit."""
    end = {"max_steps": 60, "c_x": c_x}
    unbroken = run(starts(3), time_budget_s=math.inf, **end)
    begin, window, checks, halted = starts(3), Window(), [], {}
    while begin:
        result = run(begin, window=window, time_budget_s=budget, **end)
        window = window.extend(c.uncertainty for c in result.checks)
        checks += result.checks
        halted |= {r.trajectory: r for r in result.results if r.outcome is not Outcome.RUNNING}
        begin = go_on(r for r in result.results if r.outcome is Outcome.RUNNING)
    assert tuple(checks) == unbroken.checks
    assert {r.outcome for r in unbroken.results} >= (
        {Outcome.FINISHED} if c_x == NEVER else {Outcome.CROSSED}
    )
    for expected in unbroken.results:
        assert halted[expected.trajectory].outcome is expected.outcome
        assert_same_state(halted[expected.trajectory].state, expected.state)


@pytest.mark.parametrize("skips", [(1, 7, 3, 12), (4, 4, 5), (11, 6)])
def test_cutting_at_odd_places_changes_no_trajectory(skips):
    """Other `skip_step`s cut elsewhere; a trajectory that starts between checks joins in."""
    begin = starts(2)
    for skip in skips:
        begin = go_on(run(begin, skip_step=skip).results)
    steps = begin[0].state.step
    unbroken = run(starts(2), skip_step=steps).results
    for cut, whole in zip(begin, unbroken, strict=True):
        assert_same_state(cut.state, whole.state)


def test_trajectories_out_of_step_each_check_at_their_own_multiples():
    ahead, behind = starts(2)
    (ahead,) = go_on(run([ahead], skip_step=3).results)
    result = run([ahead, behind], max_steps=10, time_budget_s=math.inf)
    assert [(c.trajectory, c.step) for c in result.checks] == [(0, 5), (1, 5), (0, 10), (1, 10)]
    assert [r.steps for r in result.results] == [7, 10]
