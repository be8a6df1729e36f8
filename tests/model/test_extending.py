"""The page that says how to add a family of models: its example works in a copy of the code."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

import pytest

from aimspax_core.model.family import Family
from aimspax_core.settings.families.known_families import FAMILIES
from aimspax_core.settings.families.row import FamilyRow
from tests.extending import PAGES, Copy, extended

PROJECT = """
REFERENCE: {engine: ase, calculator: ase.calculators.emt.EMT}
INITIAL_DATASET_GENERATION:
  {n_points_per_sampling_step_idg: 5, ensemble_size: 2, initial_sampling: aimd,
   max_initial_epochs: 10}
MD: {stat_ensemble: nvt, friction: 0.01}
CLUSTER: {type: local, max_workers: 1}
"""
USE = """
from pathlib import Path
from ase.build import molecule
from ase.calculators.emt import EMT
from aimspax_core.errors import ModelError, SettingsError
from aimspax_core.inputs.campaign_inputs import Inputs
from aimspax_core.model.ensemble import Ensemble
from aimspax_core.model.family import family_of, load_any
from aimspax_core.model.given_models import adopt
from aimspax_core.model.member import Member
from aimspax_core.settings.load import load
from aimspax_core.settings.model import ModelSettings

folder = Path("run")
settings = Inputs.read(folder, part="initial").settings.model

structures = []
for seed in range(4):
    atoms = molecule("H2O")
    atoms.rattle(0.1, seed=seed)
    atoms.calc = EMT()
    atoms.info["REF_energy"] = atoms.get_potential_energy()
    atoms.arrays["REF_forces"] = atoms.get_forces()
    structures.append(atoms)
graphs = family_of(settings).graphs(structures, (1, 8), settings)
paths = []
for seed in (1, 2):
    member = Member.create(settings, (1, 8), f"water-{seed}", seed, graphs)
    found = member.train(graphs, graphs, epochs=2, valid_skip=1, scheduler=True)
    paths.append(folder / f"{seed}.pt")
    member.save(paths[-1])
print(type(member.model).__name__, member.model.hidden.out_features, [m.epoch for m in found])
committee = Ensemble(settings).committee(paths)
(prediction,) = committee.evaluate(structures[:1])
print(prediction.member_forces.shape, len(set(prediction.member_energies)))

loaded = Member.load(paths[0], settings)
family_of(settings).save(loaded.averaged_model(), folder / "one.model")
print(type(load_any(folder / "one.model")[1]).__name__)


def refused(kind, call):
    try:
        call()
    except kind as error:
        print("refused:", *str(error).splitlines())


refused(ModelError, lambda: adopt(folder / "one.model", settings, "w", 1, folder / "w.pt"))
refused(SettingsError, lambda: Inputs.read(folder, {"TRAINING.swa": True}, part="initial"))
refused(SettingsError, lambda: load(folder, {"TRAINING.loss": "huber"}))
refused(SettingsError, lambda: load(folder, {"ARCHITECTURE.num_channels": 4}))
refused(SettingsError, lambda: load(folder, {"ARCHITECTURE.model_choice": "mace"}))
mace = ModelSettings.model_validate({"GENERAL": {"name_exp": "t"}})
refused(ModelError, lambda: Member.load(paths[0], mace))
print(load(folder, {"GENERAL.model_choice": "Toy"}).model.family.name)
"""


DERIVED = """
import jsonschema
from aimspax_core.settings.derived.reference_page import page
from aimspax_core.settings.derived.schema import schema

text = page()
print([line for line in text.splitlines() if line.startswith("#### `model_choice")])
for choice, key in (("toy", "width"), ("mace", "num_channels")):
    given = {"GENERAL": {"name_exp": "t", "model_choice": choice}, "ARCHITECTURE": {key: 3}}
    jsonschema.validate(given, schema("mace.yaml"))
    jsonschema.validate(given | {"ARCHITECTURE": {"r_max": 3.0}}, schema("mace.yaml"))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    made = extended("model-family.md", tmp_path_factory.mktemp("copy"))
    (made.folder / "run" / "aimsPAX.yaml").write_text(PROJECT, encoding="utf-8")
    (made.folder / "run" / "geometry.in").write_text(
        "atom 0 0 0.1 O\natom 0 0.76 -0.48 H\natom 0 -0.76 -0.48 H\n", encoding="utf-8"
    )
    return made


def test_a_family_is_two_files_and_a_row(copy: Copy) -> None:
    code = [name for name in copy.files if name.endswith(".py")]
    assert code == ["aimspax_core/settings/families/toy.py", "aimspax_core/model/toy.py"]
    assert copy.rows == 1


@pytest.mark.parametrize("interface", [Family, FamilyRow])
def test_the_page_names_all_that_a_family_may_have(interface: type) -> None:
    tables = [
        line
        for line in (PAGES / "model-family.md").read_text().splitlines()
        if line.startswith("| ")
    ]
    said = set(re.findall(r"`(\w+)", "\n".join(tables)))
    assert {field.name for field in dataclasses.fields(interface)} <= said


@pytest.mark.slow
def test_the_example_trains_saves_loads_and_predicts(copy: Copy) -> None:
    lines = copy.python(USE).splitlines()
    print(*lines, sep="\n")
    assert lines[:3] == ["PairNet 16 [1, 2]", "(2, 3, 3) 2", "PairNet"]
    begin, swa, loss, key, choice, checkpoint = (
        line for line in lines if line.startswith("refused:")
    )
    assert "toy" in begin
    assert "TRAINING.swa" in swa
    assert "TRAINING.loss" in loss
    assert "ARCHITECTURE.num_channels" in key
    assert "model_choice" in choice
    assert "does not fit these settings" in checkpoint
    assert lines[-1] == "toy"


@pytest.mark.slow
def test_the_page_of_settings_and_the_schema_for_editors_have_both_families(copy: Copy) -> None:
    pytest.importorskip("jsonschema")
    assert copy.python(DERIVED).split("\n")[0] == str(
        [f"#### `model_choice: {name}`" for name in (*(row.name for row in FAMILIES), "toy")]
    )


@pytest.mark.slow
def test_the_example_passes_the_conformance_test(copy: Copy) -> None:
    shutil.copy(Path(__file__).with_name("test_conformance.py"), copy.folder)
    script = "import pytest, sys; sys.exit(pytest.main(['-q', 'test_conformance.py', '-k', 'toy']))"
    assert "passed" in copy.python(script)
