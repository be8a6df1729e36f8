"""Held atoms in MD: they stay, are not counted, and stay so wherever a trajectory is cut."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import add_adsorbate, fcc111
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT

from aimspax_core.errors import NewerReleaseError
from aimspax_core.prediction import Prediction
from aimspax_core.sampling.collect import begin, collect
from aimspax_core.sampling.dynamics import (
    begin_anew,
    capture,
    load_state,
    new_stream,
    random_stream,
    resume,
    save_state,
    start,
    why_not,
)
from aimspax_core.sampling.segment import SegmentSettings, Start, run_segment
from aimspax_core.settings.engines import Gate
from aimspax_core.settings.ensembles import ENSEMBLES
from aimspax_core.settings.geometries.held_atoms import HeldAtoms
from aimspax_core.settings.md import MD
from aimspax_core.uncertainty.threshold import Window
from tests.sampling.test_conformance import Watched, settings
from tests.sampling.test_dynamics import Springs, error_of_mean

Z = (0.0, 0.0, 1.0)
HELD = HeldAtoms(
    fixed=(0, 1), planes=((Z, (2,)), ((0.6, 0.0, 0.8), (3,))), lines=(((0.0, 0.6, 0.8), (4,)),)
)
HOLDING = [row for row in ENSEMBLES if not row.ensemble.cannot_hold]
every_holding = pytest.mark.parametrize("row", HOLDING, ids=lambda row: row.name)


def slab() -> Atoms:
    """A slab of three layers with an oxygen atom on it."""
    atoms = fcc111("Al", (2, 1, 3), vacuum=6.0)
    add_adsorbate(atoms, "O", 1.6, "fcc")
    atoms.pbc = True
    atoms.rattle(0.02, seed=1)
    return atoms


PLACES = slab().positions + 0.1


class Tethers(Calculator):
    """Each atom bound to a place near its own, by a spring: as cheap as a step can be."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        self.atoms = atoms.copy()
        away = atoms.positions - PLACES
        self.results = {"energy": (away**2).sum(), "forces": -2 * away}


def emt(structures):
    """Predict by a committee of three: EMT, and what is a little more and less."""
    predictions = []
    for atoms in structures:
        bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        bare.calc = EMT()
        energy, forces = bare.get_potential_energy(), bare.get_forces()
        members = np.array([1.0, 1.02, 0.98])
        spread = members[:, None, None] * forces
        predictions.append(Prediction(energy, forces, members * energy, spread))
    return predictions


def advanced(state, md, steps, calculator=None):
    dynamics, rng = resume(state, md, calculator or Watched())
    dynamics.run(steps)
    return capture(dynamics, rng, state.step + steps, state.held)


def content(state):
    atoms = state.structure
    return [
        *(array.tolist() for array in (atoms.positions, atoms.get_momenta())),
        *(state.step, state.rng, state.extras, state.held),
    ]


def assert_held(before: Atoms, after: Atoms) -> None:
    """Say that HELD held: fixed atoms and axes to the last bit, others to rounding."""
    moved, p = after.positions - before.positions, after.get_momenta()
    assert np.array_equal(after.positions[:2], before.positions[:2])
    assert after.positions[2, 2] == before.positions[2, 2]
    assert not p[:2].any() and p[2, 2] == 0
    for vectors in (moved, p):
        assert abs(vectors[3] @ [0.6, 0, 0.8]) < 1e-11
        assert np.abs(np.cross(vectors[4], [0, 0.6, 0.8])).max() < 1e-11
    assert np.abs(moved[5:]).min() > 1e-4


@every_holding
def test_held_atoms_stay_through_a_thousand_steps_and_three_restarts(row, tmp_path):
    md, atoms = settings(row), slab()
    state = start(atoms, md, random_stream(1), HELD)
    for steps in (7, 393, 600):
        save_state(tmp_path / "state.json", advanced(state, md, steps, Tethers()))
        state = load_state(tmp_path / "state.json")
    assert state.step == 1000
    assert_held(atoms, state.structure)


@every_holding
def test_a_cut_changes_nothing_to_the_last_bit(row, tmp_path):
    md = settings(row)
    whole = cut = start(slab(), md, random_stream(2), HELD)
    whole = advanced(whole, md, 60)
    for steps in (1, 24, 35):
        save_state(tmp_path / "state.json", advanced(cut, md, steps))
        cut = load_state(tmp_path / "state.json")
    assert content(cut) == content(whole)


