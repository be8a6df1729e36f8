"""Every ensemble's integrator: exact across cuts and files, told apart, and refused in time."""

from functools import partial
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.stress import voigt_6_to_full_3x3_stress

from aimspax_core.errors import ExplodedError
from aimspax_core.prediction import Prediction
from aimspax_core.sampling.dynamics import (
    MDState,
    capture,
    load_state,
    needs_stress,
    new_stream,
    random_stream,
    resume,
    save_state,
    start,
    target_pressure,
    why_not,
)
from aimspax_core.sampling.lockstep import run_lockstep
from aimspax_core.settings.md import MD

OLD = Path(__file__).parents[1] / "fixtures" / "md-states-0.1.0"
HERE = {"temperature": 300.0, "timestep": 3.0, "friction": 0.02, "pressure": 2e9}
BAROSTATS = {"tdamp": 60.0, "pdamp": 150.0, "taup": 300.0, "taut": 100.0, "pfactor": 2e4}
ENSEMBLES = {
    "nvt": MD(stat_ensemble="nvt", **HERE),
    "nvt, centre free": MD(stat_ensemble="nvt", fixcm=False, **HERE),
    "nve": MD(stat_ensemble="nve", **HERE),
    **{
        barostat: MD(stat_ensemble="npt", barostat=barostat, **HERE, **BAROSTATS)
        for barostat in ("berendsen", "npt", "mtk", "isomtk")
    },
    **{
        f"{barostat}, mask": MD(
            stat_ensemble="npt", barostat=barostat, mask=(1, 0, 1), **HERE, **BAROSTATS
        )
        for barostat in ("berendsen", "npt", "mtk")
    },
    "berendsen, centre free": MD(
        stat_ensemble="npt", barostat="berendsen", fixcm=False, **HERE, **BAROSTATS
    ),
    "npt, rigid": MD(stat_ensemble="npt", barostat="npt", **HERE, **BAROSTATS | {"pfactor": None}),
    "npt, no thermostat": MD(stat_ensemble="npt", barostat="npt", ttime=None, **HERE, **BAROSTATS),
    "mtk, long chains": MD(
        stat_ensemble="npt", barostat="mtk", tchain=4, pchain=2, tloop=2, **HERE, **BAROSTATS
    ),
}
every_ensemble = pytest.mark.parametrize("md", ENSEMBLES.values(), ids=ENSEMBLES)
extended = pytest.mark.parametrize("name", ["npt", "npt, mask", "mtk", "mtk, mask", "isomtk"])


class FreshEMT(Calculator):
    """EMT whose answer hangs on the structure alone: its own keeps neighbours from before."""

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012
    calls = 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        self.calls += 1
        self.atoms = atoms.copy()
        atoms = atoms.copy()
        atoms.set_constraint()
        atoms.calc = EMT()
        self.results = {
            "energy": atoms.get_potential_energy(),
            "free_energy": atoms.get_potential_energy(),
            "forces": atoms.get_forces(),
            "stress": atoms.get_stress(),
        }


def alloy():
    """Four atoms of two masses, not in equilibrium, in a cell that is not triangular."""
    atoms = bulk("Cu") * (2, 2, 1)
    atoms.symbols[1] = "Al"
    atoms.rattle(0.05, seed=1)
    return atoms


def begin(md, atoms=None, seed=0):
    return start(alloy() if atoms is None else atoms, md, random_stream(seed))


def advance(state, md, steps, calculator=None):
    dynamics, rng = resume(state, md, FreshEMT() if calculator is None else calculator)
    for _ in dynamics.irun(steps):
        pass
    return capture(dynamics, rng, state.step + steps)


def assert_same(a: MDState, b: MDState):
    assert np.array_equal(a.structure.positions, b.structure.positions)
    assert np.array_equal(a.structure.get_momenta(), b.structure.get_momenta())
    assert np.array_equal(a.structure.cell.array, b.structure.cell.array)
    assert (a.step, a.rng, a.extras) == (b.step, b.rng, b.extras)


