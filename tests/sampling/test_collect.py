"""Sampling of the initial dataset: goes on where it was, and survives explosions."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes

from aimspax_core.errors import StructureError
from aimspax_core.reference.ase.section import AseReference
from aimspax_core.reference.registry import build_reference
from aimspax_core.reference.tblite.engine import TbliteEngine
from aimspax_core.reference.tblite.section import TbliteReference
from aimspax_core.sampling.collect import MAX_FRESH_STARTS, Collected, begin, collect
from aimspax_core.sampling.dynamics import MDState, load_state, resume, save_state
from aimspax_core.settings.engines import Gate
from aimspax_core.settings.md import MD

MD_SETTINGS = MD(stat_ensemble="nvt", temperature=500.0, timestep=1.0, friction=0.01)
WATER = molecule("H2O")


class Springs(Calculator):
    """Holds each atom in its place; `spoil` may change the forces of a call."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 (ASE's)

    def __init__(self, spoil: Callable[[int, Any], Any] = lambda call, forces: forces) -> None:
        super().__init__()
        self.calls, self.spoil = 0, spoil

    def calculate(
        self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        away = atoms.positions - WATER.positions
        forces = self.spoil(self.calls, -5.0 * away)
        self.results = {"energy": 2.5 * float((away**2).sum()), "forces": forces}


def passes(atoms: Atoms, gate: Gate) -> None:
    """Refuse nothing."""


def sampled(
    points: int = 4,
    state: MDState | None = None,
    calculator: Calculator | None = None,
    pass_gate: Callable[[Atoms, Gate], None] = passes,
    geometry: int = 0,
    snapshot_every: int | None = None,
    max_force: float = 50.0,
    time_is_up: Callable[[], bool] = lambda: False,
    refused_before: int = 0,
) -> Collected:
    state = state or begin(WATER, MD_SETTINGS, geometry)
    calculator = calculator or Springs()
    return collect(
        state,
        calculator,
        geometry=geometry,
        atoms=WATER,
        md=MD_SETTINGS,
        gate=Gate(max_force=max_force),
        points=points,
        skip_step=5,
        snapshot_every=snapshot_every,
        pass_gate=pass_gate,
        time_is_up=time_is_up,
        refused_before=refused_before,
    )


def of(
    atoms: Atoms, md: MD, calculator: Calculator, points: int, skip_step: int,
    state: MDState | None = None,
) -> Collected:  # fmt: skip
    """Points of a trajectory of other atoms under other dynamics."""
    return collect(
        begin(atoms, md, 0) if state is None else state,
        calculator,
        geometry=0,
        atoms=atoms,
        md=md,
        gate=Gate(max_force=50.0),
        points=points,
        skip_step=skip_step,
        pass_gate=passes,
    )


def same(left: MDState, right: MDState) -> None:
    np.testing.assert_array_equal(left.structure.positions, right.structure.positions)
    np.testing.assert_array_equal(left.structure.cell, right.structure.cell)
    np.testing.assert_array_equal(left.structure.get_momenta(), right.structure.get_momenta())
    assert (left.step, left.rng, left.extras) == (right.step, right.rng, right.extras)


def test_a_point_is_taken_every_so_many_steps() -> None:
    calculator = Springs()
    found = sampled(4, calculator=calculator)
    assert (len(found.structures), found.state.step, found.refused) == (4, 20, 0)
    assert calculator.calls == 21
    last = found.structures[-1]
    np.testing.assert_array_equal(last.positions, found.state.structure.positions)
    assert "momenta" not in last.arrays
    assert all(
        (a.positions != b.positions).all()
        for a, b in zip(found.structures, found.structures[1:], strict=False)
    )


@pytest.mark.parametrize(
    "calculator", [Springs, TbliteEngine(TbliteReference(engine="tblite")).calculator]
)
def test_going_on_from_a_state_equals_an_unbroken_run(calculator: Any, tmp_path: Any) -> None:
    whole = sampled(6, calculator=calculator())
    first = sampled(2, calculator=calculator())
    save_state(tmp_path / "state.json", first.state)
    second = sampled(4, load_state(tmp_path / "state.json"), calculator=calculator())
    cut = [*first.structures, *second.structures]
    for one, other in zip(whole.structures, cut, strict=True):
        # tblite's own last digits vary.
        np.testing.assert_allclose(one.positions, other.positions, rtol=0, atol=1e-10)
    if calculator is Springs:
        same(whole.state, second.state)


def test_parts_of_a_run_that_comes_back_early_equal_the_whole() -> None:
    whole = sampled(5, snapshot_every=2)
    parts, state, left = [], None, 5
    while left:
        asked = iter([False, True]).__next__
        parts.append(sampled(left, state, snapshot_every=2, time_is_up=asked))
        state, left = parts[-1].state, left - len(parts[-1].structures)
    assert [(len(part.structures), part.complete) for part in parts] == [
        (2, False),
        (2, False),
        (1, True),
    ]
    same(whole.state, parts[-1].state)
    cut = [structure for part in parts for structure in part.structures]
    for one, other in zip(whole.structures, cut, strict=True):
        np.testing.assert_array_equal(one.positions, other.positions)
    steps = [snapshot.step for part in parts for snapshot in part.snapshots]
    assert steps == [snapshot.step for snapshot in whole.snapshots]


def test_a_run_that_has_all_its_points_in_time_is_complete() -> None:
    assert sampled(2, time_is_up=lambda: False).complete


def test_geometries_see_different_noise() -> None:
    one, other = sampled(1, geometry=0), sampled(1, geometry=1)
    assert (one.structures[0].positions != other.structures[0].positions).all()
    same(one.state, sampled(1, geometry=0).state)


def test_an_explosion_begins_again_with_new_noise() -> None:
    """The eighth call of the forces gives NaN: in the second stretch."""
    broken = Springs(lambda call, forces: forces * (math.nan if call == 8 else 1.0))
    found, calm = sampled(4, calculator=broken), sampled(4)
    assert (len(found.structures), found.refused) == (3, 1)
    np.testing.assert_array_equal(found.structures[0].positions, calm.structures[0].positions)
    assert (found.structures[1].positions != calm.structures[0].positions).all()
    assert all(np.isfinite(atoms.positions).all() for atoms in found.structures)


def test_nan_is_noticed_at_once_and_never_given_to_the_calculator() -> None:
    seen = []

    def spoil(call: int, forces: Any) -> Any:
        seen.append(bool(np.isfinite(forces).all()))
        return forces * (math.nan if call == 3 else 1.0)

    sampled(3, calculator=Springs(spoil))
    assert all(seen)


def test_a_force_too_large_is_an_explosion_before_an_atom_follows_it() -> None:
    seen = []

    class Watched(Springs):
        def calculate(self, atoms: Any = None, *args: Any) -> None:
            seen.append(np.abs(atoms.positions - WATER.positions).max())
            super().calculate(atoms, *args)

    found = sampled(4, calculator=Watched(lambda call, f: f + (1e4 if call == 8 else 0.0)))
    assert (len(found.structures), found.refused) == (3, 1)
    assert max(seen) < 0.5


def test_the_largest_force_is_a_norm_and_the_limit_is_given() -> None:
    def push(call: int, forces: Any) -> Any:
        return forces + (np.array([3.0, 4.0, 0.0]) if call == 8 else 0.0)

    assert sampled(4, calculator=Springs(push), max_force=10.0).refused == 0
    assert sampled(4, calculator=Springs(push), max_force=3.5).refused == 1


@pytest.mark.parametrize(("pbc", "allowed"), [(False, 100), (True, 10000)])
def test_a_fragment_that_leaves_is_an_explosion(pbc: bool, allowed: float) -> None:
    """Under forces that nobody would notice; it is compared with the geometry, not the origin."""
    farthest = []

    class Free(Springs):
        def calculate(self, atoms: Any = None, *args: Any) -> None:
            super().calculate(atoms, *args)
            farthest.append(np.linalg.norm(atoms.positions - away.positions, axis=1).max())
            self.results["forces"] = np.zeros((len(atoms), 3))

    away = WATER.copy()
    away.positions += 2e4
    away.pbc, away.cell = pbc, 10 * np.eye(3)
    md = MD(stat_ensemble="nve", temperature=300.0, timestep=1.0)
    state = begin(away, md, 0)
    velocities = np.zeros((3, 3))
    velocities[1, 0] = allowed / 7.5 / units.fs
    state.structure.set_velocities(velocities)
    found = of(away, md, Free(), 3, 5, state)
    assert (len(found.structures), found.refused) == (2, 1)
    assert allowed < max(farthest) < 1.1 * allowed


def test_a_calculator_that_fails_is_an_explosion() -> None:
    def fail(call: int, forces: Any) -> Any:
        if call == 8:
            raise CalculationFailed("SCF not converged")
        return forces

    found = sampled(4, calculator=Springs(fail))
    assert (len(found.structures), found.refused) == (3, 1)


def test_what_the_gate_refuses_is_counted_and_not_taken() -> None:
    checked = []

    def refuse_second(atoms: Atoms, gate: Gate) -> None:
        checked.append(atoms)
        if len(checked) == 2:
            raise StructureError("too close")

    found = sampled(4, pass_gate=refuse_second)
    assert (len(found.structures), found.refused) == (3, 1)


def test_one_that_always_explodes_gives_what_there_is_and_can_be_tried_again() -> None:
    always_nan = Springs(lambda call, forces: forces * math.nan)
    found = sampled(10, calculator=always_nan)
    assert (found.structures, found.refused) == ((), MAX_FRESH_STARTS + 1)
    np.testing.assert_array_equal(found.state.structure.positions, WATER.positions)
    assert np.isfinite(found.state.structure.get_momenta()).all()
    again = sampled(10, found.state, always_nan)
    assert again.state.rng != found.state.rng, "the same noise would explode again"
    assert len(sampled(2, again.state).structures) == 2


def test_into_however_many_parts_a_step_is_cut_it_ends_after_as_many_explosions() -> None:
    always_nan = Springs(lambda call, forces: forces * math.nan)
    whole = sampled(10, calculator=always_nan)
    part, refused, parts = None, 0, 0
    while part is None or not part.complete:
        part = sampled(
            10 - refused, part and part.state, always_nan, time_is_up=lambda: True,
            refused_before=refused,
        )  # fmt: skip
        refused, parts = refused + part.refused, parts + 1
    assert (refused, parts) == (whole.refused, MAX_FRESH_STARTS + 1)


def test_a_programming_mistake_is_raised() -> None:
    def wrong(call: int, forces: Any) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        sampled(calculator=Springs(wrong))


def test_snapshots_fall_on_steps_of_the_trajectorys_life_over_any_cut() -> None:
    calculator = Springs()
    whole = sampled(6, calculator=calculator, snapshot_every=4)
    assert calculator.calls == 31, "a snapshot costs nothing"
    assert [snapshot.step for snapshot in whole.snapshots] == [4, 8, 12, 16, 20, 24, 28]
    first = sampled(1, snapshot_every=4)
    second = sampled(5, first.state, snapshot_every=4)
    for one, other in zip(whole.snapshots, (*first.snapshots, *second.snapshots), strict=True):
        assert one.step == other.step
        np.testing.assert_array_equal(one.atoms.positions, other.atoms.positions)
        np.testing.assert_array_equal(one.atoms.get_momenta(), other.atoms.get_momenta())


def test_a_snapshot_has_energy_and_forces_of_its_structure() -> None:
    snapshot = sampled(1, snapshot_every=5).snapshots[-1]
    away = snapshot.atoms.positions - WATER.positions
    np.testing.assert_array_equal(snapshot.forces, -5.0 * away)
    assert snapshot.energy == 2.5 * (away**2).sum()
    assert len(snapshot.member_forces) == 0
    assert not snapshot.atoms.constraints


def test_snapshots_change_nothing_and_are_kept_up_to_an_explosion() -> None:
    def broken() -> Springs:
        return Springs(lambda call, forces: forces * (math.nan if call == 8 else 1.0))

    plain = sampled(4, calculator=broken())
    framed = sampled(4, calculator=broken(), snapshot_every=2)
    same(plain.state, framed.state)
    assert (plain.snapshots, framed.refused) == ((), 1)
    # It explodes at step 7; the next beginning counts from 10.
    assert [snapshot.step for snapshot in framed.snapshots] == [2, 4, 6, 12, 14, 16, 18, 20]


EMT = build_reference(
    AseReference(engine="ase", calculator="ase.calculators.emt.EMT"), directory=Path()
)


def crystal() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    return atoms


@pytest.mark.parametrize("barostat", ["berendsen", "npt", "mtk", "isomtk"])
def test_any_engine_with_stress_drives_npt_over_any_cut(barostat: Any, tmp_path: Path) -> None:
    md = MD(stat_ensemble="npt", barostat=barostat, temperature=300.0, timestep=2.0)
    start = begin(crystal(), md, 0)

    def run(state: MDState, points: int) -> Collected:
        return of(crystal(), md, EMT.calculator(), points, 3, state)

    whole, first = run(start, 4), run(start, 1)
    save_state(tmp_path / "state.json", first.state)
    second = run(load_state(tmp_path / "state.json"), 3)
    same(whole.state, second.state)
    assert not np.allclose(whole.structures[-1].cell, crystal().cell, atol=1e-6)


@pytest.mark.parametrize(
    "md",
    [
        MD(stat_ensemble="nve", temperature=300.0, timestep=2.0),
        MD(stat_ensemble="nvt", temperature=300.0, timestep=2.0, friction=0.01),
        *(
            MD(stat_ensemble="npt", barostat=barostat, temperature=300.0, timestep=2.0)
            for barostat in ("berendsen", "npt", "mtk", "isomtk")
        ),
    ],
    ids=lambda md: f"{md.stat_ensemble}-{md.barostat}",
)
def test_guarding_the_forces_costs_no_evaluation(md: MD) -> None:
    def counting() -> tuple[Calculator, list[Any]]:
        calculator = EMT.calculator()
        calls, calculate = [], calculator.calculate

        def counted(*args: Any, **named: Any) -> None:
            calls.append(args)
            calculate(*args, **named)

        calculator.calculate = counted
        return calculator, calls

    state = begin(crystal(), md, 0)
    alone, expected = counting()
    resume(state, md, alone)[0].run(12)
    guarded, calls = counting()
    of(crystal(), md, guarded, 4, 3, state)
    assert len(calls) == len(expected) >= 13


@pytest.mark.parametrize("pressure", [-3.0, 3.0])
def test_a_cell_that_explodes_or_collapses_begins_again(pressure: float) -> None:
    """Little by little, from one point to the next: it is compared with the geometry."""

    class Pushed(Calculator):
        implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012 (ASE's)

        def calculate(self, atoms: Any = None, *args: Any) -> None:
            super().calculate(atoms, *args)
            self.results = {
                "energy": 0.0,
                "forces": np.zeros((len(atoms), 3)),
                "stress": pressure * np.array([1.0, 1, 1, 0, 0, 0]),
            }

    md = MD(stat_ensemble="npt", temperature=300.0, timestep=2.0, taup=50.0, compressibility_au=5.0)
    found = of(crystal(), md, Pushed(), 10, 1)
    assert (len(found.structures), found.refused) == (8, 2)
    factors = [atoms.cell.volume / crystal().cell.volume for atoms in found.structures]
    assert 1 / 8 < min(factors) < max(factors) < 8
