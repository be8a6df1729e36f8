"""Constant pressure: the physics of each barostat, masks, and the cells that they can take."""

from functools import cache

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT

from aimspax_core.sampling.dynamics import MDState, random_stream, resume, start
from aimspax_core.settings.md import MD

TEMPERATURE = 300.0
GPA = 4.0
BAROSTATS = ("berendsen", "npt", "mtk", "isomtk")
every_barostat = pytest.mark.parametrize("barostat", BAROSTATS)


def md(barostat, **changes):
    """Times that suit copper; Å³/eV and eV/Å³ from its bulk modulus of 140 GPa."""
    modulus = 140 * units.GPa
    values = {
        "temperature": TEMPERATURE, "pressure": GPA * 1e9, "timestep": 4.0,
        "taut": 200.0, "taup": 500.0, "compressibility_au": 1 / modulus,
        "ttime": 80.0, "pfactor": modulus * (80 * units.fs) ** 2 / units.fs,
        "tdamp": 80.0, "pdamp": 600.0,
    }  # fmt: skip
    return MD(stat_ensemble="npt", barostat=barostat, **(values | changes))


def copper():
    """Eight atoms in a cell that is not triangular: small enough to see freedom miscounted."""
    return bulk("Cu") * 2


def run(state, settings):
    """Return a new integrator on plain EMT."""
    return resume(state, settings, EMT())[0]


def begin(settings, atoms=None, seed=11):
    return start(copper() if atoms is None else atoms, settings, random_stream(seed))


@cache
def sampled(barostat):
    """Return pressures (GPa) and kinetic energies (kT/2), after equilibration.

    From about the right density: nothing damps the swinging of a cell that starts far from it.
    """
    settings, atoms = md(barostat), copper()
    atoms.set_cell(0.99 * atoms.cell, scale_atoms=True)
    dynamics = run(begin(settings, atoms), settings)
    dynamics.run(300)
    pressures, kinetic = [], []
    for _ in dynamics.irun(600 if barostat == "berendsen" else 2000):
        stress = dynamics.atoms.get_stress(include_ideal_gas=True)
        pressures.append(-stress[:3].mean() / units.GPa)
        kinetic.append(2 * dynamics.atoms.get_kinetic_energy() / units.kB / TEMPERATURE)
    return np.array(pressures), np.array(kinetic)


def error_of_mean(series, blocks=20):
    """Return the standard error of a correlated series' mean, from the means of its blocks."""
    means = np.array([block.mean() for block in np.array_split(series, blocks)])
    return means.std(ddof=1) / np.sqrt(blocks)


@pytest.mark.slow
@every_barostat
def test_the_mean_pressure_is_the_target(barostat):
    """Up to a few kT/V, in which ensembles that let a cell breathe differ."""
    pressures, _ = sampled(barostat)
    error = error_of_mean(pressures)
    few = 3 * units.kB * TEMPERATURE / copper().get_volume() / units.GPa
    assert few < 0.15
    assert error < 0.5
    assert abs(pressures.mean() - GPA) < few + 4 * error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("barostat", "freedom"), [("berendsen", 21), ("npt", 21), ("mtk", 24), ("isomtk", 24)]
)
def test_the_mean_temperature_counts_the_centre_of_mass_where_it_moves(barostat, freedom):
    _, kinetic = sampled(barostat)
    error = error_of_mean(kinetic)
    assert error < 0.7
    assert abs(kinetic.mean() - freedom) < 0.1 + 4 * error


def conserved(settings, time_fs):
    """Return the quantity that an integrator conserves, and the atoms' total energy, in eV."""
    dynamics = run(begin(settings), settings)
    ask = (
        dynamics.get_gibbs_free_energy
        if settings.barostat == "npt"
        else dynamics.get_conserved_energy
    )
    values = [
        (ask(), dynamics.atoms.get_total_energy())
        for _ in dynamics.irun(int(time_fs / settings.timestep))
    ]
    return np.array(values).T


@pytest.mark.parametrize("barostat", ["npt", "mtk", "isomtk"])
def test_what_should_be_conserved_is(barostat):
    """Measured against the energy that thermostat and barostat exchange with the atoms."""
    constant, energy = conserved(md(barostat), 400)
    assert constant.std() < 0.1 * energy.std()


@pytest.mark.parametrize("barostat", ["mtk", "isomtk"])
def test_mtk_conserves_four_times_better_with_half_the_timestep(barostat):
    """Not so `npt`: ASE integrates its thermostat's energy to first order only."""
    errors = [conserved(md(barostat, timestep=t), 300)[0].std() for t in (4.0, 2.0)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.4)


@pytest.mark.parametrize("mask", [(1, 0, 1), (0, 0, 1)])
@pytest.mark.parametrize("barostat", ["berendsen", "npt", "mtk"])
def test_mask_holds_directions_and_frees_the_others(barostat, mask):
    settings = md(barostat, mask=mask)
    atoms = bulk("Cu", cubic=True)
    dynamics = run(begin(settings, atoms), settings)
    dynamics.run(60)
    change = dynamics.atoms.cell.lengths() - atoms.cell.lengths()
    free = np.array(mask, dtype=bool)
    np.testing.assert_allclose(change[~free], 0, atol=1e-12)
    assert (np.abs(change[free]) > 1e-3).all()


