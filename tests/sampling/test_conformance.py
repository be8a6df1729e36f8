"""What every ensemble of MD must hold; docs/extending/md-ensemble.md tells how to try a new one."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT

from aimspax_core.prediction import Prediction
from aimspax_core.sampling.dynamics import (
    MDState,
    capture,
    describe,
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
from aimspax_core.sampling.segment import SegmentSettings, Start, run_segment
from aimspax_core.settings.derived.reference_page import page
from aimspax_core.settings.ensembles import ENSEMBLES, MDKeys, Row
from aimspax_core.settings.geometries.held_atoms import HeldAtoms
from aimspax_core.settings.md import MD
from aimspax_core.uncertainty.threshold import Window

every_row = pytest.mark.parametrize("row", ENSEMBLES, ids=lambda row: row.name)


class Watched(Calculator):
    """EMT whose answer depends on the structure alone, and that knows what it was asked for."""

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def get_property(self, name: str, atoms: Any = None, allow_calculation: bool = True) -> Any:
        self.asked.add(name)
        return super().get_property(name, atoms, allow_calculation)

    def calculate(self, atoms: Any = None, properties: Any = (), system_changes: Any = ()) -> None:
        self.atoms = atoms.copy()
        atoms = atoms.copy()
        atoms.set_constraint()
        atoms.calc = EMT()
        self.results = {
            "energy": atoms.get_potential_energy(),
            "forces": atoms.get_forces(),
            "stress": atoms.get_stress(),
        }


def settings(row: Row, **changes: Any) -> MD:
    """The section MD that chooses an ensemble."""
    chosen = {row.chosen_by: row.name} if row.chosen_by else {}
    return MD(stat_ensemble=row.stat_ensemble, timestep=2.0, **chosen, **changes)


def crystal() -> Atoms:
    """Four atoms of two masses, not in equilibrium, in a cell along the axes."""
    atoms = bulk("Cu", cubic=True)
    atoms.symbols[1] = "Al"
    atoms.rattle(0.05, seed=1)
    return atoms


def begun(md: MD, seed: int = 0, atoms: Atoms | None = None) -> MDState:
    return start(crystal() if atoms is None else atoms, md, random_stream(seed))


def advanced(state: MDState, md: MD, steps: int, calculator: Calculator | None = None) -> MDState:
    dynamics, rng = resume(state, md, calculator or Watched())
    dynamics.run(steps)
    return capture(dynamics, rng, state.step + steps)


def content(state: MDState) -> list[Any]:
    """All of a state, exactly."""
    atoms = state.structure
    arrays = (atoms.positions, atoms.get_momenta(), atoms.cell.array)
    return [array.tolist() for array in arrays] + [state.step, state.rng, state.extras]


@every_row
def test_the_settings_choose_it(row: Row) -> None:
    assert settings(row).row is row
    assert [other.name for other in ENSEMBLES].count(row.name) == 1
    alone = row.chosen_by is None
    assert not alone or [one.stat_ensemble for one in ENSEMBLES].count(row.stat_ensemble) == 1


@every_row
def test_its_settings_reach_another_process(row: Row) -> None:
    assert pickle.loads(pickle.dumps(settings(row))) == settings(row)


@every_row
def test_its_name_and_keys_are_in_the_reference_of_settings(row: Row) -> None:
    text = page()
    assert f"`{row.name if row.chosen_by else row.stat_ensemble}`" in text
    for key, field in row.ensemble.keys.model_fields.items():
        assert f"| `{key}`" in text
        assert field.description
        assert key == "stat_ensemble" or not field.is_required(), f"{key} has no default"


@every_row
def test_a_key_means_the_same_as_in_other_ensembles(row: Row) -> None:
    for other in ENSEMBLES:
        for key, field in other.ensemble.keys.model_fields.items():
            own = row.ensemble.keys.model_fields.get(key, field)
            assert (own.annotation, own.default) == (field.annotation, field.default)
            assert own.description == field.description


@every_row
def test_its_own_keys_mean_something_to_it(row: Row) -> None:
    given = {
        key: field.default
        for key, field in row.ensemble.keys.model_fields.items()
        if key not in MDKeys.model_fields
    }
    assert settings(row, **given).idle == []


@every_row
def test_it_says_what_it_is(row: Row) -> None:
    md = settings(row, temperature=250.0)
    assert row.title in describe(md)
    assert "250 K" in describe(md)
    assert ("bar" in describe(md)) == (target_pressure(md) is not None)


@every_row
def test_atoms_move_and_stay_finite(row: Row) -> None:
    state = advanced(begun(settings(row)), settings(row), 20)
    moved = np.abs(state.structure.positions - begun(settings(row)).structure.positions)
    assert 1e-3 < moved.max() < 5
    assert state.step == 20


@every_row
def test_going_on_from_a_file_equals_never_having_stopped(row: Row, tmp_path: Path) -> None:
    md, file = settings(row), tmp_path / "state.json"
    broken = begun(md)
    for steps in (1, 4, 2):
        save_state(file, broken)
        broken = advanced(load_state(file), md, steps)
    assert content(broken) == content(advanced(begun(md), md, 7))


@every_row
def test_looking_at_a_state_changes_nothing(row: Row) -> None:
    state = advanced(begun(settings(row)), settings(row), 3)
    assert content(advanced(state, settings(row), 0)) == content(state)


@every_row
def test_a_seed_decides_the_path(row: Row) -> None:
    first, again, other = (
        content(advanced(begun(settings(row), seed), settings(row), 3)) for seed in (1, 1, 2)
    )
    assert first == again
    assert first[0] != other[0]


@every_row
def test_a_new_stream_leads_elsewhere_from_the_same_place(row: Row) -> None:
    md = settings(row)
    state = advanced(begun(md), md, 3)
    other = new_stream(state, random_stream(9), md)
    assert other.step == 3
    np.testing.assert_array_equal(other.structure.positions, state.structure.positions)
    ends = [advanced(one, md, 3).structure.positions for one in (state, other)]
    assert np.abs(ends[0] - ends[1]).max() > 1e-4


@every_row
def test_the_stress_is_asked_for_where_it_is_said_to_be(row: Row) -> None:
    calculator = Watched()
    state = advanced(begun(settings(row)), settings(row), 3, calculator)
    assert ("stress" in calculator.asked) == needs_stress(settings(row))
    changed = not np.array_equal(state.structure.cell.array, crystal().cell.array)
    assert changed <= row.ensemble.moves_cell


@every_row
def test_a_centre_of_mass_that_is_held_stays_at_rest(row: Row) -> None:
    md = settings(row)
    momentum = advanced(begun(md), md, 10).structure.get_momenta().sum(axis=0)
    assert not row.ensemble.holds_centre(md) or np.abs(momentum).max() < 1e-10


@every_row
def test_only_a_moving_cell_needs_a_periodic_geometry(row: Row) -> None:
    assert why_not(crystal(), settings(row)) is None
    assert (why_not(molecule("H2O"), settings(row)) is not None) == row.ensemble.moves_cell


@every_row
def test_its_integrator_keeps_what_its_row_says(row: Row) -> None:
    md = settings(row)
    dynamics, rng = resume(begun(md), md, Watched())
    dynamics.run(2)
    extras = capture(dynamics, rng, 2).extras
    json.dumps(extras, allow_nan=False)
    kept = row.ensemble.kept.get(type(dynamics).__name__)
    assert bool(extras) == (kept is not None)
    if kept is not None:
        assert set(extras["variables"]) == set(kept.variables)
        assert set(kept.lengths) <= set(kept.variables)


@every_row
def test_no_other_ensemble_says_otherwise_what_its_integrators_keep(row: Row) -> None:
    for other in ENSEMBLES:
        for name, kept in other.ensemble.kept.items():
            assert row.ensemble.kept.get(name, kept) == kept


@every_row
def test_it_goes_on_from_where_every_other_was(row: Row) -> None:
    for other in ENSEMBLES:
        state = advanced(begun(settings(other)), settings(other), 2)
        end = advanced(state, settings(row), 2)
        assert end.step == 4
        assert np.isfinite(end.structure.positions).all()


@every_row
def test_a_key_of_another_ensemble_is_idle(row: Row) -> None:
    for other in ENSEMBLES:
        for key in set(other.ensemble.keys.model_fields) - set(row.ensemble.keys.model_fields):
            make = partial(settings, row)
            value = other.ensemble.keys.model_fields[key].default
            assert make(**{key: value}).idle == [key]


@every_row
def test_it_holds_atoms_or_says_why_it_cannot(row: Row) -> None:
    md, held = settings(row), HeldAtoms(fixed=(0,), planes=(((0.0, 0.0, 1.0), (1,)),))
    why = why_not(crystal(), md, held)
    assert (why is not None) == bool(row.ensemble.cannot_hold)
    if why is not None:
        assert row.ensemble.cannot_hold in why
        return
    state = start(crystal(), md, random_stream(1), held)
    dynamics, _ = resume(state, md, Watched())
    dynamics.run(10)
    moved = dynamics.atoms.positions - crystal().positions
    assert not moved[0].any() and moved[1, 2] == 0
    assert np.abs(moved[2:]).min() > 0


class Batched:
    """EMT with stress for many structures, as one committee of two equal members."""

    def __call__(self, structures: Sequence[Atoms]) -> list[Prediction]:
        return [self._one(atoms) for atoms in structures]

    @staticmethod
    def _one(atoms: Atoms) -> Prediction:
        plain = atoms.copy()
        plain.set_constraint()
        plain.calc = EMT()
        energy, forces = plain.get_potential_energy(), plain.get_forces()
        both = np.stack([forces, forces])
        stress = plain.get_stress(voigt=False)
        return Prediction(energy, forces, np.array([energy, energy]), both, stress)


@every_row
def test_each_trajectory_of_a_batch_has_its_own_temperature_and_pressure(row: Row) -> None:
    section = settings(row, temperature=[200, 900], pressure=[0, 2e10, 1e9])
    mds = [section.at(number) for number in range(3)]

    def halted(*numbers: int) -> dict[int, MDState]:
        begin = [Start(n, begun(mds[n], n), mds[n]) for n in numbers]
        of = SegmentSettings(10, 1e9, "max_atomic_sd", 10, np.inf, 1e3, np.inf)
        results = run_segment(begin, of, [Window()], Batched(), lambda atoms: None).results
        return {r.trajectory: r.state for r in results if r.state is not None}

    together = halted(0, 1, 2)
    for number, md in enumerate(mds):
        assert content(halted(number)[number]) == content(together[number])
        swapped = md.model_copy(
            update={"temperature": 500.0} if row.ensemble.pressure is None else {"pressure": 5e10}
        )
        other = advanced(begun(swapped, number), swapped, 10)
        assert content(other) != content(together[number])
    held = [target_pressure(md) for md in mds]
    assert (len(set(held)) == 3) == (row.ensemble.pressure is not None)
