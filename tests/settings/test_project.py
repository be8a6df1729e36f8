"""`aimsPAX.yaml`: the README's defaults, what each key accepts, and what is told if it does not."""

from __future__ import annotations

import ast
import importlib.util
import math
from pathlib import Path

import pytest

from aimspax_core.errors import SettingsError
from aimspax_core.reference.mace.section import MaceMpReference, MaceReference
from aimspax_core.reference.so3lr.section import So3lrReference
from aimspax_core.reference.tblite.section import TbliteReference
from aimspax_core.settings.engines import FOUNDATION_MODELS
from aimspax_core.settings.reading.mistakes import MistakeKind
from aimspax_core.stopping.table import rules_of
from aimspax_core.text import or_list

IDG, AL = "INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"
WHOLE = "a whole number of at least 1"
LIMIT = "a whole number of at least 1, or inf"
SHARE = "a number of at least 0 and below 1"

# From the README's tables; the time step from the page on both generations.
DEFAULTS = {
    IDG: {
        "desired_acc_scale_idg": 10.0,
        "ensemble_size": 4,
        "initial_foundational_size": "small",
        "initial_sampling": "foundational",
        "foundational_model": "mace-mp",
        "intermediate_epochs_idg": 5,
        "max_initial_epochs": math.inf,
        "max_initial_set_size": math.inf,
        "scheduler_initial": True,
        "skip_step_initial": 25,
        "valid_ratio": 0.1,
        "valid_skip": 1,
        "converge_initial": False,
        "convergence_patience": 50,
        "margin": 0.002,
        "max_convergence_epochs": 500,
        "use_teacher_reference": False,
    },
    AL: {
        "c_x": 0.0,
        "ensemble_size": 4,
        "epochs_per_worker": 2,
        "freeze_threshold_dataset": math.inf,
        "intermediate_epochs_al": 1,
        "margin": 0.002,
        "max_MD_steps": math.inf,
        "max_train_set_size": math.inf,
        "skip_step_mlff": 25,
        "uncertainty_type": "max_atomic_sd",
        "uncert_not_crossed_limit": 50000,
        "valid_ratio": 0.1,
        "valid_skip": 1,
        "converge_al": True,
        "converge_best": True,
        "convergence_patience": 50,
        "max_convergence_epochs": 500,
    },
    "MD": {
        "thermostat": "langevin",
        "temperature": 300.0,
        "timestep": 0.5,
        "friction": 0.001,
        "fixcm": True,
        "MD_seed": 42,
    },
    "MISC": {
        "create_restart": True,
        "dataset_dir": Path("data"),
        "log_dir": Path("logs"),
        "output_dir": Path(),
        "path_to_geometry": Path("geometry.in"),
    },
}


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [(section, key, value) for section, keys in DEFAULTS.items() for key, value in keys.items()],
)
def test_the_default_is_the_readmes(inputs, section, key, value):
    assert getattr(getattr(inputs.load().project, section), key) == value


def test_the_accuracy_to_reach_is_zero_unless_given(inputs):
    del inputs.project[IDG]["desired_acc"], inputs.project[AL]["desired_acc"]
    inputs.plant("aimsPAX.yaml", IDG, "max_initial_epochs", "10")
    assert (inputs.load().idg.desired_acc, inputs.load().al.desired_acc) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("section", "key", "told"),
    [
        (IDG, "n_points_per_sampling_step_idg",
         f"{WHOLE} (Points for each member and geometry in a sampling step)"),
        (AL, "num_trajectories", f"{WHOLE} (Trajectories that explore)"),
        ("MD", "stat_ensemble", "nvt, npt or nve (Statistical ensemble)"),
    ],
)  # fmt: skip
def test_a_mandatory_key_is_asked_for_with_its_type_and_meaning(inputs, section, key, told):
    del inputs.project[section][key]
    inputs.project[section]["fixcm" if section == "MD" else "valid_skip"] = "1"
    (mistake,) = inputs.found()
    assert (mistake.kind, mistake.key) == (MistakeKind.MISSING, f"{section}.{key}")
    assert mistake.allowed == told


def test_a_mandatory_section_is_asked_for_with_what_it_needs(inputs):
    del inputs.project["MD"]
    (mistake,) = inputs.found()
    assert (mistake.kind, mistake.key) == (MistakeKind.MISSING, "MD")
    assert mistake.why.startswith("needs stat_ensemble (")


def test_without_any_phase_both_are_asked_for(inputs):
    del inputs.project[IDG], inputs.project[AL]
    needs = {mistake.key: mistake.why for mistake in inputs.found()}
    assert needs.keys() == {IDG, AL}
    assert needs[IDG].startswith("needs n_points_per_sampling_step_idg (")
    assert needs[AL].startswith("needs num_trajectories (")


