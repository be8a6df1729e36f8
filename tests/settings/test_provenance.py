"""What a run was started with: some of it may change on the way, some may not."""

from __future__ import annotations

import json

import pytest
from ase import Atoms

from aimspax_core.errors import SettingsError
from aimspax_core.rundir import RunDir
from aimspax_core.settings.provenance import PACKAGES, changed, record

IDG, AL = "INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"
GEOMETRIES = [Atoms("H2", [[0, 0, 0], [0, 0, 0.74]])]


def _started(inputs) -> RunDir:
    settings = inputs.load()
    run = RunDir.of(settings)
    record(run, settings, GEOMETRIES)
    return run


def _changes(inputs, run: RunDir, geometries: list[Atoms] = GEOMETRIES) -> tuple[str, ...]:
    return changed(run, inputs.load(), geometries)


def test_nothing_has_changed_before_a_run_is_started(inputs):
    settings = inputs.load()
    assert changed(RunDir.of(settings), settings, GEOMETRIES) == ()


def test_asking_for_changes_starts_nothing(inputs):
    settings = inputs.load()
    changed(RunDir.of(settings), settings, GEOMETRIES)
    assert not RunDir.of(settings).settings.exists()


def test_the_same_settings_are_no_change(inputs):
    inputs.plant("mace.yaml", "ARCHITECTURE", "atomic_energies", "{H: -13.6}")
    inputs.plant("mace.yaml", "TRAINING", "config_type_weights", "{Default: 1, bulk: 2}")
    assert _changes(inputs, _started(inputs)) == ()


def test_writing_a_default_out_is_no_change(inputs):
    run = _started(inputs)
    inputs.plant("mace.yaml", "ARCHITECTURE", "num_channels", "128")
    inputs.plant("aimsPAX.yaml", AL, "max_MD_steps", "np.inf")
    assert _changes(inputs, run) == ()


def test_the_record_is_json_without_infinities(inputs):
    run = _started(inputs)

    def no_constants(name: str) -> None:
        pytest.fail(f"{name} is not JSON")

    content = json.loads(run.settings.read_text(), parse_constant=no_constants)
    assert content["free"][f"aimsPAX.yaml.{AL}.max_MD_steps"] == "inf"


def test_the_record_has_the_versions_of_what_matters(inputs):
    content = json.loads(_started(inputs).settings.read_text())
    assert content["versions"].keys() == {"python", *PACKAGES}


@pytest.mark.parametrize(
    ("file", "section", "key", "text", "told"),
    [
        ("aimsPAX.yaml", "REFERENCE", "method", "GFN1-xTB",
         "REFERENCE.method: was 'GFN2-xTB', is 'GFN1-xTB'"),
        ("aimsPAX.yaml", "REFERENCE", "charge", "1", "REFERENCE.charge: was 0, is 1"),
        ("aimsPAX.yaml", IDG, "ensemble_size", "6", f"{IDG}.ensemble_size: was 4, is 6"),
        ("aimsPAX.yaml", "MD", "MD_seed", "1", "MD.MD_seed: was 42, is 1"),
        ("mace.yaml", "ARCHITECTURE", "r_max", "4.0", "ARCHITECTURE.r_max: was 5.0, is 4.0"),
        ("mace.yaml", "ARCHITECTURE", "radial_MLP", "[16]",
         "ARCHITECTURE.radial_MLP: was [64, 64, 64], is [16]"),
        ("mace.yaml", "ARCHITECTURE", "atomic_energies", "{H: -1.0}",
         "ARCHITECTURE.atomic_energies.1: was not there, is -1.0"),
        ("mace.yaml", "GENERAL", "seed", "1", "GENERAL.seed: was 42, is 1"),
        ("mace.yaml", "GENERAL", "name_exp", "other", "GENERAL.name_exp: was 'test', is 'other'"),
        ("mace.yaml", "GENERAL", "default_dtype", "float64",
         "GENERAL.default_dtype: was 'float32', is 'float64'"),
    ],
)  # fmt: skip
def test_what_decides_the_models_is_frozen(inputs, file, section, key, text, told):
    run = _started(inputs)
    inputs.plant(file, section, key, text)
    with pytest.raises(SettingsError) as caught:
        _changes(inputs, run)
    assert f"\n  {told}\n" in str(caught.value)