@every_holding
def test_velocities_drawn_anew_are_none_of_held_atoms(row):
    md = settings(row)
    begun = start(slab(), md, random_stream(3), HELD)
    there = advanced(begun, md, 10)
    for state in (begun, new_stream(there, random_stream(4), md),
                  begin_anew(there, random_stream(4), md)):  # fmt: skip
        assert state.held == HELD
        momenta = state.structure.get_momenta()
        assert not momenta[:2].any() and momenta[2, 2] == 0
        assert abs(momenta[3] @ [0.6, 0, 0.8]) < 1e-14
        assert np.abs(momenta[5:]).min() > 0


@pytest.mark.parametrize("row", [r for r in ENSEMBLES if r not in HOLDING], ids=lambda r: r.name)
def test_an_integrator_that_cannot_hold_atoms_is_refused_with_the_reason(row):
    md = settings(row)
    why = why_not(slab(), md, HELD)
    assert row.title in why and row.ensemble.cannot_hold in why
    assert "allowed: NVT langevin or NVE" in why
    assert why_not(slab(), md) is None


def test_the_table_knows_who_holds():
    assert [row.name for row in HOLDING] == ["langevin", "nve"]


def test_a_geometry_that_cannot_move_is_refused():
    two = Atoms("Al2", [[0, 0, 0], [2.5, 0, 0]])
    assert why_not(two, settings(HOLDING[0]), HeldAtoms(fixed=(0, 1))) is not None
    assert why_not(two, settings(HOLDING[0]), HeldAtoms(fixed=(0,))) is None


def test_where_the_centre_of_mass_rests_it_is_counted():
    """One atom on a line: with the centre held along it, nothing is left."""
    one, line = Atoms("Al", [[0, 0, 0]]), HeldAtoms(lines=((Z, (0,)),))
    assert why_not(one, settings(HOLDING[0]), line) is not None
    assert why_not(one, settings(HOLDING[0], fixcm=False), line) is None


# ---- the temperature ---------------------------------------------------------------------------

TRIMER = Atoms("HCO", positions=[[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0]])
ONE_FIXED = HeldAtoms(fixed=(0,))
ONE_IN_A_PLANE = HeldAtoms(planes=((Z, (1,)),))
FREEDOMS = [
    (ONE_FIXED, True, 6),  # the centre moves: the fixed atom takes up the forces
    (ONE_FIXED, False, 6),
    (ONE_IN_A_PLANE, True, 6),  # along x and y the centre rests
    (ONE_IN_A_PLANE, False, 8),
]


def hot(fixcm):
    return MD(stat_ensemble="nvt", temperature=300, timestep=1.0, friction=0.02, fixcm=fixcm)


@pytest.mark.parametrize(("held", "fixcm", "freedom"), FREEDOMS)
def test_starting_velocities_have_the_temperature_of_the_free_coordinates(held, fixcm, freedom):
    rng, md = random_stream(3), hot(fixcm)
    kinetic = [start(TRIMER, md, rng, held).structure.get_kinetic_energy() for _ in range(3000)]
    values = np.array(kinetic) / (0.5 * units.kB * 300)
    assert abs(values.mean() - freedom) < 3 * np.sqrt(2 * freedom / 3000)
    assert values.var() == pytest.approx(2 * freedom, rel=0.12)


@pytest.mark.parametrize(("held", "fixcm", "freedom"), FREEDOMS)
def test_ase_counts_the_free_coordinates(held, fixcm, freedom):
    md = hot(fixcm)
    dynamics, _ = resume(start(TRIMER, md, random_stream(1), held), md, Springs())
    assert dynamics.atoms.get_number_of_degrees_of_freedom() == freedom


@pytest.mark.slow
@pytest.mark.parametrize(("held", "fixcm", "freedom"), [FREEDOMS[0], FREEDOMS[2]])
def test_langevin_samples_the_canonical_ensemble_of_the_free_coordinates(held, fixcm, freedom):
    md = hot(fixcm)
    dynamics, _ = resume(start(TRIMER, md, random_stream(1), held), md, Springs())
    dynamics.run(500)
    kinetic = [dynamics.atoms.get_kinetic_energy() for _ in dynamics.irun(4_000)]
    values = np.array(kinetic) / (freedom * 0.5 * units.kB * 300)
    assert abs(values.mean() - 1) < 3 * error_of_mean(values)


