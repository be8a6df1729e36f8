"""Public example inputs of both generations: the keys that matter, and the notes about them."""

from __future__ import annotations

import pytest

from aimspax_core.reference.mace.section import MaceMpReference

IDG, AL = "INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"
TEACHER = "{model_type: mace-mp, mace_model: small}"


def test_the_local_example_of_the_second_generation_is_read(inputs):
    del inputs.project["REFERENCE"]
    for section in (IDG, AL):
        inputs.plant("aimsPAX.yaml", section, "use_teacher_reference", "true")
        inputs.plant("aimsPAX.yaml", section, "teacher_reference_settings", TEACHER)
        inputs.plant("aimsPAX.yaml", section, "save_trajectories", "true")
    inputs.plant("aimsPAX.yaml", IDG, "initial_sampling", "foundational")
    inputs.plant("aimsPAX.yaml", IDG, "foundational_model", "mace-mp")
    inputs.plant("aimsPAX.yaml", IDG, "foundational_model_settings", "{mace_model: small}")
    inputs.project["CLUSTER"] = {"type": "local", "executor": "local", "max_workers": "1"}
    inputs.plant("mace.yaml", "ARCHITECTURE", "model_choice", "mace")
    settings = inputs.load()
    assert settings.reference == MaceMpReference(engine="mace-mp", mace_model="small")
    assert settings.notes == (
        "aimsPAX.yaml: CLUSTER.executor has no effect: it configured PARSL, which aimspax does "
        "not use",
    )


def test_another_ensemble_size_of_active_learning_is_noted(inputs):
    inputs.plant("aimsPAX.yaml", IDG, "ensemble_size", "2")
    inputs.plant("aimsPAX.yaml", AL, "ensemble_size", "4")
    assert inputs.load().notes == (f"aimsPAX.yaml: {AL}.ensemble_size is 4; {IDG}'s 2 holds",)


def test_the_datasets_of_the_pretrained_example_are_read(inputs):
    for key, name in (("initial_train_dataset", "train"), ("initial_valid_dataset", "valid")):
        (inputs.directory / f"{name}.extxyz").touch()
        inputs.plant("aimsPAX.yaml", AL, key, f"./{name}.extxyz")
    inputs.plant("aimsPAX.yaml", "MISC", "output_dir", '"."')
    assert inputs.load().notes == ()


@pytest.mark.parametrize(
    ("key", "today"),
    [
        ("max_epochs_worker", "epochs_per_worker"),
        ("max_final_epochs", "max_convergence_epochs"),
        ("max_set_size", "max_train_set_size"),
        ("patience", "convergence_patience"),
        ("sanity_skip", "analysis_skip"),
    ],
)
def test_a_name_from_before_both_generations_is_told_with_todays(inputs, key, today):
    told = inputs.mistake("aimsPAX.yaml", AL, key, "10")
    assert told == f"{AL}.{key}: unknown key -> {today}"


def test_filtering_of_datasets_is_refused_with_the_reason(inputs):
    inputs.project["DATA_FILTERING"] = {"num_chunks": "8"}
    (mistake,) = inputs.mistakes()
    assert mistake.endswith("DATA_FILTERING: refused (filtering a large dataset is not available)")


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("les_arguments", "{use_atomwise: false}", "it belongs to models with latent Ewald"),
        ("atomic_inter_scale", "1.0", "it belongs to models with latent Ewald"),
    ],
)
def test_keys_of_other_kinds_of_models_are_refused_with_the_reason(inputs, key, value, why):
    told = inputs.mistake("mace.yaml", "ARCHITECTURE", key, value)
    assert told.startswith(f"ARCHITECTURE.{key}: refused ({why}")


def test_the_second_generations_kind_of_model_under_model_means_the_usual_class(inputs):
    inputs.plant("mace.yaml", "ARCHITECTURE", "model", "mace")
    assert inputs.load().model.ARCHITECTURE.model == "ScaleShiftMACE"


@pytest.mark.parametrize(
    "key",
    ["run_dir", "function_dir", "parsl_info_dir", "port", "clean_parsl_dirs", "clean_task_dirs"],
)
def test_what_configured_parsl_is_known_and_has_no_effect(inputs, key):
    inputs.project["CLUSTER"] = {"slurm_str": "'#SBATCH -t 60'", "parsl_options": f"{{{key}: 1}}"}
    assert inputs.load().notes == (
        "aimsPAX.yaml: CLUSTER.parsl_options is read as blocks",
        f"aimsPAX.yaml: CLUSTER.parsl_options.{key} has no effect: it configured PARSL, which "
        "aimspax does not use",
    )


def test_the_first_name_of_a_foundation_models_size_is_read(inputs):
    inputs.plant(
        "aimsPAX.yaml",
        "INITIAL_DATASET_GENERATION",
        "foundational_model_settings",
        "{model_size: medium}",
    )
    settings = inputs.load()
    assert settings.idg.foundation.mace_model == "medium"
    assert any("model_size is read as mace_model" in note for note in settings.notes)