@pytest.mark.key("ActiveLearning", "ensemble_size")
def test_a_phase_without_a_section_is_absent_but_has_the_others_members(inputs):
    del inputs.project[IDG]
    inputs.plant("aimsPAX.yaml", AL, "ensemble_size", "6")
    settings = inputs.load()
    assert settings.project.INITIAL_DATASET_GENERATION is None
    assert (settings.has_initial, settings.notes) == (False, ())
    assert not settings.has_initial
    assert settings.idg.ensemble_size == 6


@pytest.mark.parametrize(
    ("section", "refused", "fine"),
    [(IDG, ["initial"], ["active", "all"]), (AL, ["active", "all"], ["initial"])],
)
def test_what_has_no_section_cannot_be_run(inputs, section, refused, fine):
    del inputs.project[section]
    settings = inputs.load()
    for part in fine:
        settings.require(part)
    for part in refused:
        with pytest.raises(SettingsError, match=f"aimsPAX.yaml  {section}: missing; needs ") as no:
            settings.require(part)
        assert ("`aimspax initial-dataset` does without" in str(no.value)) == (part == "all")


def test_with_both_phases_everything_can_be_run(inputs):
    settings = inputs.load()
    assert settings.has_initial
    for part in ("initial", "active", "all"):
        settings.require(part)


# Wrong values


@pytest.mark.parametrize(
    ("section", "key", "value", "told"),
    [
        (IDG, "n_points_per_sampling_step_idg", "0", "wrong value 0"),
        (IDG, "n_points_per_sampling_step_idg", "1.5", "wrong value 1.5"),
        (IDG, "n_points_per_sampling_step_idg", "five", "wrong value 'five'"),
        (IDG, "n_points_per_sampling_step_idg", "", "wrong value nothing"),
        (IDG, "ensemble_size", "1", "wrong value 1"),
        (IDG, "ensemble_size", "True", "wrong value True"),
        (IDG, "valid_ratio", "1.0", "wrong value 1.0"),
        (IDG, "valid_ratio", "-0.1", "wrong value -0.1"),
        (IDG, "valid_ratio", ".nan", "wrong value nan"),
        (IDG, "desired_acc", "-0.1", "wrong value -0.1"),
        (IDG, "desired_acc", "1.d-3", "wrong value '1.d-3'"),
        (IDG, "desired_acc", "0,1", "wrong value '0,1'"),
        (IDG, "desired_acc", "inf", "wrong value 'inf'"),
        (IDG, "desired_acc_scale_idg", "0", "wrong value 0"),
        (IDG, "max_initial_epochs", "0", "wrong value 0"),
        (IDG, "max_initial_epochs", "2.5", "wrong value 2.5"),
        (IDG, "max_initial_set_size", "-inf", "wrong value '-inf'"),
        (IDG, "scheduler_initial", "maybe", "wrong value 'maybe'"),
        (IDG, "scheduler_initial", "", "wrong value nothing"),
        (IDG, "initial_sampling", "mace",
         "wrong value 'mace'"),
        (IDG, "foundational_model_settings", "small",
         "wrong value 'small'"),
        (IDG, "n_points_per_sampling_step", "5",
         "unknown key -> n_points_per_sampling_step_idg"),
        (IDG, "MAX_INITIAL_EPOCHS", "5", "unknown key -> max_initial_epochs"),
        (IDG, "distinct_model_set", "True", "unknown key -> distinct_model_sets"),
        (IDG, "c_x", "0", "misplaced in the wrong section"),
        (AL, "c_x", "-1", "wrong value -1"),
        (AL, "c_x", ".inf", "wrong value inf"),
        (AL, "num_trajectories", "[8]", "wrong value [8]"),
        (AL, "num_trajectories", "{a: null, b: x}",
         "wrong value {a: nothing, b: 'x'}"),
        (AL, "num_trajectories", "2024-01-01", "wrong value 2024-01-01"),
        (AL, "num_trajectories", "'" + 70 * "x" + "'", f"wrong value '{58 * 'x'}…"),
        (AL, "max_MD_steps", "infinite", "wrong value 'infinite'"),
        (AL, "max_MD_steps", "True", "wrong value True"),
        (AL, "uncert_not_crossed_limit", "0", "wrong value 0"),
        (AL, "uncertainty_type", "max_atom_sd",
         "wrong value 'max_atom_sd' -> max_atomic_sd"),
        ("MD", "timestep", "0", "wrong value 0"),
        ("MD", "timestep", "-1", "wrong value -1"),
        ("MD", "temperature", "warm", "wrong value 'warm'"),
        ("MD", "thermostat", "nose", "wrong value 'nose'"),
        ("MD", "MD_seed", "1.5", "wrong value 1.5"),
        ("MD", "temprature", "300", "unknown key -> temperature"),
        ("MISC", "log_dir", "3", "wrong value 3"),
        ("MISC", "pathtogeometry", "x", "unknown key -> path_to_geometry"),
        ("GATE", "min_distance", "1.0", "wrong value 1.0"),
        ("GATE", "max_force", "0", "wrong value 0"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told(inputs, section, key, value, told):
    assert inputs.mistake("aimsPAX.yaml", section, key, value) == f"{section}.{key}: {told}"


# Spellings


@pytest.mark.parametrize("text", ["inf", "np.inf", ".inf", "Inf", "+inf", "numpy.inf", "infinity"])
@pytest.mark.parametrize(
    ("section", "key"),
    [
        (IDG, "max_initial_epochs"),
        (IDG, "max_initial_set_size"),
        (AL, "max_MD_steps"),
        (AL, "max_train_set_size"),
        (AL, "freeze_threshold_dataset"),
        (AL, "uncert_not_crossed_limit"),
    ],
)
def test_infinity_is_read_however_it_is_spelt(inputs, section, key, text):
    inputs.plant("aimsPAX.yaml", section, key, text)
    assert getattr(getattr(inputs.load().project, section), key) == math.inf


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), ("1.e-3", 0.001), (".1", 0.1), ("1E-3", 0.001), ("'0.5'", 0.5), ("1", 1.0)],
)
def test_numbers_are_read_however_they_are_spelt(inputs, text, value):
    inputs.plant("aimsPAX.yaml", IDG, "desired_acc", text)
    assert inputs.load().idg.desired_acc == value