def test_the_centre_of_mass_rests_in_directions_in_which_no_atom_is_held():
    md = hot(True)
    state = advanced(start(TRIMER, md, random_stream(2), ONE_IN_A_PLANE), md, 300, Springs())
    shift = state.structure.get_center_of_mass() - TRIMER.get_center_of_mass()
    total = state.structure.get_momenta().sum(axis=0)
    assert np.abs(shift[:2]).max() < 1e-10 and np.abs(total[:2]).max() < 1e-10
    assert abs(shift[2]) > 1e-3
    assert state.structure.positions[1, 2] == TRIMER.positions[1, 2]


def test_energy_is_conserved_with_held_atoms():
    md = settings(HOLDING[1]).model_copy(update={"timestep": 0.5})
    dynamics, _ = resume(start(slab(), md, random_stream(5), HELD), md, Watched())
    dynamics.run(0)
    total = [dynamics.atoms.get_total_energy() for _ in dynamics.irun(100)]
    assert np.ptp(total) < 1e-3


# ---- on disk -------------------------------------------------------------------------------------


def test_a_state_that_holds_atoms_is_none_for_releases_that_would_let_them_go(tmp_path):
    md, path = settings(HOLDING[0]), tmp_path / "state.json"
    save_state(path, start(slab(), md, random_stream(1)))
    assert json.loads(path.read_text())["version"] == 1
    assert "held" not in json.loads(path.read_text())
    save_state(path, start(slab(), md, random_stream(1), HELD))
    data = json.loads(path.read_text())
    assert data["version"] == 2
    del data["checksum"]
    path.write_text(json.dumps({**data, "version": 3}))
    with pytest.raises(NewerReleaseError):
        load_state(path)


# ---- where campaigns run MD --------------------------------------------------------------------

SEGMENT = SegmentSettings(5, 1e9, "max_atomic_sd", math.inf, math.inf, 100.0, 0.0, None, 5)


def run(starts):
    return run_segment(starts, SEGMENT, (Window(),), emt, lambda atoms: None, None, _ticks())


def _ticks():
    seconds = iter(range(10**6))
    return lambda: float(next(seconds))


@every_holding
def test_exploring_in_lockstep_holds_atoms_and_is_the_same_wherever_it_is_cut(row, tmp_path):
    """Two trajectories, one with held atoms; five steps a segment, or fifteen at once."""
    md = settings(row)
    first = [
        Start(0, start(slab(), md, random_stream(1), HELD), md),
        Start(1, start(slab(), md, random_stream(2)), md),
    ]
    whole = run_segment(
        first, replace(SEGMENT, skip_step=15), (Window(),), emt, lambda atoms: None, None, _ticks()
    ).results
    now = first
    for _ in range(3):
        results = run(now).results
        for result in results:
            save_state(tmp_path / f"{result.trajectory}.json", result.state)
        now = [
            Start(r.trajectory, load_state(tmp_path / f"{r.trajectory}.json"), md) for r in results
        ]
    assert [content(s.state) for s in now] == [content(r.state) for r in whole]
    assert_held(slab(), now[0].state.structure)
    assert (now[1].state.structure.positions != slab().positions).all()


def test_snapshots_and_uncertainties_have_the_forces_on_held_atoms():
    md = settings(HOLDING[0])
    (result,) = run([Start(0, start(slab(), md, random_stream(1), HELD), md)]).results
    (snapshot,) = result.snapshots
    (there,) = emt([snapshot.atoms])
    assert np.abs(there.forces[0]).min() > 0
    np.testing.assert_array_equal(snapshot.forces, there.forces)
    np.testing.assert_array_equal(snapshot.member_forces, there.member_forces)
    assert not (result.state.structure.constraints or snapshot.atoms.constraints)


@every_holding
def test_sampling_holds_atoms_also_in_beginnings_after_an_explosion(row):
    md, atoms = settings(row), slab()
    refusals = iter([True, False, False])

    def gate(structure, _):
        if next(refusals):
            raise np.linalg.LinAlgError("spoilt")

    found = collect(
        begin(atoms, md, 0, held=HELD), Watched(), geometry=0, atoms=atoms, md=md, gate=Gate(),
        points=3, skip_step=10, snapshot_every=10, pass_gate=gate,
    )  # fmt: skip
    assert (found.refused, len(found.structures)) == (1, 2)
    assert found.state.held == HELD
    assert_held(atoms, found.state.structure)
    for structure in found.structures:
        assert np.array_equal(structure.positions[:2], atoms.positions[:2])
        assert not structure.constraints
    forces = found.snapshots[-1].forces
    assert np.abs(forces[:2]).min() > 0
