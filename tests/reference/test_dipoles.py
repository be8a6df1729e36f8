"""Dipoles and Hirshfeld ratios of engines: sign, unit, origin, and who says that it has them."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from aimspax_core.labels.label import BESIDE
from aimspax_core.labels.store import LabelStore
from aimspax_core.reference.interface import Reference
from aimspax_core.reference.registry import kind_of, make_reference
from aimspax_core.settings.engines import EngineSection
from aimspax_core.settings.known_engines import SECTIONS

AIMS = Path(__file__).parents[1] / "aims"
LINE = f"{shlex.quote(sys.executable)} {shlex.quote(str(AIMS / 'stand_in.py'))} > aims.out"
CONTROL = "xc pbe\nspin none\nrelativistic atomic_zora scalar\n"
ALL: dict[str, dict[str, Any]] = {
    "tblite": {"engine": "tblite"},
    "pyscf": {"engine": "pyscf", "xc": "hf", "basis": "sto-3g"},
    "aims": {"engine": "aims", "species_dir": AIMS / "species", "launch_str": LINE},
    "aims-plain": {"engine": "aims", "species_dir": AIMS / "species", "launch_str": LINE},
    "ase": {"engine": "ase", "calculator": "ase.calculators.tip3p.TIP3P"},
    "ase-dipole": {
        "engine": "ase", "calculator": "tblite.ase.TBLite",
        "arguments": {"method": "GFN2-xTB", "verbosity": 0},
    },
}  # fmt: skip
GIVE_DIPOLES = ["tblite", "pyscf", "aims", "ase-dipole"]


def made(name: str, folder: Path, charge: int = 0) -> tuple[EngineSection, Reference]:
    more = "" if name == "aims-plain" else "output dipole\noutput hirshfeld\n"
    (folder / "control.in").write_text(CONTROL + more)
    (kind,) = (s for s in SECTIONS if s.engine_name() == ALL[name]["engine"])
    section = kind.model_validate(ALL[name])
    return section, make_reference(section, folder)


def label(engine: Reference, atoms: Atoms) -> Any:
    return engine.label(atoms)


@pytest.mark.parametrize("name", [name for name in ALL if name != "ase"])
def test_who_says_that_it_gives_it_does_so(name: str, tmp_path: Path) -> None:
    section, engine = made(name, tmp_path)
    found = label(engine, molecule("H2O"))
    for quantity in BESIDE:
        lacks = kind_of(section).lacks(section, tmp_path, quantity)
        assert (lacks == "") == (getattr(found, quantity) is not None), quantity


@pytest.mark.parametrize("name", ["ase", "aims-plain"])
def test_who_does_not_give_it_says_why(name: str, tmp_path: Path) -> None:
    section, _ = made(name, tmp_path)
    lacks = kind_of(section).lacks(section, tmp_path, "dipole")
    assert ("output dipole" if name == "aims-plain" else "does not compute dipole") in lacks


@pytest.mark.parametrize("name", GIVE_DIPOLES)
def test_a_dipole_points_from_the_negative_to_the_positive_end(name: str, tmp_path: Path) -> None:
    _, engine = made(name, tmp_path)
    water = molecule("H2O")
    towards = water.positions[1:].mean(axis=0) - water.positions[0]
    dipole = label(engine, water).dipole
    debye = np.linalg.norm(dipole) / 0.2081943
    assert dipole @ towards > 0
    assert 1.5 < debye < 2.5


@pytest.mark.parametrize("name", ["tblite", "pyscf", "aims"])
@pytest.mark.parametrize("charge", [0, 1])
def test_that_of_a_charged_structure_is_about_the_origin(
    name: str, charge: int, tmp_path: Path
) -> None:
    _, engine = made(name, tmp_path)
    shift = np.array([1.0, 2.0, 3.0])
    water = molecule("H2O")
    water.info |= {"charge": charge, "spin": 1 + charge}
    moved = water.copy()
    moved.positions += shift
    here, there = (label(engine, atoms).dipole for atoms in (water, moved))
    np.testing.assert_allclose(there - here, charge * shift, atol=1e-3)


@pytest.mark.parametrize("name", ["tblite", "ase-dipole"])
def test_what_is_periodic_has_none(name: str, tmp_path: Path) -> None:
    _, engine = made(name, tmp_path)
    assert label(engine, bulk("Si", cubic=True)).dipole is None


def test_they_are_kept_with_the_label(tmp_path: Path) -> None:
    _, engine = made("aims", tmp_path)
    store, water = LabelStore(tmp_path / "labels"), molecule("H2O")
    found = label(engine, water)
    store.put("key", water, found)
    stored = store.get("key")
    assert stored is not None
    for quantity in BESIDE:
        kept = getattr(stored.label, quantity)
        np.testing.assert_array_equal(kept, getattr(found, quantity))
