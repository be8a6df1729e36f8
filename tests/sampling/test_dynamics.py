"""MD: starting velocities, the canonical ensemble, random streams and the state on disk."""

import json

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.calculator import Calculator

from aimspax_core.errors import DamagedError, NewerReleaseError
from aimspax_core.sampling.dynamics import (
    MDState,
    capture,
    load_state,
    new_stream,
    random_stream,
    resume,
    save_state,
    start,
)
from aimspax_core.settings.md import MD

TEMPERATURE = 300.0


class Springs(Calculator):
    """Atoms bound to each other, every pair by the same spring; energy in eV."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012
    stiffness = 2.0

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        self.atoms = atoms.copy()
        away = atoms.positions - atoms.positions.mean(axis=0)
        n = len(atoms)
        self.results = {
            "energy": 0.5 * self.stiffness * n * (away**2).sum(),
            "forces": -self.stiffness * n * away,
        }


def md(**changes):
    values = {"temperature": TEMPERATURE, "timestep": 1.0, "friction": 0.02, "fixcm": True}
    return MD(stat_ensemble="nvt", **(values | changes))


def trimer():
    """Three unlike atoms: small enough to see degrees of freedom miscounted."""
    return Atoms("HCO", positions=[[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0]])


def advance(state, settings, steps):
    dynamics, rng = resume(state, settings, Springs())
    dynamics.run(steps)
    return capture(dynamics, rng, state.step + steps)


def same(a: MDState, b: MDState) -> bool:
    return (
        a.structure == b.structure
        and np.array_equal(a.structure.get_momenta(), b.structure.get_momenta())
        and (a.step, a.rng, a.extras) == (b.step, b.rng, b.extras)
    )


def error_of_mean(series, blocks=20):
    """Return the standard error of a correlated series' mean, from the means of its blocks."""
    means = np.array([block.mean() for block in np.array_split(series, blocks)])
    return means.std(ddof=1) / np.sqrt(blocks)


@pytest.mark.slow
@pytest.mark.parametrize("fixcm", [True, False])
def test_langevin_samples_the_canonical_ensemble(fixcm):
    """Equipartition, for momenta and positions: each quadratic degree of freedom holds kT/2."""
    settings = md(fixcm=fixcm)
    dynamics, _ = resume(start(trimer(), settings, random_stream(1)), settings, Springs())
    kinetic, potential = [], []
    dynamics.run(1000)
    for _ in dynamics.irun(12_000):
        kinetic.append(dynamics.atoms.get_kinetic_energy())
        potential.append(dynamics.atoms.get_potential_energy())
    half_kt = 0.5 * units.kB * TEMPERATURE
    for series, freedom in ((kinetic, 6 if fixcm else 9), (potential, 6)):
        values = np.array(series) / (freedom * half_kt)
        error = error_of_mean(values)
        assert error < 0.06
        assert abs(values.mean() - 1) < 3 * error


def test_fixcm_holds_the_centre_of_mass():
    settings = md()
    state = advance(start(trimer(), settings, random_stream(2)), settings, 500)
    np.testing.assert_allclose(
        state.structure.get_center_of_mass(), trimer().get_center_of_mass(), rtol=0, atol=1e-10
    )
    np.testing.assert_allclose(state.structure.get_momenta().sum(axis=0), 0, atol=1e-10)


def test_constraint_does_not_leak_into_states_or_the_given_atoms():
    settings, atoms = md(), trimer()
    begin = start(atoms, settings, random_stream(2))
    end = advance(begin, settings, 3)
    assert not (atoms.constraints or begin.structure.constraints or end.structure.constraints)
    assert end.structure.calc is None


@pytest.mark.parametrize(("fixcm", "freedom"), [(True, 6), (False, 9)])
def test_starting_velocities_have_the_temperature_of_their_degrees_of_freedom(fixcm, freedom):
    rng, settings = random_stream(3), md(fixcm=fixcm)
    kinetic = [start(trimer(), settings, rng).structure.get_kinetic_energy() for _ in range(4000)]
    values = np.array(kinetic) / (0.5 * units.kB * TEMPERATURE)
    # A sum of `freedom` squared normal deviates: mean `freedom`, variance 2 `freedom`.
    assert abs(values.mean() - freedom) < 3 * np.sqrt(2 * freedom / 4000)
    assert values.var() == pytest.approx(2 * freedom, rel=0.1)


def test_start_keeps_charge_and_spin_and_ignores_given_momenta():
    atoms = trimer()
    atoms.info |= {"charge": 1.0, "spin": 2.0}
    moving = atoms.copy()
    moving.set_momenta(np.ones((3, 3)))
    a, b = (start(x, md(), random_stream(4)) for x in (atoms, moving))
    assert same(a, b)
    assert a.structure.info == {"charge": 1.0, "spin": 2.0}


