"""Lockstep: the same trajectories as ASE makes one by one, from batched evaluations."""

import contextvars
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import force_temperature
from ase.md.verlet import VelocityVerlet
from mace import modules
from mace.calculators import MACECalculator

from aimspax_core.errors import ExplodedError
from aimspax_core.model.committee import Committee
from aimspax_core.model.mace.evaluator import MaceEvaluator
from aimspax_core.prediction import Prediction
from aimspax_core.sampling.lockstep import LockstepStats, run_lockstep, volume_guard

Irreps = modules.models.o3.Irreps  # e3nn itself can be imported only after MACE


def tiny_mace(seed):
    """Return a small ScaleShiftMACE with random weights, float64."""
    torch.manual_seed(seed)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    try:
        return modules.ScaleShiftMACE(
            r_max=4.0, num_bessel=8, num_polynomial_cutoff=5, max_ell=2,
            interaction_cls=block, interaction_cls_first=block, num_interactions=2,
            num_elements=4, hidden_irreps=Irreps("8x0e+8x1o"), MLP_irreps=Irreps("8x0e"),
            atomic_energies=np.zeros(4), avg_num_neighbors=8.0, atomic_numbers=[1, 6, 8, 29],
            correlation=2, gate=torch.nn.functional.silu,
            atomic_inter_scale=0.5, atomic_inter_shift=0.0,
        )  # fmt: skip
    finally:
        torch.set_default_dtype(default)


def springs(structures):
    """Hold each atom at the origin; a member a stiffness."""
    predictions = []
    for atoms in structures:
        forces = np.array([-0.9, -1.1])[:, None, None] * atoms.positions
        energies = np.array([0.45, 0.55]) * (atoms.positions**2).sum()
        predictions.append(
            Prediction(float(energies.mean()), forces.mean(axis=0), energies, forces, np.eye(3))
        )
    return predictions


def langevin_job(atoms, seed, steps):
    """Return a job of plain ASE dynamics that returns the positions after every step."""

    def job(calculator):
        mine = atoms.copy()
        mine.calc = calculator
        dynamics = Langevin(
            mine, 0.5 * units.fs, temperature_K=300, friction=0.01 / units.fs, fixcm=False,
            rng=np.random.default_rng(seed),
        )  # fmt: skip
        frames = []
        dynamics.attach(lambda: frames.append(mine.positions.copy()))
        dynamics.run(steps)
        return np.array(frames)

    return job


def moving(atoms, seed):
    atoms = atoms.copy()
    rng = np.random.default_rng(seed)
    atoms.set_momenta(rng.standard_normal((len(atoms), 3)))
    force_temperature(atoms, 300)
    return atoms


@pytest.mark.slow
def test_equals_ase_one_trajectory_after_the_other():
    models = [tiny_mace(seed) for seed in range(2)]
    start = [moving(molecule("H2O"), 0), moving(bulk("Cu", a=3.6), 1), moving(molecule("C2H6"), 2)]
    jobs = [langevin_job(atoms, seed, 100) for seed, atoms in enumerate(start)]
    run = run_lockstep(jobs, Committee(MaceEvaluator(models)).evaluate)
    calculator = MACECalculator(models=models, device="cpu", default_dtype="float64")
    for job, frames in zip(jobs, run.outcomes, strict=True):
        expected = job(calculator)
        assert np.abs(expected[-1] - expected[0]).max() > 0.05
        np.testing.assert_allclose(frames, expected, rtol=0, atol=1e-9)


def test_counts_one_evaluation_a_step_for_all_trajectories():
    jobs = [langevin_job(molecule("H2O"), seed, 10) for seed in range(4)]
    stats = run_lockstep(jobs, springs).stats
    assert (stats.evaluations, stats.structures) == (11, 44)
    assert stats.seconds > 0


def test_shorter_jobs_leave_the_batch():
    jobs = [langevin_job(molecule("H2O"), 0, steps) for steps in (2, 5)]
    stats = run_lockstep(jobs, springs).stats
    assert (stats.evaluations, stats.structures) == (6, 9)


def test_unchanged_structure_is_evaluated_once():
    def job(calculator):
        atoms = molecule("H2O")
        atoms.calc = calculator
        atoms.get_forces()
        atoms.get_forces()
        return atoms.get_potential_energy()

    assert run_lockstep([job], springs).stats.structures == 1


def test_prediction_of_the_last_structure_is_at_hand():
    def job(calculator):
        atoms = molecule("H2O")
        atoms.calc = calculator
        atoms.get_forces()
        return calculator.prediction.member_forces

    (member_forces,) = run_lockstep([job], springs).outcomes
    np.testing.assert_array_equal(member_forces[1], -1.1 * molecule("H2O").positions)


def test_stress_reaches_the_integrator():
    def job(calculator):
        atoms = molecule("H2O")
        atoms.calc = calculator
        return atoms.get_stress(), atoms.get_potential_energy(force_consistent=True)

    ((stress, energy),) = run_lockstep([job], springs).outcomes
    np.testing.assert_array_equal(stress, [1, 1, 1, 0, 0, 0])
    assert energy == springs([molecule("H2O")])[0].energy


@pytest.mark.parametrize("victim", [0, 3, 7])
def test_one_nan_trajectory_of_eight_leaves_the_others_untouched(victim):
    def poisoned(calculator):
        atoms = molecule("H2O")
        atoms.calc = calculator
        dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
        dynamics.run(5)
        atoms.positions[0, 0] = np.nan
        dynamics.run(5)

    healthy = [langevin_job(molecule("C2H6"), seed, 20) for seed in range(7)]
    expected = run_lockstep(healthy, springs).outcomes
    outcomes = list(
        run_lockstep([*healthy[:victim], poisoned, *healthy[victim:]], springs).outcomes
    )
    assert isinstance(outcomes.pop(victim), ExplodedError)
    for frames, reference in zip(outcomes, expected, strict=True):
        assert np.array_equal(frames, reference)