def test_a_limit_may_be_written_with_an_exponent(inputs):
    inputs.plant("aimsPAX.yaml", AL, "max_MD_steps", "1e6")
    assert inputs.load().al.max_MD_steps == 1_000_000


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[(text, True) for text in ("True", "true", "TRUE", "yes", "Yes", "on", "1")],
        *[(text, False) for text in ("False", "false", "no", "No", "off", "0")],
    ],
)
def test_truth_values_are_read_however_they_are_spelt(inputs, text, value):
    inputs.plant("aimsPAX.yaml", AL, "converge_best", text)
    assert inputs.load().al.converge_best is value


@pytest.mark.parametrize("text", ["NVT", "nvt", "Nvt"])
def test_the_case_of_an_ensemble_does_not_matter(inputs, text):
    inputs.plant("aimsPAX.yaml", "MD", "stat_ensemble", text)
    assert inputs.load().md(0).stat_ensemble == "nvt"


@pytest.mark.parametrize("text", ["mace-mp0", "foundational", "Foundational"])
def test_both_generations_name_the_foundational_sampler(inputs, text):
    inputs.plant("aimsPAX.yaml", IDG, "initial_sampling", text)
    assert inputs.load().idg.initial_sampling == "foundational"


# Phases without an end


def test_an_initial_phase_without_an_end_is_refused(inputs):
    del inputs.project[IDG]["desired_acc"]
    assert inputs.mistakes() == ["aimsPAX.yaml:3  INITIAL_DATASET_GENERATION: conflict"]


@pytest.mark.parametrize("key", ["max_initial_epochs", "max_initial_set_size"])
def test_a_limit_ends_the_initial_phase(inputs, key):
    inputs.project[IDG] = {"n_points_per_sampling_step_idg": "5", key: "10"}
    assert inputs.load().notes == ()


def test_a_missing_end_is_told_beside_other_mistakes_of_the_section(inputs):
    del inputs.project[IDG]["desired_acc"]
    inputs.plant("aimsPAX.yaml", IDG, "valid_skip", "0")
    inputs.plant("aimsPAX.yaml", IDG, "converge_al", "True")
    assert len(inputs.mistakes()) == 3


def test_a_wrong_limit_is_not_told_as_a_missing_end(inputs):
    inputs.project[IDG] = {"n_points_per_sampling_step_idg": "5", "max_initial_epochs": "0"}
    (mistake,) = inputs.mistakes()
    assert f"{IDG}.max_initial_epochs: wrong value 0" in mistake


def test_active_learning_without_an_end_is_only_noted(inputs):
    del inputs.project[AL]["desired_acc"]
    assert inputs.load().notes == (
        f"aimsPAX.yaml: {AL}: nothing ends this phase; it runs until you stop it "
        f"({or_list([rule.key.name for rule in rules_of('active')])} would)",
    )


@pytest.mark.parametrize("key", ["max_MD_steps", "max_train_set_size"])
def test_a_limit_ends_active_learning(inputs, key):
    inputs.project[AL] = {"num_trajectories": "8", key: "100"}
    assert inputs.load().notes == ()


# Keys that depend on each other


def test_another_ensemble_size_for_active_learning_is_noted(inputs):
    inputs.plant("aimsPAX.yaml", AL, "ensemble_size", "6")
    assert inputs.load().notes == (
        f"aimsPAX.yaml: {AL}.ensemble_size is 6; {IDG}'s 4 holds",
    )  # fmt: skip


def test_an_ensemble_size_that_active_learning_does_not_give_is_not_noted(inputs):
    inputs.plant("aimsPAX.yaml", IDG, "ensemble_size", "6")
    assert inputs.load().notes == ()


