"""docs/extending/md-ensemble.md: its toy is one file and one row, and runs."""

from __future__ import annotations

import pytest

from tests.extending import Copy, extended

RUN = '''
from pathlib import Path

import ase.io
from ase.build import bulk

from aimspax_core.run_directory import RunDir
from aimspax_core.sampling.dynamics import describe, load_state
from aimspax_core.settings.load import load
from tasks.sample import SampleRequest, sample

folder = Path("run")
folder.mkdir()
(folder / "aimsPAX.yaml").write_text("""
REFERENCE: {engine: ase, calculator: ase.calculators.emt.EMT}
INITIAL_DATASET_GENERATION:
  {n_points_per_sampling_step_idg: 2, max_initial_epochs: 1, initial_sampling: aimd,
   skip_step_initial: 3}
MD: {stat_ensemble: NVT, thermostat: Brownian, drag: 0.02, taut: 1}
""")
(folder / "mace.yaml").write_text("GENERAL: {name_exp: copper}")
ase.io.write(folder / "geometry.in", bulk("Cu", cubic=True))
settings = load(folder)
run = RunDir.of(settings)
event = sample.fn(SampleRequest("sample:1:0", run, settings, 0, 0, 2))
print(len(event.found), load_state(run.sampler(0, 1)).step, describe(settings.md(0)))
print(settings.md(0).drag, settings.md(0).idle)
'''


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    return extended("md-ensemble.md", tmp_path_factory.mktemp("extended"))


def test_an_ensemble_is_one_file_and_one_row(copy: Copy) -> None:
    assert (len(copy.files), copy.rows) == (1, 1)


def test_the_toy_samples_as_its_settings_say(copy: Copy) -> None:
    first, second = copy.python(RUN).splitlines()
    assert first == "2 6 NVT brownian, 300 K, 0.5 fs"
    assert second == "0.02 ['taut']"


def test_the_toy_conforms(copy: Copy) -> None:
    copy.passes("tests/sampling/test_conformance.py", "brownian")