@every_ensemble
def test_going_on_from_files_equals_never_having_stopped(md, tmp_path):
    unbroken = advance(begin(md), md, 14)
    broken = begin(md)
    for steps in (1, 2, 7, 1, 3):
        save_state(tmp_path / "state.json", broken)
        broken = advance(load_state(tmp_path / "state.json"), md, steps)
    assert_same(broken, unbroken)
    assert np.abs(unbroken.structure.positions - begin(md).structure.positions).max() > 0.02


@every_ensemble
def test_many_short_runs_of_one_integrator_equal_a_long_one(md):
    dynamics, rng = resume(begin(md), md, FreshEMT())
    for steps in (1, 2, 4):
        for _ in dynamics.irun(steps):
            pass
    assert_same(capture(dynamics, rng, 7), advance(begin(md), md, 7))


@every_ensemble
def test_looking_at_a_state_changes_nothing(md):
    state = advance(begin(md), md, 3)
    assert_same(advance(state, md, 0), state)


@every_ensemble
def test_a_cut_costs_one_evaluation(md):
    """That of the structure where it goes on, which a new calculator does not know."""
    state = advance(begin(md), md, 2)
    whole, first, second = FreshEMT(), FreshEMT(), FreshEMT()
    advance(state, md, 8, whole)
    advance(advance(state, md, 5, first), md, 3, second)
    assert first.calls + second.calls == whole.calls + 1


def committee_of_emt(structures):
    predictions = []
    for atoms in structures:
        emt = FreshEMT()
        emt.calculate(atoms)
        energy, forces = emt.results["energy"], emt.results["forces"]
        members = np.stack([0.9 * forces, 1.1 * forces])
        stress = voigt_6_to_full_3x3_stress(emt.results["stress"])
        predictions.append(Prediction(energy, forces, np.full(2, energy), members, stress))
    return predictions


@every_ensemble
def test_cut_trajectories_in_lockstep_equal_each_alone(md):
    begun = [begin(md, seed=seed) for seed in range(2)]
    states = begun
    for steps in (3, 1, 4):
        jobs = [partial(advance, state, md, steps) for state in states]
        states = run_lockstep(jobs, committee_of_emt).outcomes
    for state, first in zip(states, begun, strict=True):
        assert_same(state, advance(first, md, 8))


@every_ensemble
def test_stress_is_asked_for_only_where_it_is_said_to_be(md):
    asked = set()

    class Watched(FreshEMT):
        def get_property(self, name, atoms=None, allow_calculation=True):
            asked.add(name)
            return super().get_property(name, atoms, allow_calculation)

    advance(begin(md), md, 2, Watched())
    assert ("stress" in asked) == needs_stress(md)


@extended
def test_thermostat_and_barostat_are_part_of_the_state(name):
    """Forgetting them is seen at once: the exact restart above is not for nothing."""
    md = ENSEMBLES[name]
    state = advance(begin(md), md, 5)
    forgetful = MDState(state.structure, state.step, state.rng)
    kept, forgot = advance(state, md, 5), advance(forgetful, md, 5)
    assert np.abs(kept.structure.positions - forgot.structure.positions).max() > 1e-7


@pytest.mark.parametrize(
    ("before", "after"), list(permutations(["nvt", "npt", "mtk", "mtk, mask", "isomtk"], 2))
)
def test_another_integrator_starts_afresh_from_where_the_last_one_was(before, after):
    state = advance(begin(ENSEMBLES[before]), ENSEMBLES[before], 3)
    bare = MDState(state.structure, state.step, state.rng)
    ends = [advance(s, ENSEMBLES[after], 2) for s in (state, bare)]
    assert ends[0].step == 5
    assert_same(*ends)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("npt", {"timestep": 1.0}),
        ("npt", {"ttime": None}),
        ("npt", {"pfactor": None}),
        ("npt", {"mask": (1, 1, 0)}),
        ("mtk", {"tchain": 5}),
        ("mtk", {"tdamp": 100.0}),
        ("mtk, mask", {"mask": (0, 0, 1)}),
        ("isomtk", {"pchain": 1}),
    ],
)
def test_settings_that_thermostat_and_barostat_hang_on_start_them_afresh(name, changes):
    """Else a cell whose barostat was switched off would go on growing at its last speed."""
    state = advance(begin(ENSEMBLES[name]), ENSEMBLES[name], 4)
    bare = MDState(state.structure, state.step, state.rng)
    md = ENSEMBLES[name].model_copy(update=changes)
    assert_same(advance(state, md, 3), advance(bare, md, 3))


