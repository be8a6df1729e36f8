"""NWChem, a program that writes files, behind the engine `ase`; in Debian: `apt install nwchem`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule

from aimspax_core.errors import LabelError
from aimspax_core.labels.gate import check_label
from aimspax_core.reference.ase.engine import AseEngine
from aimspax_core.reference.ase.section import AseReference
from aimspax_core.settings.engines import Gate

NUMBER = r"\s+(-?\d+\.\d+)"
BY_HAND = """start by_hand
geometry units angstrom nocenter noautosym
{atoms}
end
basis noprint
  * library def2-svp
end
dft
  xc xpbe96 cpbe96
  convergence energy 1e-8
end
task dft gradient
"""


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    if shutil.which("nwchem") is None:
        told = "there is no nwchem on PATH: apt install nwchem"
        if os.environ.get("AIMSPAX_TEST_ALL"):
            pytest.fail(told)
        pytest.skip(told)


def water() -> Atoms:
    atoms = molecule("H2O")
    atoms.rattle(0.05, seed=3)
    return atoms


def engine(folder: Path, clean: bool = True, **dft: Any) -> AseEngine:
    arguments = {
        "command": "nwchem PREFIX.nwi > PREFIX.nwo 2> PREFIX.err",
        "xc": "pbe",
        "basis": "def2-svp",
        "dft": {"convergence": {"energy": 1e-8}, **dft},
    }
    settings = AseReference(
        engine="ase",
        calculator="ase.calculators.nwchem.NWChem",
        arguments=arguments,
        clean_dirs=clean,
    )
    return AseEngine(settings, folder)


def test_a_label_is_what_nwchem_says_when_run_by_hand(tmp_path: Path) -> None:
    atoms = water()
    lines = [f"{a.symbol} {a.x:.14f} {a.y:.14f} {a.z:.14f}" for a in atoms]
    (tmp_path / "by_hand.nw").write_text(BY_HAND.format(atoms="\n".join(lines)))
    ended = subprocess.run(
        ["nwchem", "by_hand.nw"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    energy = re.search(r"Total DFT energy =\s+(\S+)", ended.stdout)
    rows = re.findall(rf"^ +\d [OH]{NUMBER * 6}$", ended.stdout, re.MULTILINE)
    assert energy is not None
    assert len(rows) == 3

    label = engine(tmp_path).label(atoms)
    check_label(atoms, label, Gate())
    assert label.energy == pytest.approx(float(energy[1]) * units.Hartree, abs=1e-5)
    forces = -np.array(rows, float)[:, 3:] * units.Hartree / units.Bohr
    np.testing.assert_allclose(label.forces, forces, atol=1e-3)


def test_forces_are_the_slope_of_the_energy(tmp_path: Path) -> None:
    used, atoms, step = engine(tmp_path), water(), 0.005
    energies = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[1, 2] += sign * step
        energies.append(used.label(moved).energy)
    slope = (energies[0] - energies[1]) / (2 * step)
    assert used.label(atoms).forces[1, 2] == pytest.approx(-slope, abs=0.01)


def test_what_has_not_converged_is_dropped_and_its_files_are_kept(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="Calculation failed to converge") as found:
        engine(tmp_path, iterations=3).label(water())
    assert not found.value.transient
    (folder,) = (tmp_path / "calc").iterdir()
    assert (folder / "nwchem.nwo").is_file()
    assert "Calculation failed to converge" in (folder / "failed.txt").read_text()


@pytest.mark.parametrize("clean", [True, False])
def test_good_calculations_leave_their_folders_only_if_asked_for(
    tmp_path: Path, clean: bool
) -> None:
    engine(tmp_path, clean=clean).label(water())
    assert len([*(tmp_path / "calc").iterdir()]) == (0 if clean else 1)
