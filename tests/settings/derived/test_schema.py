"""JSON Schemas for editors: what `load` reads they accept, what it refuses they mark."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from aimspax_core.settings.derived.schema import schema

jsonschema = pytest.importorskip("jsonschema")

EXAMPLES = Path(__file__).parents[3] / "examples"
IDG, AL = "INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"
FILES = ["aimsPAX.yaml", "mace.yaml"]


def _wrong(which: str, content: object) -> list[str]:
    """Return where a file's content is wrong; keys as an editor sees them, as texts."""
    validator = jsonschema.Draft7Validator(schema(which))
    plain = json.loads(json.dumps(content))
    return sorted(".".join(str(part) for part in e.path) for e in validator.iter_errors(plain))


def _read(inputs, which: str) -> object:
    inputs.write()
    return YAML(typ="safe", pure=True).load((inputs.directory / which).read_text())


@pytest.mark.parametrize("which", FILES)
def test_the_schema_is_one_and_is_json(which):
    content = schema(which)
    jsonschema.Draft7Validator.check_schema(content)
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["title"] == which
    assert content["additionalProperties"] is False


@pytest.mark.parametrize("which", FILES)
def test_the_example_is_right(which):
    content = YAML(typ="safe").load((EXAMPLES / "aspirin" / which).read_text())
    assert _wrong(which, content) == []


RIGHT = [
    ("aimsPAX.yaml", "MD", "stat_ensemble", "NvT"),
    ("aimsPAX.yaml", "MD", "thermostat", "Langevin"),
    ("aimsPAX.yaml", "MD", "seed", "42"),
    ("aimsPAX.yaml", "MD", "mask", "[1, 1, 0]"),
    ("aimsPAX.yaml", IDG, "initial_sampling", "mace-mp0"),
    ("aimsPAX.yaml", IDG, "initial_sampling", "Foundational"),
    ("aimsPAX.yaml", IDG, "max_initial_epochs", "np.inf"),
    ("aimsPAX.yaml", IDG, "max_initial_set_size", ".inf"),
    ("aimsPAX.yaml", IDG, "species_dir", "path/to/light"),
    ("aimsPAX.yaml", IDG, "foundational_model_settings", "{mace_model: small}"),
    ("aimsPAX.yaml", AL, "max_MD_steps", "inf"),
    ("aimsPAX.yaml", AL, "converge_al", "yes"),
    ("aimsPAX.yaml", AL, "intermol_forces_weight", "null"),
    ("aimsPAX.yaml", AL, "initial_train_dataset", "{run-42: train.xyz}"),
    ("aimsPAX.yaml", "MISC", "path_to_geometry", "{0: a.xyz, 1: b.xyz}"),
    ("aimsPAX.yaml", "MISC", "path_to_control", "control.in"),
    ("mace.yaml", "ARCHITECTURE", "gate", "null"),
    ("mace.yaml", "ARCHITECTURE", "gate", "None"),
    ("mace.yaml", "ARCHITECTURE", "model", "mace"),
    ("mace.yaml", "ARCHITECTURE", "model_choice", "MACE"),
    ("mace.yaml", "ARCHITECTURE", "atomic_energies", "{H: -13.6, 8: -2040}"),
    ("mace.yaml", "TRAINING", "loss", "Weighted"),
    ("mace.yaml", "TRAINING", "weight_decay", "5.e-07"),
    ("mace.yaml", "TRAINING", "pretrained_model", "null"),
    ("mace.yaml", "MISC", "log_level", "debug"),
]


@pytest.mark.parametrize(("which", "section", "key", "text"), RIGHT)
def test_what_is_read_is_not_marked(inputs, which, section, key, text):
    for name in ("a.xyz", "b.xyz", "train.xyz"):
        (inputs.directory / name).touch()
    (inputs.directory / "control.in").write_text("xc pbe\n")
    inputs.plant(which, section, key, text)
    inputs.load()
    assert _wrong(which, _read(inputs, which)) == []


WRONG = [
    ("aimsPAX.yaml", "MD", "stat_ensemble", "NVP", "MD"),
    ("aimsPAX.yaml", "MD", "temprature", "300", "MD"),
    ("aimsPAX.yaml", IDG, "initial_sampling", "mace", f"{IDG}.initial_sampling"),
    ("aimsPAX.yaml", IDG, "max_initial_epochs", "0", f"{IDG}.max_initial_epochs"),
    ("aimsPAX.yaml", IDG, "max_initial_epochs", "many", f"{IDG}.max_initial_epochs"),
    ("aimsPAX.yaml", IDG, "valid_ratio", "1.0", f"{IDG}.valid_ratio"),
    ("aimsPAX.yaml", AL, "intermol_forces_weight", "100", f"{AL}.intermol_forces_weight"),
    ("aimsPAX.yaml", AL, "converge_al", "maybe", f"{AL}.converge_al"),
    ("mace.yaml", "TRAINING", "loss", "weigted", "TRAINING.loss"),
    ("mace.yaml", "TRAINING", "num_channels", "16", "TRAINING"),
    ("mace.yaml", "MISC", "device", "gpu", "MISC.device"),
]


@pytest.mark.parametrize(("which", "section", "key", "text", "where"), WRONG)
def test_what_is_refused_is_marked(inputs, which, section, key, text, where):
    inputs.plant(which, section, key, text)
    inputs.mistakes()
    assert _wrong(which, _read(inputs, which)) == [where]


def test_md_may_be_by_geometry(inputs):
    inputs.project["MD"] = "{0: {stat_ensemble: NVT}}"
    assert _wrong("aimsPAX.yaml", _read(inputs, "aimsPAX.yaml")) == []


def test_both_names_of_a_seed_are_marked(inputs):
    inputs.plant("aimsPAX.yaml", "MD", "seed", "1")
    inputs.plant("aimsPAX.yaml", "MD", "MD_seed", "1")
    assert _wrong("aimsPAX.yaml", _read(inputs, "aimsPAX.yaml")) == ["MD"]


@pytest.mark.parametrize("section", ["MISC", "GATE", "CLUSTER"])
def test_an_empty_section_is_not_marked(inputs, section):
    inputs.project[section] = ""
    inputs.load()
    assert _wrong("aimsPAX.yaml", _read(inputs, "aimsPAX.yaml")) == []


def test_one_phase_is_enough(inputs):
    del inputs.project[IDG]
    inputs.load()
    assert _wrong("aimsPAX.yaml", _read(inputs, "aimsPAX.yaml")) == []
    del inputs.project[AL]
    assert _wrong("aimsPAX.yaml", _read(inputs, "aimsPAX.yaml")) == [""]


def test_a_missing_reference_is_marked(inputs):
    del inputs.project["REFERENCE"]
    assert _wrong("aimsPAX.yaml", _read(inputs, "aimsPAX.yaml")) == [""]


def test_a_teacher_stands_for_a_reference(inputs):
    del inputs.project["REFERENCE"]
    inputs.plant("aimsPAX.yaml", AL, "use_teacher_reference", "True")
    inputs.plant("aimsPAX.yaml", AL, "teacher_reference_settings", "{model_type: mace-mp}")
    inputs.load()
    assert _wrong("aimsPAX.yaml", _read(inputs, "aimsPAX.yaml")) == []