def test_sampling_with_an_engine_needs_one(inputs):
    inputs.plant("aimsPAX.yaml", IDG, "initial_sampling", "engine")
    (mistake,) = inputs.mistakes()
    assert mistake.endswith("INITIAL_DATASET_GENERATION.sampling_engine: missing")


def test_an_engine_that_does_not_sample_is_noted(inputs):
    inputs.plant("aimsPAX.yaml", IDG, "sampling_engine", "{engine: tblite}")
    (note,) = inputs.load().notes
    assert "sampling_engine has no effect without `initial_sampling: engine`" in note


def test_a_size_beside_foundational_model_settings_is_noted(inputs):
    inputs.plant("aimsPAX.yaml", IDG, "initial_foundational_size", "large")
    inputs.plant("aimsPAX.yaml", IDG, "foundational_model_settings", "{mace_model: medium}")
    settings = inputs.load()
    assert settings.idg.foundation.mace_model == "medium"
    assert "initial_foundational_size has no effect" in settings.notes[0]


# Engines

ENGINES = "aims, ase, mace, mace-mp, pyscf or tblite"
XTB_KEYS = "accuracy, charge, electronic_temperature, engine, max_iterations, method, spin"


@pytest.mark.key("TbliteReference", "engine")
def test_tblite_is_an_engine(inputs):
    inputs.project["REFERENCE"] = {"engine": "tblite", "method": "GFN1-xTB", "charge": "-1"}
    assert inputs.load().reference == TbliteReference(engine="tblite", method="GFN1-xTB", charge=-1)


@pytest.mark.key("MaceReference", "engine")
def test_mace_is_an_engine(inputs):
    (inputs.directory / "teacher.model").touch()
    inputs.project["REFERENCE"] = {"engine": "mace", "model_path": "teacher.model"}
    reference = inputs.load().reference
    assert reference == MaceReference(engine="mace", model_path=Path("teacher.model"))


@pytest.mark.parametrize(
    ("section", "key"), [("REFERENCE", ""), (IDG, "sampling_engine")], ids=["reference", "sampler"]
)
@pytest.mark.parametrize(
    ("text", "where", "told"),
    [
        ("{engine: tblit}", "engine",
         "wrong value 'tblit' -> tblite"),
        ("{}", "engine", "missing"),
        ("{method: GFN2-xTB}", "engine", "missing"),
        ("{engine: [gfn]}", "engine", "wrong value ['gfn']"),
        ("{engine: tblite, mace: 1}", "mace", "unknown key"),
        ("{engine: tblite, chrge: 1}", "chrge", "unknown key -> charge"),
        ("{engine: tblite, 1: 1}", "1", "unknown key"),
        ("{engine: tblite, method: GFN2}", "method",
         "wrong value 'GFN2' -> GFN2-xTB"),
        ("{engine: tblite, spin: 0}", "spin", "wrong value 0"),
        ("{engine: tblite, charge: 0.5}", "charge", "wrong value 0.5"),
        ("{engine: mace}", "model_path", "missing"),
        ("{engine: mace, model_path: geometry.in, device: gpu}", "device",
         "wrong value 'gpu'"),
    ],
)  # fmt: skip
def test_a_mistake_inside_an_engine_is_told_without_pydantics_tags(
    inputs, section, key, text, where, told
):
    if key:
        inputs.plant("aimsPAX.yaml", IDG, "initial_sampling", "engine")
        inputs.plant("aimsPAX.yaml", IDG, key, text)
    else:
        inputs.project[section] = text
    (mistake,) = inputs.mistakes()
    place = ".".join(part for part in (section, key, where) if part)
    assert mistake.partition("  ")[2] == f"{place}: {told}"


@pytest.mark.key("AseReference", "engine")
@pytest.mark.key("MaceMpReference", "engine")
@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("{engine: mace-mp}", "mace_model", "small"),
        ("{engine: mace-mp, mace_model: medium-mpa-0, device: 'cuda:1'}", "device", "cuda:1"),
        ("{engine: mace-mp, dispersion: True}", "dispersion_cutoff", 12.0),
        ("{engine: ase, calculator: ase.calculators.emt.EMT}", "arguments", {}),
        ("{engine: ase, calculator: my.module.make, arguments: {xc: PBE, kpts: [2, 2, 2]}}",
         "arguments", {"xc": "PBE", "kpts": [2, 2, 2]}),
        ("{engine: ase, calculator: my.make, version: '2'}", "version", "2"),
    ],
)  # fmt: skip
def test_foundation_models_and_ase_calculators_are_engines(inputs, text, key, value):
    inputs.project["REFERENCE"] = text
    assert getattr(inputs.load().reference, key) == value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{engine: mace-mp, mace_model: smal}", "mace_model: not there 'smal'"),
        ("{engine: mace-mp, model_path: x}", "model_path: unknown key"),
        ("{engine: ase}", "calculator: missing"),
        ("{engine: ase, calculator: EMT}", "calculator: wrong value 'EMT'"),
        ("{engine: ase, calculator: a.b, arguments: [1]}",
         "arguments: wrong value [1]"),
        ("{engine: ase, calculator: a.b, version: 2}",
         "version: wrong value 2"),
    ],
)  # fmt: skip
def test_a_mistake_in_such_an_engine_is_told(inputs, text, told):
    inputs.project["REFERENCE"] = text
    (mistake,) = inputs.mistakes()
    assert mistake.partition("  ")[2].startswith(f"REFERENCE.{told}")