def test_nan_forces_of_one_structure_end_its_job_only():
    def lying(structures):
        predictions = springs(structures)
        predictions[0].forces[0, 0] = np.nan
        return predictions

    jobs = [langevin_job(molecule("H2O"), seed, 3) for seed in range(2)]
    first, second = run_lockstep(jobs, lying).outcomes
    assert isinstance(first, ExplodedError)
    # The survivor is then the first of its batch, and meets the same end.
    assert isinstance(second, ExplodedError)


def test_exception_takes_the_place_of_the_result():
    def failing(calculator):
        raise KeyError("mine")

    failed, value = run_lockstep([failing, lambda calculator: 7], springs).outcomes
    assert isinstance(failed, KeyError)
    assert value == 7


def test_failing_evaluation_ends_all_jobs_and_is_raised():
    ended = []

    def job(calculator):
        atoms = Atoms("H", calculator=calculator)
        try:
            atoms.get_forces()
        finally:
            ended.append(True)

    def fail(structures):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        run_lockstep([job, job], fail)
    assert ended == [True, True]


def test_jobs_see_the_context_of_their_caller():
    variable = contextvars.ContextVar("variable")
    variable.set("outer")
    assert run_lockstep([lambda calculator: variable.get()], springs).outcomes == ("outer",)


def test_a_driving_committees_judgement_is_at_hand():
    def job(calculator):
        atoms = molecule("H2O")
        atoms.calc = calculator
        atoms.get_forces()
        same = calculator.judgement(atoms) is calculator.prediction
        atoms.positions += 0.1
        return same, calculator.judgement(atoms)

    run = run_lockstep([job], springs)
    ((same, moved),) = run.outcomes
    assert same
    np.testing.assert_allclose(moved.forces, -1.0 * (molecule("H2O").positions + 0.1))
    assert run.stats.structures == 2


def test_judgements_of_a_round_are_evaluated_at_once_beside_the_driving():
    """Two jobs judge their structure, a third goes on meanwhile; none waits for another kind."""
    rounds = []

    def counting(kind):
        def evaluate(structures):
            rounds.append((kind, len(structures)))
            return springs(structures)

        return evaluate

    def job(judged):
        def run(calculator):
            atoms = molecule("H2O")
            atoms.calc = calculator
            atoms.get_forces()
            if judged:
                return calculator.judgement(atoms).member_forces
            atoms.positions += 0.1
            return atoms.get_forces()

        return run

    jobs = [job(True), job(False), job(True)]
    run = run_lockstep(jobs, counting("drive"), counting("judge"))
    assert rounds == [("drive", 3), ("drive", 1), ("judge", 2)]
    np.testing.assert_array_equal(run.outcomes[2][1], -1.1 * molecule("H2O").positions)
    np.testing.assert_allclose(run.outcomes[1], -1.0 * (molecule("H2O").positions + 0.1))


def test_jobs_are_woken_in_order_whatever_they_waited_for():
    woken = []

    def job(name, first):
        def run(calculator):
            atoms = molecule("H2O")
            atoms.calc = calculator
            for judged in (first, not first):
                if judged:
                    calculator.judgement(atoms)
                else:
                    atoms.positions += 0.1
                    atoms.get_forces()
                woken.append(name)

        return run

    run_lockstep([job("a", True), job("b", False), job("c", True)], springs, springs)
    assert woken == ["a", "b", "c"] * 2


def test_a_guard_ends_a_job_before_its_structure_is_evaluated():
    seen = []

    def evaluate(structures):
        seen.extend(atoms.cell.volume for atoms in structures)
        return springs(structures)

    def job(calculator):
        atoms = bulk("Cu")
        calculator.guard = volume_guard(atoms)
        atoms.calc = calculator
        for _ in range(10):
            atoms.get_forces()
            atoms.set_cell(1.5 * atoms.cell, scale_atoms=True)

    (outcome,) = run_lockstep([job], evaluate).outcomes
    assert isinstance(outcome, ExplodedError)
    assert len(seen) == 2  # 1.5 cubed is 3.4, its square 11


@pytest.mark.parametrize("scale", [2.01, 0.49, np.nan, 1e200])
def test_cells_eight_times_as_large_or_small_are_refused(scale):
    atoms = bulk("Cu")
    guard = volume_guard(atoms)
    for allowed in (1.99, 0.51):
        guard(Atoms("Cu", cell=allowed * atoms.cell, pbc=True))
    with np.errstate(all="ignore"), pytest.raises(ExplodedError, match="had 11"):
        guard(Atoms("Cu", cell=scale * atoms.cell.array, pbc=True))


def test_molecules_have_no_volume_to_guard():
    volume_guard(molecule("H2O"))(molecule("H2O"))
    volume_guard(molecule("H2O"), 1.0)(molecule("H2O"))


def test_cells_may_be_compared_with_a_volume_that_was():
    atoms = bulk("Cu")
    volume_guard(atoms, atoms.cell.volume / 7.9)(atoms)
    for was in (8.1, 1 / 8.1):
        with pytest.raises(ExplodedError, match="Å³ an atom"):
            volume_guard(atoms, was * atoms.cell.volume)(atoms)


def test_a_stress_that_is_not_finite_is_an_explosion():
    def lying(structures):
        return [replace(p, stress=np.full((3, 3), np.inf)) for p in springs(structures)]

    (outcome,) = run_lockstep([langevin_job(molecule("H2O"), 0, 3)], lying).outcomes
    assert isinstance(outcome, ExplodedError)


def test_no_jobs():
    assert run_lockstep([], springs).stats == LockstepStats()
