"""Keys and what changes with them: the dynamics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from aimspax_core.sampling.dynamics import capture, integrator, random_stream, resume, start
from tests.every_key.base import PROJECT, with_values

NVT = {"stat_ensemble": "nvt"}
NPT = {"stat_ensemble": "npt"}
MTK = NPT | {"barostat": "mtk"}
MELCHIONNA = NPT | {"barostat": "npt"}

DYNAMICS: list[tuple[str, Any, dict[str, Any]]] = [
    ("stat_ensemble", "nve", NVT),
    ("barostat", "mtk", NPT),
    ("temperature", 310.0, NVT),
    ("timestep", 1.0, NVT),
    ("friction", 0.1, NVT),
    ("fixcm", False, NVT),
    ("pressure", 2e9, NPT),
    ("pressure_au", 1e-2, NPT),
    ("taut", 50.0, NPT),
    ("taup", 100.0, NPT),
    ("compressibility_au", 1.0, NPT),
    ("external_stress", 1e-2, MELCHIONNA),
    ("ttime", 60.0, MELCHIONNA),
    ("pfactor", 1e4, MELCHIONNA),
    ("tdamp", 100.0, MTK),
    ("pdamp", 100.0, MTK),
    ("tchain", 2, MTK),
    ("pchain", 2, MTK),
    ("tloop", 3, MTK),
    ("ploop", 3, MTK),
    ("mask", (1, 0, 1), NPT),
    ("MD_seed", 43, NVT),
]


@pytest.mark.key("MD", *(key for key, *_ in DYNAMICS))
@pytest.mark.parametrize(
    ("key", "value", "needs"), [pytest.param(*row, id=f"MD.{row[0]}") for row in DYNAMICS]
)
def test_atoms_move_otherwise_with_another_value(
    folder: Path, key: str, value: Any, needs: dict[str, Any]
) -> None:
    paths = []
    for changes in ({}, {}, {key: value}):
        settings = with_values(folder, {"MD": needs}, {"MD": changes}).md(0)
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.05, seed=1)
        begin = start(atoms, settings, random_stream(settings.MD_seed, 1, 0))
        dynamics, rng = resume(begin, settings, EMT())
        dynamics.run(6)
        structure = capture(dynamics, rng, 6).structure
        paths.append(np.concatenate([structure.positions, structure.cell.array]))
    assert np.array_equal(paths[0], paths[1]), "it was not the key"
    assert not np.array_equal(paths[0], paths[2])


GPA = 1e9 * units.Pascal

# Key, value, needs, where ASE's integrator has it, and in ASE's units.
UNITS: list[tuple[str, Any, dict[str, Any], Any, float]] = [
    ("temperature", 310.0, NVT, lambda d: d.temp, 310 * units.kB),
    ("timestep", 2.0, NVT, lambda d: d.dt, 2 * units.fs),
    ("friction", 0.05, NVT, lambda d: d.fr, 0.05 / units.fs),
    ("pressure", 1e9, NPT, lambda d: d.pressure, GPA),
    ("pressure", 1e9, MTK, lambda d: d._pressure_au, GPA),
    ("pressure", 1e9, MELCHIONNA, lambda d: d.externalstress[0], -GPA),
    ("pressure_au", 0.5, NPT, lambda d: d.pressure, 0.5),
    ("compressibility_au", 3.0, NPT, lambda d: d.compressibility, 3.0),
    ("taut", 70.0, NPT, lambda d: d.taut, 70 * units.fs),
    ("taup", 70.0, NPT, lambda d: d.taup, 70 * units.fs),
    ("external_stress", 0.01, MELCHIONNA, lambda d: d.externalstress[0], -0.01),
    ("ttime", 70.0, MELCHIONNA, lambda d: d.ttime, 70 * units.fs),
    ("pfactor", 70.0, MELCHIONNA, lambda d: d.pfactor_given, 70 * units.fs),
    ("tdamp", 70.0, MTK, lambda d: d._thermostat._tdamp, 70 * units.fs),
    ("pdamp", 70.0, MTK, lambda d: d._barostat._pdamp, 70 * units.fs),
]


@pytest.mark.parametrize(
    ("key", "value", "needs", "seen", "expected"),
    [pytest.param(*row, id=f"{row[2].get('barostat', row[0])}-{row[0]}") for row in UNITS],
)
def test_ase_is_given_the_value_in_its_own_units(
    folder: Path, key: str, value: float, needs: dict[str, Any], seen: Any, expected: float
) -> None:
    settings = with_values(folder, {"MD": needs | {key: value}}).md(0)
    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    assert seen(integrator(atoms, settings, random_stream(1))) == pytest.approx(expected, rel=1e-12)


def test_each_geometry_has_the_dynamics_of_its_index(folder: Path) -> None:
    ase.io.write(folder / "a.xyz", molecule("H2O"))
    given = {
        "MISC": {"path_to_geometry": {0: "a.xyz", 1: "a.xyz"}},
        "MD": {"0": NVT, "1": NVT | {"temperature": 500}},
    }
    text = PROJECT.replace("MD: {stat_ensemble: nvt, friction: 0.01}", f"MD: {given['MD']}")
    (folder / "aimsPAX.yaml").write_text(text, encoding="utf-8")
    settings = with_values(folder, {"MISC": given["MISC"]})
    assert [settings.md(index).temperature for index in (0, 1)] == [300, 500]