@extended
def test_another_pressure_or_temperature_leaves_thermostat_and_barostat_as_they_are(name):
    md = ENSEMBLES[name].model_copy(update={"pressure": 3e9, "temperature": 350.0})
    state = advance(begin(ENSEMBLES[name]), ENSEMBLES[name], 4)
    dynamics, rng = resume(state, md, FreshEMT())
    assert capture(dynamics, rng, state.step).extras == state.extras


def test_constant_energy_is_constant_and_its_error_falls_with_the_square_of_the_timestep():
    def error(timestep):
        md = MD(stat_ensemble="nve", temperature=300.0, timestep=timestep)
        dynamics, _ = resume(begin(md), md, EMT())
        energies = np.array(
            [dynamics.atoms.get_total_energy() for _ in dynamics.irun(int(800 / timestep))]
        )
        half = len(energies) // 2
        drift = abs(energies[half:].mean() - energies[:half].mean())
        assert drift < 0.3 * energies.std()
        return energies.std()

    assert error(8.0) / error(4.0) == pytest.approx(4, rel=0.25)
    assert error(2.0) < 1e-3 * units.kB * 300 * 12


@pytest.mark.parametrize("name", ["nvt", "nve", "berendsen", "npt"])
def test_the_centre_of_mass_stays_at_rest(name):
    state = advance(begin(ENSEMBLES[name]), ENSEMBLES[name], 30)
    np.testing.assert_allclose(state.structure.get_momenta().sum(axis=0), 0, atol=1e-10)


@pytest.mark.parametrize("name", ["mtk", "isomtk"])
def test_mtk_moves_the_centre_of_mass_that_its_thermostat_counts(name):
    """A state that comes from an integrator that held it is given the motion."""
    rng = random_stream(1)
    md, held = ENSEMBLES[name], ENSEMBLES["nvt"]
    masses = alloy().get_masses()
    squares = []
    for before in (md, held):
        for _ in range(150):
            dynamics, _ = resume(start(alloy(), before, rng), md, FreshEMT())
            momentum = dynamics.atoms.get_momenta().sum(axis=0)
            squares.append((momentum**2).sum() / masses.sum() / units.kB / md.temperature)
    for values in np.split(np.array(squares), 2):
        # Three squared normal deviates: mean 3, variance 6.
        assert abs(values.mean() - 3) < 3 * np.sqrt(6 / 150)


@pytest.mark.parametrize("name", ["nve", "berendsen", "npt", "mtk", "isomtk"])
def test_a_new_stream_is_another_path_where_there_is_no_noise(name):
    md = ENSEMBLES[name]
    state = advance(begin(md), md, 4)
    others = [new_stream(state, random_stream(42, rollback), md) for rollback in (1, 1, 2)]
    assert_same(others[0], others[1])
    for other in others:
        assert (other.step, other.extras) == (4, {})
        np.testing.assert_array_equal(other.structure.positions, state.structure.positions)
    ends = [advance(s, md, 5).structure.positions for s in (state, others[0], others[2])]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(ends[a] - ends[b]).max() > 1e-3


def test_a_new_stream_is_new_noise_alone_for_langevin():
    md = ENSEMBLES["nvt"]
    state = begin(md)
    other = new_stream(state, random_stream(42, 1), md)
    assert_same(MDState(other.structure, other.step, state.rng), state)
    assert other.rng != state.rng


def test_a_thermostat_that_is_not_finite_is_an_explosion():
    md = ENSEMBLES["mtk"]
    dynamics, rng = resume(begin(md), md, FreshEMT())
    dynamics._thermostat._p_eta[0] = np.inf
    with pytest.raises(ExplodedError, match="_p_eta of MTKNPT"):
        capture(dynamics, rng, 1)