# Files that must be there


@pytest.mark.parametrize(
    ("section", "key", "text", "where", "what"),
    [
        ("REFERENCE", "", "{engine: mace, model_path: no.model}", "REFERENCE.model_path", "file"),
        (IDG, "sampling_engine", "{engine: mace, model_path: no.model}",
         f"{IDG}.sampling_engine.model_path", "file"),
        ("MISC", "path_to_geometry", "no.model", "MISC.path_to_geometry", "file or folder"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_there_is_named(inputs, section, key, text, where, what):
    if key:
        inputs.plant("aimsPAX.yaml", section, key, text)
    else:
        inputs.project[section] = text
    (mistake,) = inputs.mistakes()
    told = f"{where}: not there 'no.model'"
    assert mistake.partition("  ")[2] == told


def test_the_default_geometry_must_be_there_too(inputs):
    (inputs.directory / "geometry.in").unlink()
    assert inputs.mistakes() == ["aimsPAX.yaml  MISC.path_to_geometry: not there 'geometry.in'"]


def test_a_folder_is_no_teacher(inputs):
    inputs.project["REFERENCE"] = "{engine: mace, model_path: .}"
    assert "model_path: not there" in inputs.mistakes()[0]


def test_a_folder_of_geometries_has_them_by_name(inputs):
    folder = inputs.directory / "geometries"
    folder.mkdir()
    for name in ("b.xyz", "a.xyz"):
        (folder / name).touch()
    inputs.plant("aimsPAX.yaml", "MISC", "path_to_geometry", "geometries")
    assert inputs.load().geometry_files == [folder / "a.xyz", folder / "b.xyz"]


def test_geometries_by_index_come_in_the_order_of_the_indices(inputs):
    for name in ("a.xyz", "b.xyz", "c.xyz"):
        (inputs.directory / name).touch()
    inputs.plant("aimsPAX.yaml", "MISC", "path_to_geometry", "{2: a.xyz, 0: c.xyz, 1: b.xyz}")
    assert [path.name for path in inputs.load().geometry_files] == ["c.xyz", "b.xyz", "a.xyz"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{0: geometry.in, 2: geometry.in}",
         "wrong value {0: 'geometry.in', 2: 'geometry.in'}"),
        ("{1: geometry.in}",
         "wrong value {1: 'geometry.in'}"),
        ("{0: geometry.in, a: geometry.in}",
         "wrong value {0: 'geometry.in', a: 'geometry.in'}"),
        ("{0: [geometry.in]}",
         "wrong value {0: ['geometry.in']}"),
        ("3", "wrong value 3"),
    ],
)  # fmt: skip
def test_wrong_geometries_by_index_are_told(inputs, text, told):
    mistake = inputs.mistake("aimsPAX.yaml", "MISC", "path_to_geometry", text)
    assert mistake == f"MISC.path_to_geometry: {told}"


def test_a_geometry_by_index_that_is_not_there_is_named(inputs):
    told = inputs.mistake("aimsPAX.yaml", "MISC", "path_to_geometry", "{0: geometry.in, 1: no.xyz}")
    assert told == "MISC.path_to_geometry: not there 'no.xyz' for 1"


def test_the_home_folder_may_be_abbreviated(inputs, monkeypatch):
    monkeypatch.setenv("HOME", str(inputs.directory))
    (inputs.directory / "teacher.model").touch()
    inputs.project["REFERENCE"] = "{engine: mace, model_path: ~/teacher.model}"
    assert inputs.load().reference.model_path == inputs.directory / "teacher.model"


@pytest.mark.parametrize(
    ("key", "text", "where"),
    [
        ("initial_foundational_size", "smal", "initial_foundational_size"),
        ("foundational_model_settings", "{mace_model: smal}",
         "foundational_model_settings.mace_model"),
    ],
)  # fmt: skip
def test_a_foundation_model_is_a_known_name_or_a_file(inputs, key, text, where):
    told = inputs.mistake("aimsPAX.yaml", IDG, key, text)
    assert told.startswith(f"{IDG}.{where}: not there 'smal'")
    assert told.endswith("not there 'smal' -> small")


@pytest.mark.parametrize("name", ["medium", "medium-mpa-0", "own.model", "https://host/x.model"])
def test_a_foundation_model_may_be_a_name_a_file_or_an_address(inputs, name):
    (inputs.directory / "own.model").touch()
    inputs.plant("aimsPAX.yaml", IDG, "foundational_model_settings", f"{{mace_model: '{name}'}}")
    assert inputs.load().idg.foundation.mace_model == name


def test_the_names_of_foundation_models_are_those_of_the_installed_mace():
    (folder,) = importlib.util.find_spec("mace").submodule_search_locations
    tree = ast.parse((Path(folder) / "calculators" / "foundations_models.py").read_text())
    (urls,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "mace_mp_urls"
    )
    assert tuple(ast.literal_eval(urls)) == FOUNDATION_MODELS


# A teacher, as the second generation names it


TEACHER = "{model_type: mace, model_path: teacher.model}"


def _teacher(inputs, *sections: str, settings: str = TEACHER):
    (inputs.directory / "teacher.model").touch()
    inputs.project.pop("REFERENCE", None)
    for section in sections:
        inputs.plant("aimsPAX.yaml", section, "use_teacher_reference", "True")
        inputs.plant("aimsPAX.yaml", section, "teacher_reference_settings", settings)
    return inputs


@pytest.mark.key("ActiveLearning", "use_teacher_reference", "teacher_reference_settings")
@pytest.mark.key("InitialDatasetGeneration", "use_teacher_reference", "teacher_reference_settings")
@pytest.mark.key("Teacher", "model_path")
def test_a_teacher_is_the_reference(inputs):
    settings = _teacher(inputs, IDG, AL).load()
    assert settings.reference == MaceReference(engine="mace", model_path=Path("teacher.model"))
    assert settings.notes == ()


def test_a_teacher_of_one_phase_labels_the_other_too(inputs):
    assert _teacher(inputs, IDG).load().notes == (
        f"aimsPAX.yaml: {AL} is labelled by {IDG}'s teacher too",
    )


def test_a_teacher_that_the_other_phase_denies_is_a_mistake(inputs):
    told = _teacher(inputs, IDG).mistake("aimsPAX.yaml", AL, "use_teacher_reference", "False")
    assert told.startswith(f"{AL}.use_teacher_reference: conflict False, but {IDG} has a teacher")


def test_a_teacher_beside_a_reference_is_a_mistake(inputs):
    _teacher(inputs, IDG, AL)
    inputs.project["REFERENCE"] = {"engine": "tblite"}
    (mistake,) = inputs.mistakes()
    assert mistake.endswith(
        "INITIAL_DATASET_GENERATION.use_teacher_reference: conflict beside REFERENCE"
    )


def test_two_teachers_are_a_mistake(inputs):
    (inputs.directory / "other.model").touch()
    told = _teacher(inputs, IDG, AL).mistake(
        "aimsPAX.yaml", AL, "teacher_reference_settings", "{model_path: other.model}"
    )
    assert told == ("ACTIVE_LEARNING.teacher_reference_settings: conflict")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{model_path: no.model}", ".model_path: not there 'no.model'"),
        ("{model_type: mace}",
         ".model_path: missing"),
        ("null", ": wrong value nothing"),
        ("x.model", ": wrong value 'x.model'"),
        ("{model_type: mace-mp, mace_model: smal}",
         ".mace_model: not there 'smal' -> small"),
        ("{model_type: nequip, model_path: teacher.model}",
         ".model_type: wrong value 'nequip'"),
        ("{model_type: mace-mp, model_size: small}",
         ".model_size: unknown key -> mace_model"),
    ],
)  # fmt: skip
def test_a_wrong_teacher_is_told_once_and_where_it_is_written(inputs, text, told):
    _teacher(inputs, IDG, settings=text)
    (mistake,) = inputs.mistakes()
    expected = f"{IDG}.teacher_reference_settings{told.format(inputs.directory)}"
    assert mistake.partition("  ")[2] == expected


