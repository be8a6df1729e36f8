"""Environment variables: between the files and the command line, and told like both."""

from __future__ import annotations

from pathlib import Path

import pytest

AL = "ACTIVE_LEARNING"


def test_a_variable_replaces_what_the_file_says(inputs, monkeypatch):
    inputs.plant("aimsPAX.yaml", AL, "c_x", "0.3")
    monkeypatch.setenv("AIMSPAX_ACTIVE_LEARNING__C_X", "-0.1")
    assert inputs.load().al.c_x == -0.1


def test_an_override_holds_before_a_variable(inputs, monkeypatch):
    monkeypatch.setenv("AIMSPAX_ACTIVE_LEARNING__C_X", "-0.1")
    assert inputs.load({f"{AL}.c_x": -0.2}).al.c_x == -0.2


@pytest.mark.parametrize(
    "name", ["AIMSPAX_MD__MD_SEED", "aimspax_md__md_seed", "Aimspax_MD__MD_Seed"]
)
def test_the_case_of_a_variable_does_not_matter(inputs, monkeypatch, name):
    monkeypatch.setenv(name, "7")
    assert inputs.load().md(0).MD_seed == 7


@pytest.mark.parametrize(
    ("name", "text", "where", "value"),
    [
        ("MAX_MD_STEPS", "np.inf", "max_MD_steps", float("inf")),
        ("CONVERGE_BEST", "no", "converge_best", False),
        ("DESIRED_ACC", "1e-3", "desired_acc", 0.001),
        ("INITIAL_TRAIN_DATASET", "{a: geometry.in}", "initial_train_dataset",
         {"a": Path("geometry.in")}),
        ("UNCERTAINTY_TYPE", "ensemble_sd", "uncertainty_type", "ensemble_sd"),
    ],
)  # fmt: skip
def test_values_are_read_as_in_a_file(inputs, monkeypatch, name, text, where, value):
    monkeypatch.setenv(f"AIMSPAX_ACTIVE_LEARNING__{name}", text)
    assert getattr(inputs.load().al, where) == value


def test_both_sections_misc_are_reached(inputs, monkeypatch):
    monkeypatch.setenv("AIMSPAX_MISC__DEVICE", "cuda")
    monkeypatch.setenv("AIMSPAX_MISC__LOG_DIR", "elsewhere")
    settings = inputs.load()
    assert (settings.model.MISC.device, str(settings.misc.log_dir)) == ("cuda", "elsewhere")


def test_keys_inside_keys_are_reached(inputs, monkeypatch):
    inputs.plant("aimsPAX.yaml", "CLUSTER", "type", "local")
    monkeypatch.setenv("AIMSPAX_CLUSTER__ML__MAX_WORKERS", "3")
    assert inputs.load().ml_workers == 3


def test_the_section_of_a_geometry_is_reached(inputs, monkeypatch):
    inputs.project["MD"] = "{0: {stat_ensemble: NVT}}"
    monkeypatch.setenv("AIMSPAX_MD__0__TEMPERATURE", "400")
    monkeypatch.setenv("AIMSPAX_MD__0__MD_SEED", "7")
    assert (inputs.load().md(0).temperature, inputs.load().md(0).MD_seed) == (400.0, 7)


def test_a_whole_section_may_come_from_the_environment(inputs, monkeypatch):
    del inputs.project["REFERENCE"]
    monkeypatch.setenv("AIMSPAX_REFERENCE__ENGINE", "tblite")
    monkeypatch.setenv("AIMSPAX_REFERENCE__METHOD", "GFN1-xTB")
    assert inputs.load().reference.method == "GFN1-xTB"


def test_the_second_name_of_a_key_is_read_too(inputs, monkeypatch):
    monkeypatch.setenv("AIMSPAX_MD__SEED", "7")
    settings = inputs.load()
    assert settings.md(0).MD_seed == 7
    assert settings.notes == ("aimsPAX.yaml: MD.seed is read as MD_seed",)


@pytest.mark.parametrize("name", ["AIMSPAX_SERVER_URL", "AIMSPAX_HOME", "OTHER_MD__TIMESTEP"])
def test_other_variables_are_not_ours(inputs, monkeypatch, name):
    monkeypatch.setenv(name, "0")
    assert inputs.load().notes == ()


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("MD__TIMESTEP", "0", "MD.timestep: wrong value 0"),
        ("MD__TIMSTEP", "1", "MD.timstep: unknown key -> timestep"),
        ("MISC__DEVISE", "cpu", "MISC.devise: unknown key -> device"),
        ("MD__SEED", "-1", "MD.MD_seed: wrong value -1"),
        ("ARCHITECTURE__R_MAX", "far", "ARCHITECTURE.r_max: wrong value 'far'"),
        ("MD__TEMPERATURE", "[300", "MD.temperature: wrong value '[300'"),
        ("REFERENCE__METHOD", "GFN2", "REFERENCE.method: wrong value 'GFN2' -> GFN2-xTB"),
    ],
)  # fmt: skip
def test_a_wrong_variable_is_told_as_such(inputs, monkeypatch, name, text, told):
    monkeypatch.setenv(f"AIMSPAX_{name}", text)
    assert inputs.mistakes() == [f"environment  {told}"]


def test_a_variable_of_no_section_is_told_with_the_nearest(inputs, monkeypatch):
    monkeypatch.setenv("AIMSPAX_TRANING__LR", "1")
    (mistake,) = inputs.mistakes()
    assert mistake == "environment  TRANING.LR: unknown section -> TRAINING"


def test_a_mistake_that_an_override_mends_is_not_told(inputs, monkeypatch):
    monkeypatch.setenv("AIMSPAX_MD__TIMESTEP", "0")
    assert inputs.load({"MD.timestep": 1}).md(0).timestep == 1.0
