"""What a run was started with: some of it may change on the way, some may not."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import pytest
from ase import Atoms

from aimspax_core.campaign.events import Resumed, Started
from aimspax_core.campaign.journal import Journal
from aimspax_core.campaign.recorded_rules import Rules
from aimspax_core.errors import SettingsError
from aimspax_core.inputs.provenance import adopted, changed, frozen_digest, write_provenance
from aimspax_core.reference import registry
from aimspax_core.run_directory import RunDir
from aimspax_core.settings.frozen import FROZEN
from aimspax_core.settings.model import ModelSettings
from aimspax_core.settings.project import ProjectSettings
from aimspax_core.settings.reading.wording import fields_of
from aimspax_core.versions import version_of, versions_here

IDG, AL = "INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"
EMT = "ase.calculators.emt.EMT"
GEOMETRIES = [Atoms("H2", [[0, 0, 0], [0, 0, 0.74]])]


def _started(inputs) -> RunDir:
    settings = inputs.load()
    run = RunDir.of(settings)
    write_provenance(run, settings, GEOMETRIES)
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
    assert content["versions"] == versions_here()
    extra = "so3krates-torch"
    assert content["versions"].get(extra) == version_of(extra)


@pytest.mark.parametrize(
    ("file", "section", "key", "text", "told"),
    [
        ("aimsPAX.yaml", "REFERENCE", "method", "GFN1-xTB",
         "REFERENCE.method: was 'GFN2-xTB', is 'GFN1-xTB'"),
        ("aimsPAX.yaml", "REFERENCE", "charge", "1", "REFERENCE.charge: was 0, is 1"),
        ("aimsPAX.yaml", IDG, "ensemble_size", "6", f"{IDG}.ensemble_size: was 4, is 6"),
        ("aimsPAX.yaml", "MD", "MD_seed", "1", "MD.MD_seed: was 42, is 1"),
        ("mace.yaml", "ARCHITECTURE", "r_max", "4.0", "ARCHITECTURE.r_max: was 5, is 4"),
        ("mace.yaml", "ARCHITECTURE", "radial_MLP", "[16]",
         "ARCHITECTURE.radial_MLP: was [64, 64, 64], is [16]"),
        ("mace.yaml", "ARCHITECTURE", "atomic_energies", "{H: -1.0}",
         "ARCHITECTURE.atomic_energies.1: was not there, is -1"),
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
        ("aimsPAX.yaml", AL, "c_x", "-0.2", "was 0, is -0.2"),
        ("aimsPAX.yaml", AL, "desired_acc", "0.2", "was 0.1, is 0.2"),
        ("aimsPAX.yaml", AL, "max_MD_steps", "100", "was 'inf', is 100"),
        ("aimsPAX.yaml", AL, "epochs_per_worker", "3", "was 2, is 3"),
        ("aimsPAX.yaml", AL, "convergence_patience", "9", "was 50, is 9"),
        ("aimsPAX.yaml", "MD", "temperature", "400", "was 300, is 400"),
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


def test_a_change_in_the_options_of_jobs_is_free_and_told_by_its_lines(inputs):
    lines = ["#SBATCH --partition=cpu --ntasks-per-node=128", "#SBATCH -t 60"]
    inputs.project["CLUSTER"] = {"slurm_str": "|\n    " + "\n    ".join(lines)}
    run = _started(inputs)
    inputs.project["CLUSTER"] = {"slurm_str": f"|\n    {lines[0]}\n    #SBATCH -t 30"}
    assert _changes(inputs, run) == (
        "aimsPAX.yaml.CLUSTER.slurm_str: was ['#SBATCH -t 60'], is ['#SBATCH -t 30']",
    )


def test_lines_in_another_order_are_all_told(inputs):
    inputs.project["CLUSTER"] = {"slurm_str": '"#SBATCH -t 60\\n#SBATCH -N1"'}
    run = _started(inputs)
    inputs.project["CLUSTER"] = {"slurm_str": '"#SBATCH -N1\\n#SBATCH -t 60"'}
    (told,) = _changes(inputs, run)
    assert told.endswith("is ['#SBATCH -N1', '#SBATCH -t 60']")


def test_the_teachers_device_is_free(inputs):
    (inputs.directory / "teacher.model").touch()
    inputs.project["REFERENCE"] = {"engine": "mace", "model_path": "teacher.model"}
    run = _started(inputs)
    inputs.plant("aimsPAX.yaml", "REFERENCE", "device", "cuda")
    assert _changes(inputs, run) == ("aimsPAX.yaml.REFERENCE.device: was 'cpu', is 'cuda'",)


@pytest.mark.parametrize(
    ("engine", "key", "was"),
    [("tblite", "max_iterations", 250), ("pyscf", "max_cycle", 50)],
)
def test_what_is_in_no_labels_key_is_free(inputs, engine, key, was):
    inputs.project["REFERENCE"] = {"engine": engine}
    run = _started(inputs)
    inputs.plant("aimsPAX.yaml", "REFERENCE", key, "300")
    assert _changes(inputs, run) == (f"aimsPAX.yaml.REFERENCE.{key}: was {was}, is 300",)


def test_a_calculators_own_argument_of_the_same_name_is_frozen(inputs, monkeypatch):
    (inputs.directory / "calculator_with_cycles.py").write_text(
        "from ase.calculators.emt import EMT\n"
        "class Mine(EMT):\n"
        "    def __init__(self, max_cycle):\n"
        "        super().__init__()\n"
    )
    monkeypatch.syspath_prepend(inputs.directory)
    own = "{engine: ase, calculator: calculator_with_cycles.Mine, arguments: {max_cycle: %s}}"
    inputs.project["REFERENCE"] = own % 50
    run = _started(inputs)
    inputs.project["REFERENCE"] = own % 60
    with pytest.raises(SettingsError, match=r"REFERENCE\.arguments\.max_cycle: was 50, is 60"):
        _changes(inputs, run)


def test_a_free_change_is_told_once(inputs):
    run = _started(inputs)
    inputs.plant("aimsPAX.yaml", AL, "c_x", "-0.2")
    settings = inputs.load()
    assert len(write_provenance(run, settings, GEOMETRIES)) == 1
    assert write_provenance(run, settings, GEOMETRIES) == ()


def test_a_refused_change_leaves_the_record_alone(inputs):
    run = _started(inputs)
    before = run.settings.read_text()
    inputs.plant("mace.yaml", "GENERAL", "seed", "1")
    with pytest.raises(SettingsError):
        write_provenance(run, inputs.load(), GEOMETRIES)
    assert run.settings.read_text() == before


# What else is frozen, and what is not


@pytest.mark.parametrize(
    ("file", "section", "key", "text"),
    [
        ("aimsPAX.yaml", IDG, "distinct_model_sets", "False"),
        ("aimsPAX.yaml", AL, "seeds_tags_dict", "{a: 1, b: 2, c: 3, d: 4}"),
        ("aimsPAX.yaml", AL, "initial_train_dataset", "geometry.in"),
        ("aimsPAX.yaml", AL, "initial_valid_dataset", "{test-1: geometry.in}"),
        ("aimsPAX.yaml", AL, "uncertainty_type", "ensemble_sd"),
        ("aimsPAX.yaml", AL, "uncertainty_of", "free_atoms"),
        ("mace.yaml", "GENERAL", "compute_stress", "True"),
        ("mace.yaml", "TRAINING", "seed", "1"),
        ("mace.yaml", "TRAINING", "ema", "False"),
        ("mace.yaml", "TRAINING", "optimizer", "adamw"),
        ("mace.yaml", "TRAINING", "amsgrad", "False"),
        ("mace.yaml", "TRAINING", "scheduler", "ExponentialLR"),
        ("mace.yaml", "MISC", "enable_cueq", "True"),
    ],
)
def test_what_would_make_labels_or_models_inconsistent_is_frozen(inputs, file, section, key, text):
    run = _started(inputs)
    inputs.plant(file, section, key, text)
    with pytest.raises(SettingsError, match=rf"\n  {section}\.{key}"):
        _changes(inputs, run)


@pytest.mark.parametrize(
    ("file", "section", "key", "text"),
    [
        ("mace.yaml", "TRAINING", "loss", "huber"),
        ("mace.yaml", "TRAINING", "forces_weight", "10"),
        ("mace.yaml", "TRAINING", "config_type_weights", "{Default: 2}"),
        ("aimsPAX.yaml", "MD", "timestep", "1.0"),
        ("aimsPAX.yaml", AL, "replay_strategy", "full_dataset"),
        ("aimsPAX.yaml", AL, "analysis", "True"),
        ("aimsPAX.yaml", AL, "extend_existing_final_ds", "True"),
        ("aimsPAX.yaml", "GATE", "max_force", "60"),
        ("mace.yaml", "TRAINING", "ema_decay", "0.9"),
        ("mace.yaml", "TRAINING", "batch_size", "2"),
        ("mace.yaml", "MISC", "keep_checkpoints", "True"),
        ("mace.yaml", "MISC", "kernel", "mace"),
    ],
)
def test_what_only_steers_the_rest_of_the_run_is_free(inputs, file, section, key, text):
    run = _started(inputs)
    inputs.plant(file, section, key, text)
    _changes(inputs, run)


def _by_geometry(inputs, *seeds: int, temperature: int = 300) -> None:
    for index in range(2):
        (inputs.directory / f"{index}.xyz").touch()
    inputs.plant("aimsPAX.yaml", "MISC", "path_to_geometry", "{0: 0.xyz, 1: 1.xyz}")
    sections = (
        f"{index}: {{stat_ensemble: NVT, MD_seed: {seed}, temperature: {temperature}}}"
        for index, seed in enumerate(seeds)
    )
    inputs.project["MD"] = f"{{{', '.join(sections)}}}"


def test_the_seed_of_every_geometry_is_frozen(inputs):
    _by_geometry(inputs, 1, 2)
    run = _started(inputs)
    _by_geometry(inputs, 1, 3)
    with pytest.raises(SettingsError, match=r"\n  MD\.1\.MD_seed: was 2, is 3\n"):
        _changes(inputs, run)


def test_the_temperature_of_every_geometry_is_free(inputs):
    _by_geometry(inputs, 1, 2)
    run = _started(inputs)
    _by_geometry(inputs, 1, 2, temperature=400)
    assert len(_changes(inputs, run)) == 2


def test_the_same_seed_may_be_written_once_or_by_geometry(inputs):
    _by_geometry(inputs, 7, 7)
    run = _started(inputs)
    inputs.project["MD"] = {"stat_ensemble": "NVT", "MD_seed": "7"}
    _changes(inputs, run)


def test_another_file_under_the_teachers_name_is_refused(inputs):
    teacher = inputs.directory / "teacher.model"
    teacher.write_text("one")
    inputs.project["REFERENCE"] = {"engine": "mace", "model_path": "teacher.model"}
    run = _started(inputs)
    teacher.write_text("another")
    with pytest.raises(SettingsError, match=r"REFERENCE\.model_path \(content\): was "):
        _changes(inputs, run)


def test_other_content_of_a_given_dataset_is_refused(inputs):
    given = inputs.directory / "train.xyz"
    given.write_text("one")
    inputs.plant("aimsPAX.yaml", AL, "initial_train_dataset", "{test-1: train.xyz}")
    run = _started(inputs)
    given.write_text("another")
    with pytest.raises(SettingsError, match=r"initial_train_dataset\.test-1 \(content\): was "):
        _changes(inputs, run)


def test_files_that_an_ase_calculator_is_given_are_frozen(inputs):
    parameters = inputs.directory / "parameters.txt"
    parameters.write_text("one")
    inputs.project["REFERENCE"] = (
        f"{{engine: ase, calculator: {EMT}, arguments: {{file: parameters.txt}}}}"
    )
    run = _started(inputs)
    parameters.write_text("another")
    with pytest.raises(SettingsError, match=r"REFERENCE\.arguments\.file \(content\): was "):
        _changes(inputs, run)


def test_every_row_of_the_table_names_a_key_that_there_is():
    models = {"aimsPAX.yaml": ProjectSettings, "mace.yaml": ModelSettings}
    for file, pattern, _ in FROZEN:
        model = models[file]
        schema = model.model_json_schema()
        known = [
            f"{section}.{key}"
            for section in model.model_fields
            for key in fields_of(schema, section)
        ]
        assert any(fnmatchcase(key, pattern) for key in known), pattern


# What an older version recorded


def _rewrite(run: RunDir, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(run.settings.read_text())
    content.pop("checksum", None)  # those of earlier releases have none
    change(content)
    run.settings.write_text(json.dumps(content))


def test_a_frozen_key_that_an_older_version_did_not_have_is_no_change(inputs):
    run = _started(inputs)
    _rewrite(run, lambda content: content["frozen"].pop("MISC.enable_cueq"))
    assert _changes(inputs, run) == ()


@pytest.mark.parametrize("then", ["convert_to_lora", "finetuning_choice"])
def test_lora_may_be_asked_for_by_either_of_its_names(inputs, then):
    (inputs.directory / "foundation.model").write_bytes(b"model")
    asked = {"convert_to_lora": "True", "finetuning_choice": "lora"}
    inputs.plant("mace.yaml", "TRAINING", "perform_finetuning", "True")
    inputs.plant("mace.yaml", "TRAINING", "pretrained_model", "foundation.model")
    inputs.plant("mace.yaml", "TRAINING", then, asked.pop(then))
    run = _started(inputs)
    content = json.loads(run.settings.read_text())
    del content["checksum"]
    if then == "convert_to_lora":  # as 0.2.0 recorded it
        content["frozen"] |= {
            "TRAINING.convert_to_lora": True, "TRAINING.finetuning_choice": "naive"
        }  # fmt: skip
        run.settings.write_text(json.dumps(content))
    assert _changes(inputs, run) == ()
    del inputs.model["TRAINING"][then]
    with pytest.raises(SettingsError, match="finetuning_choice: was 'lora', is 'naive'"):
        _changes(inputs, run)
    ((other, value),) = asked.items()
    inputs.plant("mace.yaml", "TRAINING", other, value)
    assert _changes(inputs, run) == ()


def test_models_of_a_version_without_the_reduced_basis_stay_in_the_full_one(inputs):
    run = _started(inputs)
    _rewrite(run, lambda content: content["frozen"].pop("ARCHITECTURE.use_reduced_cg"))
    assert _changes(inputs, run) == ()
    inputs.plant("mace.yaml", "ARCHITECTURE", "use_reduced_cg", "True")
    with pytest.raises(SettingsError, match=r"use_reduced_cg: was False, is True"):
        _changes(inputs, run)


def test_the_threshold_of_an_older_version_is_of_all_atoms(inputs):
    run = _started(inputs)
    _rewrite(run, lambda content: content["frozen"].pop("ACTIVE_LEARNING.uncertainty_of"))
    assert _changes(inputs, run) == ()
    inputs.plant("aimsPAX.yaml", AL, "uncertainty_of", "free_atoms")
    with pytest.raises(SettingsError, match=r"uncertainty_of: was 'all', is 'free_atoms'"):
        _changes(inputs, run)


def test_a_key_of_an_engine_that_an_older_version_did_not_have_is_no_change(inputs):
    run = _started(inputs)
    _rewrite(run, lambda content: content["frozen"].pop("REFERENCE.accuracy"))
    assert _changes(inputs, run) == ()


def _was_free(content: dict[str, Any]) -> None:
    content["free"]["mace.yaml.TRAINING.ema"] = content["frozen"].pop("TRAINING.ema")


def test_a_key_that_was_free_to_an_older_version_is_compared(inputs):
    run = _started(inputs)
    _rewrite(run, _was_free)
    _changes(inputs, run)
    inputs.plant("mace.yaml", "TRAINING", "ema", "False")
    with pytest.raises(SettingsError, match=r"TRAINING\.ema: was True, is False"):
        _changes(inputs, run)


def _was_frozen(content: dict[str, Any]) -> None:
    content["frozen"]["TRAINING.lr"] = content["free"].pop("mace.yaml.TRAINING.lr")


def test_a_key_that_was_frozen_to_an_older_version_may_change(inputs):
    run = _started(inputs)
    _rewrite(run, _was_frozen)
    inputs.plant("mace.yaml", "TRAINING", "lr", "0.02")
    _changes(inputs, run)


# Whether the campaign began from models that were there


def test_what_a_campaign_began_from_is_recorded(inputs):
    settings = inputs.load()
    run = RunDir.of(settings)
    assert adopted(run) is None
    write_provenance(run, settings, GEOMETRIES, adopted=True)
    assert adopted(run) is True


def test_a_campaign_that_began_from_models_did_so_at_a_restart_too(inputs):
    settings = inputs.load()
    run = RunDir.of(settings)
    write_provenance(run, settings, GEOMETRIES, adopted=True)
    write_provenance(run, settings, GEOMETRIES)
    assert adopted(run) is True


def test_a_campaign_of_its_own_is_recorded_as_such(inputs):
    assert adopted(_started(inputs)) is False


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"adopted": "yes"}', "\udcff"])
def test_a_record_that_cannot_be_read_does_not_tell_what_was_adopted(inputs, text):
    run = _started(inputs)
    run.settings.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert adopted(run) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"frozen": {}}', "\udcff"])
def test_a_damaged_record_is_a_mistake_that_names_its_file(inputs, text):
    run = _started(inputs)
    run.settings.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SettingsError) as caught:
        _changes(inputs, run)
    assert str(caught.value).startswith(f"{run.settings}: ")


# What the method is beyond its settings


def _refusal(inputs, run: RunDir) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        _changes(inputs, run)
    return [line.strip() for line in str(caught.value).splitlines()[1:-1]]


@pytest.fixture
def restarted(monkeypatch) -> Callable[[], None]:
    """Forget the engines that this process has built, as another process would not have them."""
    return lambda: monkeypatch.setattr(registry, "_built", {})


def test_another_version_of_the_engine_is_refused(inputs, monkeypatch, restarted):
    run = _started(inputs)
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "9.9" if name == "tblite" else real(name)
    )
    restarted()
    (line,) = _refusal(inputs, run)
    assert line == f"REFERENCE identity.version: was '{real('tblite')}', is '9.9'"


def test_other_source_of_the_users_calculator_is_refused(inputs, monkeypatch, restarted):
    source = inputs.directory / "calculator_of_mine.py"
    source.write_text("from ase.calculators.emt import EMT as Mine\n")
    monkeypatch.syspath_prepend(inputs.directory)
    inputs.project["REFERENCE"] = "{engine: ase, calculator: calculator_of_mine.Mine}"
    run = _started(inputs)
    source.write_text("from ase.calculators.emt import EMT as Mine  # changed\n")
    restarted()
    (line,) = _refusal(inputs, run)
    assert line.startswith("REFERENCE identity.provider.calculator_of_mine: was '")


def test_files_in_a_list_that_an_ase_calculator_is_given_are_frozen(inputs, restarted):
    parameters = inputs.directory / "parameters.txt"
    parameters.write_text("one")
    inputs.project["REFERENCE"] = (
        f"{{engine: ase, calculator: {EMT}, arguments: {{files: [parameters.txt]}}}}"
    )
    run = _started(inputs)
    parameters.write_text("another")
    restarted()
    (line,) = _refusal(inputs, run)
    assert line.startswith("REFERENCE identity.arguments.files: was [{sha256: ")


def test_another_version_of_the_teachers_package_is_refused(inputs, monkeypatch):
    (inputs.directory / "teacher.model").touch()
    inputs.project["REFERENCE"] = {"engine": "mace", "model_path": "teacher.model"}
    run = _started(inputs)
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "9.9" if name == "mace-torch" else real(name)
    )
    (line,) = _refusal(inputs, run)
    assert line == f"REFERENCE identity.version: was '{real('mace-torch')}', is '9.9'"


def test_a_changed_setting_is_told_once(inputs):
    run = _started(inputs)
    inputs.plant("aimsPAX.yaml", "REFERENCE", "charge", "1")
    assert _refusal(inputs, run) == ["REFERENCE.charge: was 0, is 1"]


def test_a_record_without_the_methods_identity_is_accepted(inputs):
    run = _started(inputs)

    def forget(content: dict[str, Any]) -> None:
        content["frozen"] = {
            key: value for key, value in content["frozen"].items() if "identity" not in key
        }

    _rewrite(run, forget)
    assert _changes(inputs, run) == ()


def test_recording_a_teacher_does_not_import_torch(inputs):
    (inputs.directory / "teacher.model").touch()
    inputs.project["REFERENCE"] = {"engine": "mace", "model_path": "teacher.model"}
    inputs.write()
    code = (
        "import sys; from aimspax_core.run_directory import RunDir; "
        "from aimspax_core.settings.load import load; "
        "from aimspax_core.inputs.provenance import write_provenance; "
        "settings = load(sys.argv[1]); write_provenance(RunDir.of(settings), settings, []); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(inputs.directory)], check=True)


# A record that is damaged, and a journal that knows its digest


def _journalled(inputs) -> RunDir:
    """A campaign whose journal knows which settings may not change."""
    run = _started(inputs)
    with Journal(run) as journal:
        rules = Rules.of(inputs.load(), ("a",), 1)
        journal.append(Started(rules=rules), Resumed(rules=rules, settings=frozen_digest(run)))
    return run


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"frozen": {}}', "\udcff"])
def test_a_damaged_record_costs_nothing_while_nothing_frozen_has_changed(inputs, text):
    run = _journalled(inputs)
    before = json.loads(run.settings.read_text())
    run.settings.write_bytes(text.encode("utf-8", "surrogateescape"))
    (told,) = write_provenance(run, inputs.load(), GEOMETRIES)
    assert str(run.settings) in told
    assert json.loads(run.settings.read_text()) == before
    assert _changes(inputs, run) == ()


def test_a_damaged_record_is_missed_if_something_frozen_has_changed(inputs):
    run = _journalled(inputs)
    run.settings.write_text("{")
    inputs.plant("mace.yaml", "GENERAL", "seed", "77")
    with pytest.raises(SettingsError) as caught:
        _changes(inputs, run)
    assert str(caught.value).startswith(f"{run.settings}: ")


def test_a_digit_of_the_record_that_changed_is_no_change_of_the_settings(inputs):
    run = _journalled(inputs)
    text = run.settings.read_text()
    (line,) = (line for line in text.splitlines() if '"GENERAL.seed"' in line)
    run.settings.write_text(text.replace(line, line.replace(": ", ": 7")))
    (told,) = _changes(inputs, run)
    assert str(run.settings) in told