@pytest.mark.key("Teacher", "model_type", "mace_model")
def test_a_teacher_may_be_a_foundation_model(inputs):
    settings = _teacher(
        inputs, IDG, AL, settings="{model_type: MACE-MP, mace_model: medium}"
    ).load()
    assert settings.reference == MaceMpReference(engine="mace-mp", mace_model="medium")


@pytest.mark.parametrize(("more", "file"), [("", None), (", model_path: teacher.model", "teacher")])
def test_a_teacher_may_be_so3lr(inputs, more, file):
    settings = _teacher(inputs, IDG, AL, settings=f"{{model_type: SO3LR{more}}}").load()
    path = None if file is None else Path("teacher.model")
    assert settings.reference == So3lrReference(engine="so3lr", model_path=path)


@pytest.mark.parametrize("text", ["True", "true", "yes", "on", "1"])
def test_a_teacher_is_used_however_that_is_spelt(inputs, text):
    _teacher(inputs, IDG, AL)
    inputs.plant("aimsPAX.yaml", IDG, "use_teacher_reference", text)
    assert inputs.load().notes == ()


def test_a_teacher_that_is_not_used_labels_nothing(inputs):
    inputs.plant("aimsPAX.yaml", IDG, "use_teacher_reference", "False")
    assert isinstance(inputs.load().reference, TbliteReference)