@pytest.mark.parametrize(
    ("barostat", "own"),
    [
        ("berendsen", {"pressure_au": 0.01}),
        ("npt", {"external_stress": 0.01}),
        ("mtk", {}),
        ("isomtk", {}),
    ],
)
def test_pressure_in_pascal_wins_over_the_barostats_own(barostat, own):
    md = MD(stat_ensemble="npt", barostat=barostat, **own)
    assert target_pressure(md) == (0.01 if own else pytest.approx(101325 * units.Pascal))
    md = MD(stat_ensemble="npt", barostat=barostat, pressure=2e9, **own)
    assert target_pressure(md) == pytest.approx(2 * units.GPa)


def npt(barostat, **changes):
    return MD(stat_ensemble="npt", barostat=barostat, **changes)


@pytest.mark.parametrize(
    ("atoms", "md", "reason"),
    [
        (molecule("H2O"), npt("mtk"), "periodic in all three"),
        (Atoms("Cu2", cell=[3, 3, 9], pbc=[1, 1, 0]), npt("berendsen"), "periodic in all three"),
        (
            Atoms("Cu2", cell=[[3, 0, 0], [0, 3, 0], [3, 3, 0]], pbc=True),
            npt("isomtk"),
            "in one plane",
        ),
        (Atoms("Cu2", pbc=True), npt("npt"), "in one plane"),
        (alloy(), npt("mtk", mask=(0, 0, 0)), "forbids all three"),
        (bulk("Cu"), npt("npt"), "single atom"),
        (bulk("Cu"), npt("berendsen"), "single atom"),
        (bulk("Cu"), MD(stat_ensemble="nve"), "single atom"),
        (bulk("Cu"), MD(stat_ensemble="nvt"), "single atom"),
    ],
)
def test_says_why_a_geometry_cannot_be_run(atoms, md, reason):
    assert reason in why_not(atoms, md)


@every_ensemble
def test_has_nothing_against_what_can_be_run(md):
    left_handed = alloy()
    left_handed.set_cell(left_handed.cell.array[[1, 0, 2]])
    aligned = bulk("Cu", cubic=True)
    for atoms in (aligned,) if md.mask else (aligned, alloy(), left_handed):
        assert why_not(atoms, md) is None
        advance(begin(md, atoms), md, 2)


@pytest.mark.parametrize("name", ["berendsen, centre free", "mtk", "isomtk"])
def test_a_single_atom_runs_where_its_centre_may_move(name):
    assert why_not(bulk("Cu"), ENSEMBLES[name]) is None
    state = advance(begin(ENSEMBLES[name], bulk("Cu")), ENSEMBLES[name], 5)
    assert np.isfinite(state.structure.positions).all()


@pytest.mark.parametrize("barostat", ["berendsen", "mtk"])
def test_a_mask_needs_a_cell_along_the_axes(barostat: str) -> None:
    md = MD(stat_ensemble="npt", barostat=barostat, mask=[1, 1, 0])
    assert why_not(bulk("Cu", cubic=True), md) is None
    assert "must lie along them" in why_not(bulk("Cu") * 2, md)


@pytest.mark.parametrize(
    "name", ["nvt", "nve", "berendsen", "npt", "npt, mask", "mtk", "mtk, mask", "isomtk"]
)
def test_a_state_that_version_0_1_0_left_goes_on_as_it_did_there(name):
    """`NAME-8.json` is what commit 8e65e71 made of `NAME-4.json` in four steps."""
    before, after = (load_state(OLD / f"{name.replace(', ', '-')}-{step}.json") for step in (4, 8))
    found = advance(before, ENSEMBLES[name], 4)
    for of in (Atoms.get_positions, Atoms.get_momenta, Atoms.get_cell):
        np.testing.assert_allclose(of(found.structure), of(after.structure), rtol=0, atol=1e-11)
    assert (found.step, found.rng) == (after.step, after.rng)
    assert found.extras.keys() == after.extras.keys()
    for variable, value in after.extras.get("variables", {}).items():
        np.testing.assert_allclose(
            found.extras["variables"][variable], value, rtol=1e-9, atol=1e-11
        )
