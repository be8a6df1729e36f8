"""Segments: where trajectories halt, what they share, and that cutting changes nothing."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from aimspax_core.errors import StructureError
from aimspax_core.prediction import Prediction
from aimspax_core.sampling.dynamics import random_stream, start
from aimspax_core.sampling.segment import SegmentSettings, Start, run_segment
from aimspax_core.sampling.segment_outcomes import Outcome
from aimspax_core.settings.md import MD
from aimspax_core.uncertainty.measures import measure_of
from aimspax_core.uncertainty.threshold import Window

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
        Start(t, start(molecule("H2O"), MD_SETTINGS, random_stream(seed, t)), MD_SETTINGS)
        for t in range(n)
    ]


def run(
    begin, window=None, evaluate=springs, check_structure=any_structure, judge=None, windows=None,
    **changes,
):  # fmt: skip
    return run_segment(
        begin, settings(**changes), windows or [window or Window()], evaluate,
        check_structure, judge, itertools.count().__next__,
    )  # fmt: skip


def go_on(results, mds=None):
    """Start again where each trajectory halted, whatever the reason."""
    mds = mds or {}
    return [
        Start(r.trajectory, r.state, mds.get(r.trajectory, MD_SETTINGS), r.since_crossing)
        for r in results
    ]


def assert_same_state(a, b):
    assert np.array_equal(a.structure.positions, b.structure.positions)
    assert np.array_equal(a.structure.get_momenta(), b.structure.get_momenta())
    assert (a.step, a.rng, a.extras) == (b.step, b.rng, b.extras)


def test_checks_fall_on_multiples_of_skip_step_and_the_end_on_max_steps():
    (result,) = run(starts(1), max_steps=23, time_budget_s=math.inf).results
    assert [c.step for c in result.checks] == [5, 10, 15, 20]
    assert (result.outcome, result.steps, result.state.step) == (Outcome.FINISHED, 23, 23)


def test_uncertainty_is_that_of_the_state_checked():
    (result,) = run(starts(1)).results
    (prediction,) = springs([result.state.structure])
    expected = measure_of("max_atomic_sd").function(prediction, result.state.structure)
    assert result.checks[-1].uncertainty == expected


def test_a_step_costs_one_evaluation():
    stats = run(starts(3), max_steps=50, time_budget_s=math.inf).stats
    assert (stats.evaluations, stats.structures) == (51, 3 * 51)


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


# --- each trajectory with its own dynamics


def crystal(seed):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=seed)
    return atoms


MIXED = {
    0: (MD_SETTINGS, molecule("H2O")),
    1: (MD(stat_ensemble="npt", temperature=300.0, timestep=2.0, taup=100.0), crystal(1)),
    2: (MD(stat_ensemble="npt", barostat="npt", temperature=300.0, timestep=2.0), crystal(2)),
    3: (MD(stat_ensemble="npt", barostat="mtk", temperature=300.0, timestep=2.0), crystal(3)),
    4: (MD(stat_ensemble="npt", barostat="isomtk", temperature=300.0, timestep=2.0), crystal(4)),
    5: (MD(stat_ensemble="nve", temperature=300.0, timestep=1.0), molecule("H2O")),
}
MIXED_MD = {index: md for index, (md, _) in MIXED.items()}


def effective_medium(structures):
    """Evaluate each structure with EMT, a member a factor; stress where there is a volume."""
    predictions = []
    for given in structures:
        atoms = Atoms(given.numbers, given.positions, cell=given.cell, pbc=given.pbc)
        atoms.calc = EMT()
        factors = np.array([0.95, 1.0, 1.05])
        energies = factors * atoms.get_potential_energy()
        forces = factors[:, None, None] * atoms.get_forces()
        stress = atoms.get_stress(voigt=False) if atoms.pbc.all() else None
        predictions.append(
            Prediction(float(energies.mean()), forces.mean(axis=0), energies, forces, stress)
        )
    return predictions


def mixed_starts():
    return [
        Start(index, start(atoms, md, random_stream(md.MD_seed, index)), md)
        for index, (md, atoms) in MIXED.items()
    ]


@pytest.mark.parametrize("skips", [(1, 7, 3, 12), (4, 4, 5), (11, 1, 1, 6)])
def test_a_batch_of_all_ensembles_cut_at_odd_places_equals_an_unbroken_run(skips):
    begin = mixed_starts()
    for skip in skips:
        begin = go_on(run(begin, evaluate=effective_medium, skip_step=skip).results, MIXED_MD)
    steps = begin[0].state.step
    unbroken = run(mixed_starts(), evaluate=effective_medium, skip_step=steps).results
    for cut, whole in zip(begin, unbroken, strict=True):
        assert_same_state(cut.state, whole.state)
    for index in (1, 2, 3, 4):
        assert not np.allclose(begin[index].state.structure.cell, MIXED[index][1].cell, atol=1e-6)


def test_every_trajectory_makes_its_own_dynamics():
    """Alone, each does what it does in the batch."""
    batch = run(mixed_starts(), evaluate=effective_medium, skip_step=9).results
    for begin, together in zip(mixed_starts(), batch, strict=True):
        (alone,) = run([begin], evaluate=effective_medium, skip_step=9).results
        assert_same_state(alone.state, together.state)


def test_the_prediction_is_that_of_the_structure_in_every_ensemble():
    results = run(mixed_starts(), evaluate=effective_medium, skip_step=6, look_every=2).results
    for result in results:
        assert [look.step for look in result.looks] == [2, 4, 6]
        for look in result.looks:
            (again,) = effective_medium([look.structure])
            np.testing.assert_array_equal(look.prediction.forces, again.forces)


@pytest.mark.parametrize("pressure", [-3.0, 3.0])
def test_a_cell_that_explodes_or_collapses_ends_its_trajectory_unseen(pressure):
    """Under a stress that nothing can hold against; no evaluation sees the monstrous cell."""
    volumes = []

    def driven(structures):
        volumes.extend(atoms.cell.volume for atoms in structures if atoms.pbc.all())
        return [
            replace(p, stress=None if p.stress is None else pressure * np.eye(3))
            for p in nothing(structures)
        ]

    md = MD(stat_ensemble="npt", temperature=300.0, timestep=2.0, taup=20.0)
    md = md.model_copy(update={"compressibility_au": 5.0})
    atoms = crystal(1)
    begin = [Start(0, start(atoms, md, random_stream(1)), md), mixed_starts()[5]]
    bad, good = run(begin, evaluate=driven, max_steps=400, time_budget_s=math.inf).results
    assert (bad.outcome, bad.state, good.outcome) == (Outcome.EXPLODED, None, Outcome.FINISHED)
    assert "exploded or collapsed" in bad.reason
    assert atoms.cell.volume / 8 <= min(volumes) <= max(volumes) <= atoms.cell.volume * 8


@pytest.mark.parametrize("budget", [1.0, 12.0])
@pytest.mark.parametrize("pressure", [-0.1, 0.1])
@pytest.mark.parametrize("barostat", ["berendsen", "mtk"])
def test_a_cell_explodes_at_the_same_step_wherever_its_life_is_cut(barostat, pressure, budget):
    def driven(structures):
        return [replace(p, stress=pressure * np.eye(3)) for p in nothing(structures)]

    md = MD(stat_ensemble="npt", barostat=barostat, temperature=300.0, timestep=2.0, taup=50.0)
    md = md.model_copy(update={"compressibility_au": 2.0})
    atoms = crystal(1)
    begin = Start(0, start(atoms, md, random_stream(1)), md, volume=atoms.cell.volume)
    (whole,) = run([begin], evaluate=driven, max_steps=500, time_budget_s=math.inf).results
    assert (whole.outcome, whole.steps > 20) == (Outcome.EXPLODED, True)
    steps = 0
    while True:
        cut = run([begin], evaluate=driven, max_steps=500, time_budget_s=budget).results[0]
        steps += cut.steps
        if cut.outcome is not Outcome.RUNNING:
            break
        begin = replace(begin, state=cut.state)
    assert (cut.outcome, steps, cut.reason) == (whole.outcome, whole.steps, whole.reason)


def nothing(structures):
    """Forces of zero for anything."""
    return [
        Prediction(0.0, np.zeros((n, 3)), np.zeros(2), np.zeros((2, n, 3)), np.zeros((3, 3)))
        if atoms.pbc.all()
        else Prediction(0.0, np.zeros((n, 3)), np.zeros(2), np.zeros((2, n, 3)))
        for atoms in structures
        for n in [len(atoms)]
    ]


# --- looks and snapshots


def test_looks_and_snapshots_fall_on_exact_steps_of_a_trajectorys_life():
    (ahead,) = go_on(run(starts(1), skip_step=3).results)
    (result,) = run([ahead], max_steps=20, time_budget_s=math.inf, look_every=4,
                    snapshot_every=7).results  # fmt: skip
    assert [look.step for look in result.looks] == [4, 8, 12, 16, 20]
    assert [snapshot.step for snapshot in result.snapshots] == [7, 14]


def test_looks_and_snapshots_change_nothing_for_trajectories_checks_and_window():
    plain = run(starts(3), max_steps=40, c_x=0.3, time_budget_s=math.inf)
    looked = run(
        starts(3), max_steps=40, c_x=0.3, time_budget_s=math.inf, look_every=3, snapshot_every=2
    )
    assert looked.checks == plain.checks
    assert looked.stats.evaluations == plain.stats.evaluations
    for a, b in zip(plain.results, looked.results, strict=True):
        assert (a.outcome, a.reason) == (b.outcome, b.reason)
        assert_same_state(a.state, b.state)


def test_a_look_has_the_structure_its_prediction_and_the_threshold_in_force():
    window = Window().extend([0.5] * 20)
    (result,) = run(starts(1), window=window, look_every=2).results
    for look in result.looks:
        (expected,) = springs([look.structure])
        np.testing.assert_array_equal(look.prediction.member_forces, expected.member_forces)
        assert look.threshold == window.threshold(NEVER)
        assert not look.structure.has("momenta")
    (early,) = run(starts(1), look_every=5).results
    assert early.looks[0].threshold is None


def test_where_check_and_look_fall_together_the_threshold_is_decided_first():
    window = Window().extend([1e-6] * 20)
    (result,) = run(starts(1), window=window, c_x=0.0, look_every=5).results
    assert result.outcome is Outcome.CROSSED
    (look,) = result.looks
    assert look.threshold == result.checks[-1].threshold
    np.testing.assert_array_equal(look.structure.positions, result.state.structure.positions)


def test_what_the_gate_refuses_between_checks_is_not_looked_at_and_goes_on():
    seen = []

    def refuse_every_third(atoms):
        seen.append(atoms)
        if len(seen) % 3 == 1:
            raise StructureError("too close")

    (result,) = run(starts(1), check_structure=refuse_every_third, look_every=2).results
    assert (result.outcome, result.steps) == (Outcome.RUNNING, 5)
    assert [look.step for look in result.looks] == [4]


def test_snapshots_have_velocities_forces_and_the_uncertainty_of_a_check():
    (result,) = run(starts(1), max_steps=10, time_budget_s=math.inf, snapshot_every=1).results
    assert [f.uncertainty for f in result.snapshots if f.uncertainty is not None] == [
        check.uncertainty for check in result.checks
    ]
    last = result.snapshots[-1]
    assert last.uncertainty is not None
    np.testing.assert_array_equal(last.atoms.get_momenta(), result.state.structure.get_momenta())
    (expected,) = springs([last.atoms])
    np.testing.assert_array_equal(last.forces, expected.forces)
    np.testing.assert_array_equal(last.member_forces, expected.member_forces)
    assert last.energy == expected.energy


def test_snapshots_of_a_way_that_exploded_are_kept():
    (result,) = run(starts(1), max_force=1e-9, snapshot_every=1).results
    assert (result.outcome, result.snapshots) == (Outcome.EXPLODED, ())
    calls = itertools.count()

    def breaking(structures):
        predictions = springs(structures)
        if next(calls) == 4:
            predictions[0].forces[0, 0] = 1e4
        return predictions

    (result,) = run(starts(1), evaluate=breaking, snapshot_every=1).results
    assert (result.outcome, [f.step for f in result.snapshots]) == (Outcome.EXPLODED, [1, 2, 3])


@pytest.mark.parametrize("budget", [1.0, 7.0, 23.0])
def test_segments_make_the_looks_and_snapshots_of_an_unbroken_run(budget):
    every = {"max_steps": 60, "look_every": 7, "snapshot_every": 3}
    unbroken = run(starts(2), time_budget_s=math.inf, **every).results
    begin, looks, snapshots = starts(2), {0: [], 1: []}, {0: [], 1: []}
    while begin:
        results = run(begin, time_budget_s=budget, **every).results
        for r in results:
            looks[r.trajectory] += r.looks
            snapshots[r.trajectory] += r.snapshots
        begin = go_on(r for r in results if r.outcome is Outcome.RUNNING)
    for whole in unbroken:
        for cut, expected in (
            (looks[whole.trajectory], whole.looks), (snapshots[whole.trajectory], whole.snapshots)
        ):  # fmt: skip
            assert [x.step for x in cut] == [x.step for x in expected]
        for cut, expected in zip(snapshots[whole.trajectory], whole.snapshots, strict=True):
            np.testing.assert_array_equal(cut.atoms.positions, expected.atoms.positions)


# --- a foundation model drives, the committee judges


def soft(structures):
    """A driver of one member, softer than the committee."""
    return [
        Prediction(0.0, -3.0 * (a.positions - REFERENCE), np.zeros(1), np.zeros((1, len(a), 3)))
        for a in structures
    ]


def test_the_driver_drives_and_the_committee_judges():
    (driven,) = run(starts(1), evaluate=soft, judge=springs, snapshot_every=5).results
    (alone,) = run(starts(1), evaluate=soft).results
    assert_same_state(driven.state, alone.state)
    (expected,) = springs([driven.state.structure])
    uncertainty = measure_of("max_atomic_sd").function(expected, driven.state.structure)
    assert driven.checks[-1].uncertainty == uncertainty
    np.testing.assert_array_equal(driven.snapshots[-1].forces, expected.forces)


def test_the_committee_is_asked_only_where_it_is_needed_and_for_all_at_once():
    asked = []

    def judge(structures):
        asked.append(len(structures))
        return springs(structures)

    end = {"max_steps": 20, "time_budget_s": math.inf, "look_every": 10, "snapshot_every": 7}
    result = run(starts(3), evaluate=soft, judge=judge, **end)
    assert asked == [3] * 6  # steps 5, 7, 10, 14, 15, 20
    assert (result.stats.evaluations, result.stats.structures) == (27, 81)


def unsure_at(*rounds):
    """Judge like `springs`, but in some rounds with a member force that is not finite."""
    calls = itertools.count(1)

    def judge(structures):
        predictions = springs(structures)
        if next(calls) in rounds:
            predictions[0].member_forces[0, 0, 0] = np.nan
        return predictions

    return judge


def test_a_judgement_that_is_not_finite_drops_looks_and_snapshots_but_not_the_trajectory():
    every = {"max_steps": 10, "time_budget_s": math.inf, "look_every": 2, "snapshot_every": 3}
    (plain,) = run(starts(1), evaluate=soft, judge=springs, **every).results
    judge = unsure_at(1, 2)  # steps 2, 3, 4, 5, 6, 8, 9, 10
    (result,) = run(starts(1), evaluate=soft, judge=judge, **every).results
    assert (result.outcome, result.checks) == (Outcome.FINISHED, plain.checks)
    assert_same_state(result.state, plain.state)
    assert [look.step for look in result.looks] == [4, 6, 8, 10]
    assert [snapshot.step for snapshot in result.snapshots] == [6, 9]


def test_a_look_at_the_end_that_is_not_finite_ends_a_trajectory_as_any_other_does():
    every = {"max_steps": 8, "time_budget_s": math.inf, "look_every": 4}
    (result,) = run(starts(1), evaluate=soft, judge=unsure_at(3), **every).results
    assert (result.outcome, result.steps) == (Outcome.FINISHED, 8)
    assert [look.step for look in result.looks] == [4]


def test_a_judgement_that_is_not_finite_is_an_explosion_at_a_check():
    every = {"max_steps": 10, "time_budget_s": math.inf, "look_every": 5}
    (result,) = run(starts(1), evaluate=soft, judge=unsure_at(1), **every).results
    assert (result.outcome, result.steps, result.looks) == (Outcome.EXPLODED, 5, ())


@pytest.mark.parametrize("budget", [1.0, 7.0, 23.0])
def test_segments_under_a_driver_equal_an_unbroken_run(budget):
    end = {"max_steps": 60, "c_x": 0.3, "evaluate": soft, "judge": springs}
    unbroken = run(starts(3), time_budget_s=math.inf, **end)
    begin, window, checks, halted = starts(3), Window(), [], {}
    while begin:
        result = run(begin, window=window, time_budget_s=budget, **end)
        window = window.extend(c.uncertainty for c in result.checks)
        checks += result.checks
        halted |= {r.trajectory: r for r in result.results if r.outcome is not Outcome.RUNNING}
        begin = go_on(r for r in result.results if r.outcome is Outcome.RUNNING)
    assert tuple(checks) == unbroken.checks
    for expected in unbroken.results:
        assert_same_state(halted[expected.trajectory].state, expected.state)


@pytest.mark.parametrize("stress", [1e3, 1e100, -1e300, 1e308])
@pytest.mark.parametrize("index", [1, 2, 3, 4])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_barostat_that_overflows_is_an_explosion_of_its_trajectory_alone(index, stress):
    def absurd(structures):
        predictions = effective_medium(structures)
        return [p if p.stress is None else replace(p, stress=stress * SKEW) for p in predictions]

    begin = mixed_starts()
    bad, good = run(
        [begin[index], begin[5]], evaluate=absurd, max_steps=20, time_budget_s=math.inf,
        max_force=1e9,
    ).results  # fmt: skip
    assert (bad.outcome, good.outcome) == (Outcome.EXPLODED, Outcome.FINISHED)
    assert bad.reason


SKEW = np.array([[1.0, 0.2, 0.1], [0.2, 1.1, 0.3], [0.1, 0.3, 0.9]])


def test_a_trajectory_whose_steps_are_bounded_halts_at_its_next_check_and_others_go_on():
    bounded, other = starts(2)
    bounded = replace(bounded, most=7)
    results = run([bounded, other], max_steps=50, time_budget_s=math.inf).results
    assert [(r.outcome, r.steps) for r in results] == [
        (Outcome.RUNNING, 10),
        (Outcome.FINISHED, 50),
    ]


def test_each_trajectory_is_held_against_its_own_window():
    low, high = Window().extend([1e-9] * 400), Window().extend([1e9] * 400)
    begin = [replace(one, window=number) for number, one in enumerate(starts(2))]
    found = run(begin, windows=[high, low], c_x=0.0)
    assert [r.outcome for r in found.results] == [Outcome.RUNNING, Outcome.CROSSED]
    assert [c.threshold > 1e6 for c in found.checks] == [True, False]


def fates(share, chances, cut=False, window=None):
    """The checks of a trajectory until it halts for good, in one segment or cut at every check."""
    window = window or Window().extend([1e-9] * 400)
    begin = [replace(starts(1)[0], chance=chances)]
    made, budget = [], 0.0 if cut else math.inf
    for _ in range(9):
        found = run(
            begin, window=window, c_x=0.0, random_share=share, time_budget_s=budget, max_steps=45
        )
        (result,) = found.results
        made += result.checks
        if result.outcome is not Outcome.RUNNING:
            return [check.step for check in made], result.outcome, result.reason
        begin = [replace(one, chance=chances) for one in go_on(found.results)]
    raise AssertionError("it never halted")


@pytest.mark.key("ActiveLearning", "selection", "random_share")
def test_chance_takes_structures_in_place_of_the_uncertainty_wherever_a_life_is_cut():
    """All checks are above the threshold; the random number of step 15 is the first below 0.5."""
    chances = {5: 0.9, 10: 0.6, 15: 0.4, 20: 0.1}.get
    expected = ([5, 10, 15], Outcome.CROSSED, "random")
    assert fates(0.5, chances) == fates(0.5, chances, cut=True) == expected
    assert fates(0.7, chances)[0] == [5, 10]
    assert fates(None, chances) == ([5], Outcome.CROSSED, "uncertainty")


def test_chance_takes_nothing_before_there_is_a_threshold():
    assert fates(1.0, lambda step: 0.0, window=Window())[1] is Outcome.FINISHED
