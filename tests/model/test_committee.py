"""The batched committee, against MACE's own ASE calculator."""

import logging

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.stress import voigt_6_to_full_3x3_stress
from mace import modules
from mace.calculators import MACECalculator

from aimspax_core.errors import ModelError
from aimspax_core.model.committee import Committee
from aimspax_core.model.mace.evaluator import MaceEvaluator

ELEMENTS = [1, 6, 8, 29]

Irreps = modules.models.o3.Irreps  # e3nn itself can be imported only after MACE


def tiny_mace(seed, r_max=4.0, elements=ELEMENTS):
    """Return a small ScaleShiftMACE with random weights, float64."""
    torch.manual_seed(seed)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    try:
        return modules.ScaleShiftMACE(
            r_max=r_max, num_bessel=8, num_polynomial_cutoff=5, max_ell=2,
            interaction_cls=block, interaction_cls_first=block, num_interactions=2,
            num_elements=len(elements), hidden_irreps=Irreps("8x0e+8x1o"),
            MLP_irreps=Irreps("8x0e"), atomic_energies=-np.arange(1.0, len(elements) + 1),
            avg_num_neighbors=8.0, atomic_numbers=elements, correlation=2,
            gate=torch.nn.functional.silu, atomic_inter_scale=1.0, atomic_inter_shift=0.0,
        )  # fmt: skip
    finally:
        torch.set_default_dtype(default)


def rattled(atoms, seed):
    atoms = atoms.copy()
    atoms.rattle(0.1, seed=seed)
    return atoms


