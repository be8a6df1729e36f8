"""docs/extending/uncertainty-measure.md: its toy is one file and one row, and runs."""

from __future__ import annotations

import pytest

from tests.extending import Copy, extended

RUN = '''
from pathlib import Path

import ase.io
import numpy as np
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from aimspax_core.campaign.recorded_rules import Rules
from aimspax_core.evaluation.evaluation import Predictions, Tested, trusts
from aimspax_core.evaluation.frames import read_frames
from aimspax_core.prediction import Prediction
from aimspax_core.sampling.dynamics import random_stream, start
from aimspax_core.sampling.segment import SegmentSettings, Start, run_segment
from aimspax_core.settings.load import load
from aimspax_core.uncertainty.threshold import Window

folder = Path("run")
folder.mkdir()
(folder / "aimsPAX.yaml").write_text("""
REFERENCE: {engine: ase, calculator: ase.calculators.emt.EMT}
ACTIVE_LEARNING: {num_trajectories: 1, max_MD_steps: 8, uncertainty_type: energy_sd}
MD: {stat_ensemble: nvt}
""")
(folder / "mace.yaml").write_text("GENERAL: {name_exp: water}")
water = molecule("H2O")
ase.io.write(folder / "geometry.in", water)
settings = load(folder)
print(Rules.of(settings, ("a", "b"), 1).uncertainty_unit)


def evaluate(structures):
    energies = np.array([-1.0, -1.6])
    return [Prediction(-1.3, np.zeros((3, 3)), energies, np.zeros((2, 3, 3))) for _ in structures]


segment = SegmentSettings(4, 0.0, settings.al.uncertainty_type, 8, 100, 10.0, np.inf)
state = start(water, settings.md(0), random_stream(1))
begin = [Start(0, state, settings.md(0))]
done = run_segment(begin, segment, [Window()], evaluate, lambda atoms: None)
print([round(check.uncertainty, 9) for check in done.checks])

water.info["REF_energy"] = -1.0
ase.io.write(folder / "data.xyz", water, format="extxyz")
frames = read_frames(folder / "data.xyz")
nothing = np.full((2, 1, 3, 3), np.nan)
found = Predictions(np.array([[-1.0], [-1.6]]), np.zeros((2, 3, 3)), nothing)
for name, trust in trusts(frames, found).items():
    print(name, trust.uncertainty.round(9), trust.error.round(9))
'''


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    return extended("uncertainty-measure.md", tmp_path_factory.mktemp("extended"))


def test_a_measure_is_one_file_and_one_row(copy: Copy) -> None:
    assert (len(copy.files), copy.rows) == (1, 1)


def test_the_toy_judges_a_segment_and_an_evaluation(copy: Copy) -> None:
    """Members that differ by ±0.3 eV on three atoms; the mean is 0.3 eV off the label."""
    unit, segment, evaluation = copy.python(RUN).splitlines()
    assert unit == "eV/atom"
    assert segment == "[0.1, 0.1]"
    assert evaluation == "energy_sd [0.1] [0.1]"


def test_the_toy_conforms(copy: Copy) -> None:
    copy.passes("tests/uncertainty/test_conformance.py", "energy_sd")