# What active learning trains on


@pytest.mark.parametrize("key", ["initial_train_dataset", "initial_valid_dataset"])
def test_datasets_to_begin_from_may_be_one_or_one_for_each_tag(inputs, key):
    (inputs.directory / "a.xyz").touch()
    inputs.plant("aimsPAX.yaml", AL, key, "a.xyz")
    assert getattr(inputs.load().al, key) == Path("a.xyz")
    inputs.plant("aimsPAX.yaml", AL, key, "{run-42: a.xyz, 99: a.xyz}")
    assert getattr(inputs.load().al, key) == {"run-42": Path("a.xyz"), "99": Path("a.xyz")}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("no.xyz", "not there 'no.xyz'"),
        (".", "not there '.'"),
        ("{run-42: no.xyz}", "not there 'no.xyz' for run-42"),
        ("[a.xyz]", "wrong value ['a.xyz']"),
        ("{run-42: 5}", "wrong value {{run-42: 5}}"),
    ],
)
def test_a_wrong_dataset_to_begin_from_is_told(inputs, text, told):
    mistake = inputs.mistake("aimsPAX.yaml", AL, "initial_train_dataset", text)
    assert mistake == f"{AL}.initial_train_dataset: {told.format(inputs.directory)}"


def test_a_random_subset_needs_its_size(inputs):
    inputs.plant("aimsPAX.yaml", AL, "replay_strategy", "random_subset")
    (mistake,) = inputs.mistakes()
    assert mistake.endswith("ACTIVE_LEARNING: conflict")


def test_a_random_subset_with_its_size_is_fine(inputs):
    inputs.plant("aimsPAX.yaml", AL, "replay_strategy", "Random_Subset")
    inputs.plant("aimsPAX.yaml", AL, "train_subset_size", "20")
    al = inputs.load().al
    assert (al.replay_strategy, al.train_subset_size, al.valid_subset_size) == (
        "random_subset",
        20,
        None,
    )


def test_seeds_go_by_tag(inputs):
    inputs.plant("aimsPAX.yaml", IDG, "ensemble_size", "2")
    inputs.plant("aimsPAX.yaml", AL, "seeds_tags_dict", "{test-1: 1, test-2: 2}")
    assert inputs.load().al.seeds_tags_dict == {"test-1": 1, "test-2": 2}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[1, 2]", "wrong value [1, 2]"),
        ("{test-1: x}", "wrong value 'x' for test-1"),
    ],
)  # fmt: skip
def test_wrong_seeds_are_told(inputs, text, told):
    mistake = inputs.mistake("aimsPAX.yaml", AL, "seeds_tags_dict", text)
    assert mistake == f"{AL}.seeds_tags_dict: {told}"


@pytest.mark.parametrize("key", ["energy_key", "forces_key", "head_key", "total_spin_key"])
def test_a_data_key_is_a_name_that_a_dataset_can_have(inputs, key):
    inputs.plant("aimsPAX.yaml", "MISC", key, "my_name")
    assert getattr(inputs.load().misc, key) == "my_name"
    told = inputs.mistake("aimsPAX.yaml", "MISC", key, "'my name'")
    assert told == f"MISC.{key}: wrong value 'my name'"


# Tags are parts of paths


@pytest.mark.parametrize("tag", ["..", "../x", "a/b", ".hidden", "' '", "''"])
@pytest.mark.parametrize(
    ("key", "value"),
    [("seeds_tags_dict", "1"), ("initial_train_dataset", "geometry.in"),
     ("initial_valid_dataset", "geometry.in")],
)  # fmt: skip
def test_a_tag_that_is_no_part_of_a_file_name_is_refused(inputs, key, value, tag):
    told = inputs.mistake("aimsPAX.yaml", "ACTIVE_LEARNING", key, f"{{{tag}: {value}}}")
    name = tag.strip("'")
    assert told == f"ACTIVE_LEARNING.{key}: wrong value '{name}' for a member's tag"


def test_a_phase_that_is_not_run_gets_no_note_on_its_convergence(inputs):
    del inputs.project[AL]
    inputs.model["TRAINING"] = {"swa": "True", "start_swa": "600"}
    assert inputs.load().notes == ()


# ---- the calibrated threshold ---------------------------------------------------------------


def test_a_calibrated_threshold_needs_the_error_that_is_acceptable(inputs):
    inputs.plant("aimsPAX.yaml", AL, "threshold", "calibrated")
    (mistake,) = inputs.mistakes()
    assert f"{AL}.force_error: missing" in mistake


@pytest.mark.parametrize("error", ["0", "-0.1", ".inf", "much"])
def test_an_acceptable_error_is_a_positive_number(inputs, error):
    inputs.plant("aimsPAX.yaml", AL, "threshold", "calibrated")
    inputs.plant("aimsPAX.yaml", AL, "force_error", error)
    (mistake,) = inputs.mistakes()
    assert f"{AL}.force_error" in mistake


