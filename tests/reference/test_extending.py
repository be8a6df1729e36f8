"""The page on adding an engine: its example is an engine like the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.extending import Copy, extended


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    return extended("reference-engine.md", tmp_path_factory.mktemp("copy"))


def test_one_file_and_one_row_are_enough(copy: Copy) -> None:
    assert [name for name in copy.files if name.endswith(".py")] == [
        "aimspax_core/reference/lennard_jones.py"
    ]
    assert copy.rows == 1


def test_the_engine_labels_a_structure_of_a_run_directory(copy: Copy) -> None:
    said = copy.python("""
import json
from pathlib import Path
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.labels.store import label_key
from aimspax_core.reference.registry import make_reference
from aimspax_core.reference.trial_label import hold_against_energies
from aimspax_core.report.plan import plan
inputs = Inputs.read(Path("run"))
engine = make_reference(inputs.settings.reference, inputs.settings.directory)
(atoms,) = inputs.geometries
trial = hold_against_energies(engine, atoms)
other = make_reference(inputs.settings.reference.model_copy(update={"depth": 0.02}), Path("run"))
keys = {label_key(atoms, made.identity()) for made in (engine, other)}
print(json.dumps({
    "agrees": all(comparison.agrees for comparison in trial.comparisons),
    "forces": trial.label.forces.shape,
    "keys": len(keys),
    "plan": "\\n".join(plan(inputs.settings, inputs.geometries, ("a",))),
}))
""")
    found = json.loads(said.splitlines()[-1])
    assert found["agrees"] and found["forces"] == [3, 3]
    assert found["keys"] == 2
    assert "reference: lennard-jones with a well of 0.0104 eV" in found["plan"]


def test_check_tells_what_it_cannot_label(copy: Copy) -> None:
    script = """
import ase.io
from ase.build import molecule
from pathlib import Path
from aimspax_core.errors import SettingsError
from aimspax_core.inputs.campaign_inputs import Inputs
ase.io.write("run/water.xyz", molecule("H2O"))
try:
    Inputs.read(Path("run"), {"MISC.path_to_geometry": "water.xyz"})
except SettingsError as error:
    print(error)
"""
    assert "REFERENCE.engine: water.xyz: H2O is not made of rare gases" in copy.python(script)


def test_init_and_the_page_of_settings_know_it(copy: Copy, tmp_path: Path) -> None:
    script = f"""
from flows.commands.app import app
import contextlib
with contextlib.suppress(SystemExit):
    arguments = ["--geometry", "run/argon.xyz", "--reference", "lennard-jones"]
    app(["init", {str(tmp_path / "new")!r}, *arguments])
from aimspax_core.settings.derived.reference_page import page
from aimspax_core.settings.load import load
print(load({str(tmp_path / "new")!r}).reference.engine_text)
print("| `depth` |" in page())
"""
    assert copy.python(script).splitlines()[-2:] == [
        "lennard-jones with a well of 0.01 eV",
        "True",
    ]
