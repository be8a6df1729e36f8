"""MD that a reference drives, in a world that fails now and then: by FHI-aims's stand-in."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.calculator import CalculationFailed
from ase.calculators.emt import EMT
from ase.md.verlet import VelocityVerlet

from aimspax_core.errors import LabelError
from aimspax_core.reference import as_calculator
from aimspax_core.reference.aims.engine import AimsEngine
from aimspax_core.reference.aims.section import AimsReference

AIMS = Path(__file__).parents[1] / "aims"
LINE = f"{shlex.quote(sys.executable)} {shlex.quote(str(AIMS / 'stand_in.py'))} > aims.out"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the calculator would have waited (s)."""
    waited: list[float] = []
    monkeypatch.setattr(as_calculator, "time", SimpleNamespace(sleep=waited.append))
    return waited


@pytest.fixture
def hydrogen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Atoms:
    """A molecule off balance, with FHI-aims; the stand-in computes with EMT."""
    monkeypatch.setenv("AIMS_STAND_IN_METHOD", "emt")
    (tmp_path / "control.in").write_text("xc pbe\n")
    settings = AimsReference(engine="aims", launch_str=LINE, species_dir=AIMS / "species")
    atoms = molecule("H2")
    atoms.positions[0, 2] += 0.1
    atoms.calc = AimsEngine(settings, tmp_path).calculator()
    return atoms


def failing(monkeypatch: pytest.MonkeyPatch, folder: Path, mode: str, every: int) -> Path:
    """Let every n-th start fail; return the file that counts the starts."""
    counter = folder / "starts"
    monkeypatch.setenv("AIMS_STAND_IN", mode)
    monkeypatch.setenv("AIMS_STAND_IN_EVERY", str(every))
    monkeypatch.setenv("AIMS_STAND_IN_COUNTER", str(counter))
    return counter


def test_a_lost_step_is_made_again_and_md_goes_on(
    hydrogen: Atoms, waits: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = hydrogen.copy()
    undisturbed.calc = EMT()
    starts = failing(monkeypatch, tmp_path, "node-fail", every=2)
    for atoms in (undisturbed, hydrogen):
        VelocityVerlet(atoms, 0.5 * units.fs).run(2)
    assert (starts.read_text(), waits) == ("5", [2.0, 2.0])
    assert hydrogen.get_velocities().any()
    np.testing.assert_allclose(hydrogen.positions, undisturbed.positions, atol=1e-10)


def test_a_failure_that_stays_is_raised_after_three_waits(
    hydrogen: Atoms, waits: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = failing(monkeypatch, tmp_path, "node-fail", every=1)
    with pytest.raises(LabelError, match="node or the batch system") as found:
        hydrogen.get_forces()
    assert found.value.transient
    assert (starts.read_text(), waits) == ("4", [2.0, 10.0, 30.0])


def test_what_would_fail_again_is_not_tried_again(
    hydrogen: Atoms, waits: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = failing(monkeypatch, tmp_path, "no-scf", every=1)
    with pytest.raises(CalculationFailed, match="SCF did not converge"):
        hydrogen.get_forces()
    assert (starts.read_text(), waits) == ("1", [])