def test_an_acceptable_error_without_calibration_is_noted(inputs):
    inputs.plant("aimsPAX.yaml", AL, "force_error", "0.3")
    (note,) = inputs.load().notes
    assert "force_error has no effect without `threshold: calibrated`" in note


@pytest.mark.parametrize("share", ["0", "1.5", "-0.1"])
def test_a_share_of_the_checks_is_above_0_and_at_most_1(inputs, share):
    inputs.plant("aimsPAX.yaml", AL, "selection", "random")
    inputs.plant("aimsPAX.yaml", AL, "random_share", share)
    (mistake,) = inputs.mistakes()
    assert f"{AL}.random_share" in mistake


def test_a_share_without_chance_is_noted(inputs):
    inputs.plant("aimsPAX.yaml", AL, "random_share", "0.3")
    (note,) = inputs.load().notes
    assert "random_share has no effect without `selection: random`" in note


@pytest.mark.parametrize(
    ("key", "value"),
    [("threshold", "calibrated"), ("c_x", "0.1"), ("freeze_threshold_dataset", "40")],
)
def test_a_threshold_beside_chance_is_noted(inputs, key, value):
    inputs.plant("aimsPAX.yaml", AL, "selection", "random")
    inputs.plant("aimsPAX.yaml", AL, key, value)
    if key == "threshold":
        inputs.plant("aimsPAX.yaml", AL, "force_error", "0.3")
    assert any(
        f"{AL}.{key} has no effect with `selection: random`" in n for n in inputs.load().notes
    )


def test_freezing_a_threshold_that_is_calibrated_is_noted(inputs):
    inputs.plant("aimsPAX.yaml", AL, "freeze_threshold_dataset", "40")
    assert inputs.load().notes == ()
    inputs.plant("aimsPAX.yaml", AL, "threshold", "calibrated")
    inputs.plant("aimsPAX.yaml", AL, "force_error", "0.3")
    (note,) = inputs.load().notes
    assert f"{AL}.freeze_threshold_dataset has no effect with `threshold: calibrated`" in note


# Rattled copies


@pytest.mark.parametrize(("section", "text", "told"), [
    (IDG, "{displacement: 0}", "rattle.displacement: wrong value 0"),
    (IDG, "{displacement: [0.1, -0.1]}", "rattle.displacement: wrong value -0.1 as item 2"),
    (AL, "{strain: 0.3}", "rattle.strain: wrong value 0.3"),
    (AL, "{0: {strian: 0.1}}", "rattle.0.strian: unknown key -> strain"),
    (AL, "0.1", "rattle: wrong value 0.1"),
])  # fmt: skip
def test_a_wrong_amplitude_is_told_once(inputs, section, text, told):
    inputs.plant("aimsPAX.yaml", section, "rattle", text)
    (only,) = inputs.mistakes()
    assert only.partition("  ")[2] == f"{section}.{told}"


def test_rattling_that_means_nothing_is_noted(inputs):
    inputs.plant("aimsPAX.yaml", IDG, "rattle", "{displacement: 0.1}")
    inputs.plant("aimsPAX.yaml", AL, "rattle", "{7: {displacement: 0.1}}")
    notes = " ".join(inputs.load().notes)
    assert "rattle has no effect without `initial_sampling: rattle`" in notes
    assert "ACTIVE_LEARNING.rattle.7 has no effect: there is no geometry 7" in notes


def test_without_sampling_md_its_keys_are_noted(inputs):
    inputs.plant("aimsPAX.yaml", IDG, "initial_sampling", "Rattle")
    inputs.plant("aimsPAX.yaml", IDG, "skip_step_initial", "5")
    (note,) = (note for note in inputs.load().notes if "skip_step_initial" in note)
    assert "no effect with `initial_sampling: rattle`" in note


# Restarts from labels


@pytest.mark.parametrize(("text", "shares"), [
    ("0", ()), ("0.5", (0.5, 0.5)), ("{1: 1}", (0.0, 1.0)), ("{0: 0, 1: 0}", ()),
])  # fmt: skip
def test_restarts_from_labels_are_read(inputs, text, shares):
    for section in (IDG, AL):
        inputs.plant("aimsPAX.yaml", section, "restart_from_labels", text)
    settings = inputs.load()
    assert settings.idg.restart_shares(2) == settings.al.restart_shares(2) == shares


@pytest.mark.parametrize(("text", "told"), [
    ("1.5", "wrong value 1.5"), ("-0.1", "wrong value -0.1"), ("True", "wrong value True"),
    ("often", "wrong value 'often'"), ("{0: 2}", "wrong value 2 for 0"),
    ("null", "wrong value nothing"),
])  # fmt: skip
def test_a_wrong_share_of_restarts_is_told_once(inputs, text, told):
    found = inputs.mistake("aimsPAX.yaml", AL, "restart_from_labels", text)
    assert found == f"{AL}.restart_from_labels: {told}"