def test_everything_frozen_that_changed_is_told_at_once(inputs):
    run = _started(inputs)
    inputs.plant("aimsPAX.yaml", "MD", "MD_seed", "1")
    inputs.plant("mace.yaml", "GENERAL", "seed", "1")
    with pytest.raises(SettingsError, match=r"(?s)GENERAL\.seed.*MD\.MD_seed.*--fresh"):
        _changes(inputs, run)


@pytest.mark.parametrize(
    ("geometries", "told"),
    [
        ([Atoms("H2", [[0, 0, 0], [0, 0, 0.75]])], "geometry.0: was 'H2 "),
        ([*GEOMETRIES, Atoms("He")], "geometry.1: was not there, is 'He "),
        ([Atoms("He")], "geometry.0: was 'H2 "),
    ],
)
def test_geometries_are_frozen(inputs, geometries, told):
    run = _started(inputs)
    with pytest.raises(SettingsError) as caught:
        _changes(inputs, run, geometries)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("file", "section", "key", "text", "told"),
    [
        ("aimsPAX.yaml", AL, "c_x", "-0.2", "was 0.0, is -0.2"),
        ("aimsPAX.yaml", AL, "desired_acc", "0.2", "was 0.1, is 0.2"),
        ("aimsPAX.yaml", AL, "max_MD_steps", "100", "was 'inf', is 100.0"),
        ("aimsPAX.yaml", AL, "epochs_per_worker", "3", "was 2, is 3"),
        ("aimsPAX.yaml", AL, "convergence_patience", "9", "was 50, is 9"),
        ("aimsPAX.yaml", "MD", "temperature", "400", "was 300.0, is 400.0"),
        ("aimsPAX.yaml", "CLUSTER", "type", "local", "was not there, is 'local'"),
        ("mace.yaml", "MISC", "device", "cuda", "was 'cpu', is 'cuda'"),
        ("mace.yaml", "MISC", "log_level", "DEBUG", "was 'INFO', is 'DEBUG'"),
        ("mace.yaml", "TRAINING", "lr", "0.02", "was 0.01, is 0.02"),
    ],
)
def test_everything_else_is_free_and_told(inputs, file, section, key, text, told):
    run = _started(inputs)
    inputs.plant(file, section, key, text)
    assert f"{file}.{section}.{key}: {told}" in _changes(inputs, run)


def test_the_teachers_device_is_free(inputs):
    (inputs.directory / "teacher.model").touch()
    inputs.project["REFERENCE"] = {"engine": "mace", "model_path": "teacher.model"}
    run = _started(inputs)
    inputs.plant("aimsPAX.yaml", "REFERENCE", "device", "cuda")
    assert _changes(inputs, run) == ("aimsPAX.yaml.REFERENCE.device: was 'cpu', is 'cuda'",)


def test_a_free_change_is_told_once(inputs):
    run = _started(inputs)
    inputs.plant("aimsPAX.yaml", AL, "c_x", "-0.2")
    settings = inputs.load()
    assert len(record(run, settings, GEOMETRIES)) == 1
    assert record(run, settings, GEOMETRIES) == ()


def test_a_refused_change_leaves_the_record_alone(inputs):
    run = _started(inputs)
    before = run.settings.read_text()
    inputs.plant("mace.yaml", "GENERAL", "seed", "1")
    with pytest.raises(SettingsError):
        record(run, inputs.load(), GEOMETRIES)
    assert run.settings.read_text() == before