def test_streams_are_reproducible():
    assert random_stream(42, 3, 1).random() == random_stream(42, 3, 1).random()


def test_streams_differ_between_trajectories_rollbacks_and_seeds():
    paths = [(42, 0), (42, 1), (42, 0, 0), (42, 0, 1), (43, 0), (42,)]
    assert len({random_stream(*path).random() for path in paths}) == len(paths)


def test_trajectories_see_different_noise():
    settings = md()
    ends = [
        advance(start(trimer(), settings, random_stream(42, t)), settings, 5) for t in (0, 0, 1)
    ]
    assert same(ends[0], ends[1])
    assert not np.allclose(ends[0].structure.positions, ends[2].structure.positions)


def test_new_stream_changes_the_noise_alone():
    settings = md()
    state = start(trimer(), settings, random_stream(42, 0))
    other = new_stream(state, random_stream(42, 0, 1), settings)
    assert same(MDState(other.structure, other.step, state.rng), state)
    a, b = advance(state, settings, 2), advance(other, settings, 2)
    assert not np.allclose(a.structure.positions, b.structure.positions)


def test_going_on_equals_never_having_stopped():
    settings = md()
    begin = start(molecule("CH3CH2OH"), settings, random_stream(5))
    unbroken = advance(begin, settings, 30)
    broken = begin
    for steps in (1, 7, 2, 20):
        broken = advance(broken, settings, steps)
    assert same(broken, unbroken)


def test_state_file_is_exact(tmp_path):
    settings = md()
    atoms = molecule("CH3CH2OH", cell=[9.1, 9.2, 9.3], pbc=[True, False, True])
    atoms.info["charge"] = 1.0
    state = advance(start(atoms, settings, random_stream(6)), settings, 5)
    save_state(tmp_path / "state.json", state)
    loaded = load_state(tmp_path / "state.json")
    assert same(loaded, state)
    assert loaded.structure.info == state.structure.info
    assert same(advance(loaded, settings, 3), advance(state, settings, 3))


def test_state_file_is_replaced_whole(tmp_path):
    path = tmp_path / "state.json"
    state = start(trimer(), md(), random_stream(7))
    save_state(path, state)
    broken = MDState(state.structure.copy(), 1, state.rng)
    broken.structure.positions[0, 0] = np.nan
    with pytest.raises(ValueError, match="JSON"):
        save_state(path, broken)
    assert same(load_state(path), state)
    assert [file.name for file in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "aimspax-md-state", "version": 0}'])
def test_unreadable_state_names_the_file(tmp_path, text):
    path = tmp_path / "state.json"
    path.write_text(text)
    with pytest.raises(DamagedError, match=r"state\.json"):
        load_state(path)


def test_state_of_a_newer_release_is_refused_with_its_name_and_is_not_damaged(tmp_path):
    path = tmp_path / "state.json"
    path.write_text('{"format": "aimspax-md-state", "version": 9, "aimspax": "9.8.7"}')
    with pytest.raises(NewerReleaseError) as caught:
        load_state(path)
    assert caught.value.version == "9.8.7"


def test_missing_state_names_the_file(tmp_path):
    with pytest.raises(DamagedError, match=r"state\.json"):
        load_state(tmp_path / "state.json")


def test_state_file_is_documented_json(tmp_path):
    save_state(tmp_path / "state.json", start(trimer(), md(), random_stream(8)))
    data = json.loads((tmp_path / "state.json").read_text())
    assert set(data) == {
        "format",
        "version",
        "aimspax",
        "step",
        "structure",
        "momenta",
        "rng",
        "extras",
        "drawn_for",
        "checksum",
    }


def test_no_digit_of_a_state_file_changes_unnoticed(tmp_path):
    path = tmp_path / "state.json"
    state = start(molecule("H2O"), md(), random_stream(8))
    save_state(path, state)
    text = path.read_text()
    digits = [place for place, letter in enumerate(text) if letter.isdigit()][::7]
    noticed = 0
    for place in digits:
        path.write_text(text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :])
        try:
            assert same(load_state(path), state), "the last digit of a number may mean nothing"
        except DamagedError:
            noticed += 1
    assert noticed >= len(digits) - 5


def test_a_state_file_of_release_0_1_0_has_no_checksum_and_loads(tmp_path):
    path = tmp_path / "state.json"
    state = start(trimer(), md(), random_stream(8))
    save_state(path, state)
    old = json.loads(path.read_text())
    del old["checksum"]
    path.write_text(json.dumps(old))
    assert same(load_state(path), state)
