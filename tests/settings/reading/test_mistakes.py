"""Mistakes in settings are data; their one text is made in one place, and held by a snapshot."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from aimspax_core.errors import SettingsError
from aimspax_core.settings.load import load
from aimspax_core.settings.reading.mistakes import MistakeKind
from tests.settings_files import SettingsFiles

WORDINGS = Path(__file__).with_name("wordings.txt")

EXAMPLES = {
    MistakeKind.UNKNOWN_SECTION: ("mace.yaml", "TRANING", "lr", "0.1"),
    MistakeKind.UNKNOWN_KEY: ("mace.yaml", "TRAINING", "batchsize", "5"),
    MistakeKind.MISPLACED: ("aimsPAX.yaml", "MISC", "temperature", "300"),
    MistakeKind.MISSING: ("aimsPAX.yaml", "CLUSTER", "type", "slurm"),
    MistakeKind.TWICE: ("mace.yaml", "ARCHITECTURE", "atomic_energies", "{1: -1.0, H: -1.0}"),
    MistakeKind.WRONG_VALUE: ("mace.yaml", "TRAINING", "optimizer", "adan"),
    MistakeKind.WRONG_LINE: ("aimsPAX.yaml", "CLUSTER", "slurm_str", '"#SBATCH --tme=5"'),
    MistakeKind.NOT_THERE: ("aimsPAX.yaml", "MISC", "path_to_geometry", "water.xyz"),
    MistakeKind.REFUSED: ("mace.yaml", "TRAINING", "loss", "dipole"),
    MistakeKind.CONFLICT: ("aimsPAX.yaml", "ACTIVE_LEARNING", "replay_strategy", "random_subset"),
}
"""What is planted into right settings files to see a mistake of each kind."""


def found_by(inputs: SettingsFiles, kind: MistakeKind) -> SettingsError:
    if kind is MistakeKind.UNREADABLE:
        inputs.write()
        (inputs.directory / "mace.yaml").write_text("GENERAL: [")
    else:
        inputs.plant(*EXAMPLES[kind])
        inputs.write()
    with pytest.raises(SettingsError) as caught:
        load(inputs.directory)
    return caught.value


@pytest.mark.parametrize("kind", MistakeKind)
def test_each_kind_has_the_wording_of_the_snapshot(inputs: SettingsFiles, kind: MistakeKind):
    (mistake,) = found_by(inputs, kind).mistakes
    wordings = dict(line.split(": ", 1) for line in WORDINGS.read_text().splitlines())
    text = str(mistake).replace(str(inputs.directory), "DIRECTORY")
    assert (mistake.kind, text) == (kind, wordings[kind])


def test_mistakes_are_data_that_cross_processes(inputs: SettingsFiles):
    error = found_by(inputs, MistakeKind.WRONG_VALUE)
    (mistake,) = error.mistakes
    assert (mistake.file, mistake.line, mistake.key) == ("mace.yaml", 4, "TRAINING.optimizer")
    assert (mistake.found, mistake.nearest) == ("'adan'", "adam")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.mistakes) == (str(error), error.mistakes)