def test_npt_takes_a_mask_of_strains():
    """Lengths may change, angles not."""
    settings = md("npt", mask=((1, 0, 0), (0, 1, 0), (0, 0, 1)))
    dynamics = run(begin(settings, bulk("Cu", cubic=True)), settings)
    dynamics.run(60)
    np.testing.assert_allclose(dynamics.atoms.cell.angles(), 90, atol=1e-10)
    assert np.ptp(dynamics.atoms.cell.lengths()) > 1e-3


@pytest.mark.parametrize("barostat", ["berendsen", "isomtk"])
def test_isotropic_barostats_keep_the_shape(barostat):
    settings = md(barostat)
    dynamics = run(begin(settings), settings)
    dynamics.run(60)
    scale = dynamics.atoms.cell.array / np.where(copper().cell.array == 0, np.nan, copper().cell)
    assert np.nanmax(scale) - np.nanmin(scale) < 1e-12
    assert abs(np.nanmean(scale) - 1) > 1e-4


def energy(atoms):
    atoms = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    atoms.calc = EMT()
    return atoms.get_potential_energy()


def left_handed():
    atoms = copper()
    atoms.set_cell(atoms.cell.array[[1, 0, 2]])
    return atoms


@pytest.mark.parametrize("make", [copper, left_handed])
def test_npt_turns_a_cell_that_is_not_triangular(make):
    """Rigidly: the same crystal, with the same handedness."""
    atoms = make()
    atoms.rattle(0.1, seed=2)
    turned = begin(md("npt"), atoms).structure
    cell = turned.cell.array
    assert not np.tril(cell, -1).any()
    assert np.linalg.det(cell) == pytest.approx(np.linalg.det(atoms.cell.array), rel=1e-12)
    for mic in (False, True):
        np.testing.assert_allclose(
            turned.get_all_distances(mic=mic), atoms.get_all_distances(mic=mic), atol=1e-12
        )
    assert energy(turned) == pytest.approx(energy(atoms), abs=1e-10)


@pytest.mark.parametrize("barostat", ["berendsen", "mtk", "isomtk"])
def test_other_barostats_leave_the_cell_as_it_is(barostat):
    structure = begin(md(barostat)).structure
    np.testing.assert_array_equal(structure.cell.array, copper().cell.array)
    np.testing.assert_array_equal(structure.positions, copper().positions)


def test_npt_leaves_a_triangular_cell_as_it_is():
    atoms = Atoms("Cu4", bulk("Cu", cubic=True).positions, pbc=True)
    atoms.set_cell([[3.6, 0, 0], [0.5, 3.6, 0], [0.1, 0.2, 3.6]])
    for cell in (atoms.cell.array, atoms.cell.array.T.copy()):
        atoms.set_cell(cell)
        structure = begin(md("npt"), atoms).structure
        np.testing.assert_array_equal(structure.cell.array, cell)
        np.testing.assert_array_equal(structure.positions, atoms.positions)


def test_noise_in_a_lower_triangular_cell_does_not_swap_its_axes():
    """Else a mask would mean other directions than it did in the file."""
    atoms = bulk("Cu", cubic=True)
    atoms.set_cell([[3.6, 1e-15, 0], [0.5, 3.6, 1e-15], [0.1, 0.2, 3.6]])
    structure = begin(md("npt"), atoms).structure
    np.testing.assert_allclose(structure.cell.array, atoms.cell.array, atol=1e-14)
    assert not np.triu(structure.cell.array, 1).any()


def test_a_state_of_another_integrator_is_turned_with_its_momenta():
    nvt = MD(stat_ensemble="nvt", timestep=4.0)
    before = run(begin(nvt), nvt)
    before.run(5)
    state = MDState(before.atoms.copy(), 5, begin(nvt).rng)
    state.structure.set_constraint()
    after = run(state, md("npt")).atoms
    assert not np.tril(after.cell.array, -1).any()
    assert energy(after) == pytest.approx(energy(before.atoms), abs=1e-10)
    components = [a.get_momenta() @ a.cell.array.T for a in (after, before.atoms)]
    np.testing.assert_allclose(*components, atol=1e-10)


def test_npt_moves_a_left_handed_crystal_as_its_mirror_image():
    settings = md("npt")
    right = begin(settings)
    mirrored = right.structure.copy()
    mirrored.set_positions(-mirrored.positions)
    mirrored.set_momenta(-mirrored.get_momenta())
    mirrored.set_cell(-mirrored.cell.array)
    ends = []
    for state in (right, MDState(mirrored, 0, right.rng)):
        dynamics = run(state, settings)
        dynamics.run(20)
        ends.append(dynamics.atoms)
    np.testing.assert_allclose(ends[0].positions, -ends[1].positions, atol=1e-10)
    np.testing.assert_allclose(ends[0].cell.array, -ends[1].cell.array, atol=1e-10)


@every_barostat
def test_the_total_momentum_at_the_start_is_what_the_integrator_counts(barostat):
    momentum = np.abs(begin(md(barostat)).structure.get_momenta().sum(axis=0)).max()
    assert (momentum > 1e-3) == (barostat in ("mtk", "isomtk"))


def test_npt_says_nothing_about_what_rounding_left_of_the_momentum(capfd):
    settings = md("npt")
    state = begin(settings)
    state.structure.set_momenta(state.structure.get_momenta() + 1e-3)
    run(state, settings).run(1)
    assert capfd.readouterr().err == ""