@pytest.fixture(scope="module")
def models():
    return [tiny_mace(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def committee(models):
    return Committee(MaceEvaluator(models))


@pytest.fixture(scope="module")
def structures():
    """Molecules, a bulk cell smaller than the cutoff, a slab, and an atom alone."""
    slab = bulk("Cu", "fcc", a=3.6, cubic=True)
    slab.pbc = (True, True, False)
    slab.center(vacuum=6.0, axis=2)
    skewed = bulk("Cu", "fcc", a=3.6)
    far = molecule("CH3CH2OH")
    far.positions += 30.0
    return [
        rattled(atoms, seed)
        for seed, atoms in enumerate([molecule("H2O"), skewed, far, slab, molecule("CO2")])
    ] + [Atoms("O")]


def test_equals_mace_calculator_structure_by_structure(models, committee, structures, caplog):
    with caplog.at_level(logging.ERROR):
        reference = MACECalculator(models=models, device="cpu", default_dtype="float64")
    for atoms, ours in zip(structures, committee.evaluate(structures, stress=True), strict=True):
        reference.calculate(atoms)
        theirs = reference.results
        np.testing.assert_allclose(ours.energy, theirs["energy"], rtol=0, atol=1e-9)
        np.testing.assert_allclose(ours.forces, theirs["forces"], rtol=0, atol=1e-9)
        np.testing.assert_allclose(ours.member_forces, theirs["forces_comm"], rtol=0, atol=1e-9)
        np.testing.assert_allclose(ours.member_energies, theirs["energy_comm"], rtol=0, atol=1e-9)
        if ours.stress is not None:
            stress = voigt_6_to_full_3x3_stress(theirs["stress"])
            np.testing.assert_allclose(ours.stress, stress, rtol=0, atol=1e-9)


def test_forces_are_the_same_with_and_without_stress(committee, structures):
    without, with_stress = committee.evaluate(structures), committee.evaluate(structures, True)
    for a, b in zip(without, with_stress, strict=True):
        np.testing.assert_allclose(a.member_forces, b.member_forces, rtol=0, atol=1e-12)


def test_stress_only_where_asked_for_and_periodic(committee, structures):
    assert all(p.stress is None for p in committee.evaluate(structures))
    has_stress = [p.stress is not None for p in committee.evaluate(structures, stress=True)]
    assert has_stress == [bool(atoms.pbc.all()) for atoms in structures]
    assert any(has_stress)


@pytest.mark.parametrize("poison", ["positions", "cell"])
def test_nan_structure_is_nan_and_leaves_the_others_as_if_it_were_absent(
    committee, structures, poison
):
    broken = structures[1].copy()
    if poison == "positions":
        broken.positions[0, 0] = np.nan
    else:
        broken.set_cell(broken.cell.array + np.nan)
    absent = committee.evaluate(structures)
    present = committee.evaluate([*structures[:2], broken, *structures[2:]])
    bad = present.pop(2)
    assert np.isnan(bad.energy)
    assert np.isnan(bad.forces).all()
    assert bad.forces.shape == (len(broken), 3)
    for a, b in zip(absent, present, strict=True):
        assert np.array_equal(a.member_forces, b.member_forces)
        assert a.energy == b.energy


def test_atoms_on_top_of_each_other_do_not_touch_the_other_structures(committee, structures):
    clash = Atoms("HH", positions=[[0, 0, 0], [0, 0, 0]])
    alone = committee.evaluate(structures)
    beside = committee.evaluate([clash, *structures])[1:]
    for a, b in zip(alone, beside, strict=True):
        np.testing.assert_allclose(a.member_forces, b.member_forces, rtol=0, atol=1e-12)


@pytest.mark.parametrize("far", [np.inf, 1e200, 1e6])
def test_what_has_left_the_universe_is_nan(committee, far):
    (prediction,) = committee.evaluate([Atoms("HH", positions=[[far, 0, 0], [0, 0, 0]])])
    assert np.isnan(prediction.member_forces).all()


def test_no_structures(committee):
    assert committee.evaluate([]) == []


@pytest.mark.parametrize("distance", [1e2, 9e4])
def test_a_fragment_far_away_counts_as_alone(committee, distance):
    water = rattled(molecule("H2O"), 0)
    split = water + Atoms("H", positions=[[distance, 0, 0]])
    together = committee.evaluate([split])[0]
    apart = committee.evaluate([water, Atoms("H")])
    np.testing.assert_allclose(together.forces[:3], apart[0].forces, rtol=0, atol=1e-9)
    assert together.energy == pytest.approx(sum(p.energy for p in apart), abs=1e-9)


def test_one_model_is_a_committee_of_one():
    (prediction,) = Committee(MaceEvaluator([tiny_mace(7)])).evaluate([molecule("H2O")])
    assert prediction.member_forces.shape == (1, 3, 3)
    assert np.array_equal(prediction.member_forces[0], prediction.forces)


@pytest.mark.parametrize("max_edges", [1, 40, 100])
def test_cutting_the_batch_changes_nothing(models, committee, structures, max_edges):
    cut = Committee(MaceEvaluator(models, max_edges=max_edges)).evaluate(structures)
    for a, b in zip(committee.evaluate(structures), cut, strict=True):
        np.testing.assert_allclose(a.member_forces, b.member_forces, rtol=0, atol=1e-12)
        assert a.energy == pytest.approx(b.energy, abs=1e-12)


def test_float32_agrees_with_float64_to_its_precision(structures):
    single = Committee(MaceEvaluator([tiny_mace(3)], dtype="float32")).evaluate(structures)
    double = Committee(MaceEvaluator([tiny_mace(3)])).evaluate(structures)
    for a, b in zip(single, double, strict=True):
        assert a.forces.dtype == np.float64
        np.testing.assert_allclose(a.forces, b.forces, rtol=0, atol=1e-4)


def test_unknown_element_is_named(committee):
    with pytest.raises(ModelError, match="7"):
        committee.evaluate([molecule("NH3")])


@pytest.mark.parametrize(
    ("models", "what"),
    [
        ([], "at least one"),
        ([{}, {"r_max": 5.0}], "r_max"),
        ([{}, {"elements": [1, 6]}], "elements"),
    ],
)
def test_models_that_do_not_fit_together_are_refused(models, what):
    with pytest.raises(ModelError, match=what):
        Committee(MaceEvaluator([tiny_mace(0, **options) for options in models]))


def test_conditioned_model_is_refused():
    model = tiny_mace(0)
    model.joint_embedding = torch.nn.Identity()
    with pytest.raises(ModelError, match="conditioned"):
        Committee(MaceEvaluator([model]))
