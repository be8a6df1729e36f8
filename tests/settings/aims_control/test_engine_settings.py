"""Claims about the settings of FHI-aims, wherever a user has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from aimspax_core.reference.aims.section import AimsReference
from aimspax_core.reference.ase.section import AseReference
from aimspax_core.reference.tblite.section import TbliteReference

IDG, AL = "INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"
LAUNCH = "srun aims.x >> aims.out"


@pytest.fixture
def aims(inputs):
    """The files of a user of the original."""
    for name in ("light", "tight"):
        (inputs.directory / name).mkdir()
    (inputs.directory / "control.in").write_text("xc pbe\ncharge 0.\n")
    del inputs.project["REFERENCE"]
    inputs.plant("aimsPAX.yaml", IDG, "species_dir", "light")
    inputs.plant("aimsPAX.yaml", AL, "species_dir", "light")
    inputs.project["CLUSTER"] = {"type": "local", "launch_str": LAUNCH, "calc_dir": "./dft"}
    return inputs


@pytest.mark.key("AimsReference", "engine")
def test_a_file_of_the_original_is_one_for_fhi_aims(aims):
    assert aims.load().reference == AimsReference(
        engine="aims",
        species_dir=Path("light"),
        launch_str=LAUNCH,
        control=Path("control.in"),
        calc_dir=Path("dft"),
    )
    assert aims.load().notes == ()


def test_all_may_stand_in_reference(inputs):
    (inputs.directory / "light").mkdir()
    (inputs.directory / "pbe.in").write_text("xc pbe\n")
    inputs.project["REFERENCE"] = {
        "engine": "FHI-aims",
        "species_dir": "light",
        "launch_str": LAUNCH,
        "control": "pbe.in",
        "timeout": "60",
    }
    reference = inputs.load().reference
    assert isinstance(reference, AimsReference)
    assert (reference.control, reference.timeout) == (Path("pbe.in"), 60.0)


def test_what_is_missing_is_told_where_the_original_has_it(aims):
    del aims.project[IDG]["species_dir"], aims.project[AL]["species_dir"]
    del aims.project["CLUSTER"]["launch_str"]
    aims.plant("aimsPAX.yaml", "MISC", "path_to_control", "control.in")
    told = aims.mistakes()
    assert len(told) == 2
    assert any(f"{IDG}.species_dir: missing" in text for text in told)
    assert any("CLUSTER.launch_str: missing" in t for t in told)


def test_one_phase_may_say_it_for_both(aims):
    del aims.project[IDG]["species_dir"]
    assert aims.load().reference.species_dir == Path("light")


def test_two_species_folders_are_refused(aims):
    told = aims.mistake("aimsPAX.yaml", AL, "species_dir", "tight")
    assert told == (f"{AL}.species_dir: conflict 'tight', but {IDG}.species_dir is 'light'")


def test_what_stands_in_two_places_must_be_the_same(aims):
    aims.project["REFERENCE"] = {"engine": "aims", "launch_str": "aims.x"}
    (told,) = aims.mistakes()
    assert (
        "CLUSTER.launch_str: conflict 'srun aims.x >> aims.out', but REFERENCE.launch_str" in told
    )


def test_a_folder_that_is_not_there_is_told_with_its_line(aims):
    aims.project[IDG]["species_dir"] = aims.project[AL]["species_dir"] = "lihgt"
    (told,) = aims.mistakes()
    assert told == (f"aimsPAX.yaml:4  {IDG}.species_dir: not there 'lihgt'")


def test_a_control_file_that_is_not_there_is_told(aims):
    (aims.directory / "control.in").unlink()
    (told,) = aims.mistakes()
    assert told == ("aimsPAX.yaml  MISC.path_to_control: not there 'control.in'")


def test_a_mistake_of_the_control_file_is_told_with_all_others(aims):
    (aims.directory / "control.in").write_text("xc pbe\ncharge two\n")
    aims.plant("aimsPAX.yaml", "MD", "temperature", "hot")
    told = aims.mistakes()
    assert any(text.startswith("control.in:2  charge: wrong value 'two'") for text in told)
    assert any("MD.temperature" in text for text in told)


def test_control_files_may_be_by_geometry(aims):
    for name in ("a", "b"):
        (aims.directory / f"{name}.in").write_text("atom 0 0 0 H\n")
        (aims.directory / f"control_{name}.in").write_text("xc pbe\n")
    aims.plant("aimsPAX.yaml", "MISC", "path_to_geometry", "{0: a.in, 1: b.in}")
    aims.plant("aimsPAX.yaml", "MISC", "path_to_control", "{0: control_a.in, 1: control_b.in}")
    settings = aims.load()
    assert settings.reference_of(1).control == Path("control_b.in")


def test_every_geometry_needs_a_control_file(aims):
    for name in ("a", "b"):
        (aims.directory / f"{name}.in").write_text("atom 0 0 0 H\n")
    aims.plant("aimsPAX.yaml", "MISC", "path_to_geometry", "{0: a.in, 1: b.in}")
    told = aims.mistake("aimsPAX.yaml", "MISC", "path_to_control", "{0: control.in}")
    assert told == ("MISC.path_to_control: missing")


def test_everything_is_written_into_the_output_folder(aims):
    del aims.project["CLUSTER"]["calc_dir"]
    aims.plant("aimsPAX.yaml", "MISC", "output_dir", "out")
    assert aims.load().reference.calc_dir == Path("out/calc")


def test_models_that_train_on_stress_have_it_computed(aims):
    assert not aims.load().reference.compute_stress
    aims.plant("mace.yaml", "GENERAL", "compute_stress", "True")
    aims.plant("mace.yaml", "TRAINING", "loss", "stress")
    assert aims.load().reference.compute_stress


def test_with_another_engine_its_keys_have_no_effect(aims):
    aims.project["REFERENCE"] = {"engine": "tblite"}
    settings = aims.load()
    assert isinstance(settings.reference, TbliteReference)
    assert {note.split()[1] for note in settings.notes} == {
        f"{IDG}.species_dir",
        f"{AL}.species_dir",
        "CLUSTER.launch_str",
        "CLUSTER.calc_dir",
    }


def test_other_codes_run_in_the_clusters_folder_too(inputs):
    inputs.project["REFERENCE"] = {"engine": "ase", "calculator": "ase.calculators.emt.EMT"}
    inputs.project["CLUSTER"] = {"calc_dir": "dft", "clean_dirs": "False"}
    reference = inputs.load().reference
    assert isinstance(reference, AseReference)
    assert (reference.calc_dir, reference.clean_dirs) == (Path("dft"), False)


def test_an_empty_launch_line_is_refused(aims):
    aims.project["CLUSTER"]["launch_str"] = "'  '"
    (told,) = aims.mistakes()
    assert "CLUSTER.launch_str: wrong value '" in told


def test_an_override_reaches_the_originals_places(aims):
    settings = aims.load({"CLUSTER.launch_str": "mpirun aims.x"})
    assert settings.reference.launch_str == "mpirun aims.x"


# What is said in several places


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        ("REFERENCE.launch_str", "launch_str", "mpirun aims.x"),
        ("REFERENCE.species_dir", "species_dir", Path("tight")),
        (f"{AL}.species_dir", "species_dir", Path("tight")),
        ("REFERENCE.control", "control", Path("pbe0.in")),
        ("MISC.path_to_control", "control", Path("pbe0.in")),
        ("REFERENCE.calc_dir", "calc_dir", Path("elsewhere")),
    ],
)
def test_an_override_beats_the_file_in_all_of_a_keys_places(aims, place, key, value):
    (aims.directory / "pbe0.in").write_text("xc pbe0\n")
    aims.plant("aimsPAX.yaml", "MISC", "path_to_control", "control.in")
    assert getattr(aims.load({place: str(value)}).reference, key) == value


def test_an_override_in_the_originals_place_beats_reference(aims):
    aims.project["REFERENCE"] = {"engine": "aims", "launch_str": LAUNCH}
    assert aims.load({"CLUSTER.launch_str": "mpirun aims.x"}).reference.launch_str == (
        "mpirun aims.x"
    )


def test_an_override_settles_what_the_file_says_in_two_ways(aims):
    aims.plant("aimsPAX.yaml", AL, "species_dir", "tight")
    assert aims.load({"REFERENCE.species_dir": "light"}).reference.species_dir == Path("light")


def test_a_variable_beats_the_file_in_another_place(aims, monkeypatch):
    del aims.project["CLUSTER"]["launch_str"]
    aims.project["REFERENCE"] = {"engine": "aims", "launch_str": LAUNCH}
    monkeypatch.setenv("AIMSPAX_CLUSTER__LAUNCH_STR", "mpirun aims.x")
    assert aims.load().reference.launch_str == "mpirun aims.x"


def test_an_override_beats_a_variable_in_another_place(aims, monkeypatch):
    monkeypatch.setenv("AIMSPAX_CLUSTER__LAUNCH_STR", "mpirun aims.x")
    assert aims.load({"REFERENCE.launch_str": "aims.x"}).reference.launch_str == "aims.x"


def test_an_override_of_one_geometry_beats_the_file(aims):
    (aims.directory / "pbe0.in").write_text("xc pbe0\n")
    aims.project["REFERENCE"] = {"engine": "aims", "control": "control.in"}
    aims.plant("aimsPAX.yaml", "MISC", "path_to_control", "{0: control.in}")
    settings = aims.load({"MISC.path_to_control.0": "pbe0.in"})
    assert settings.reference_of(0).control == Path("pbe0.in")


def test_two_overrides_must_agree(aims):
    overrides = {"CLUSTER.launch_str": "mpirun aims.x", "REFERENCE.launch_str": "aims.x"}
    assert aims.mistakes(overrides) == [
        "override  CLUSTER.launch_str: conflict 'mpirun aims.x', "
        "but REFERENCE.launch_str is 'aims.x'",
    ]


def test_what_is_wrong_with_an_override_is_told_where_it_was_given(aims):
    (told,) = aims.mistakes({f"{AL}.species_dir": "heavy"})
    assert told.startswith("override  ACTIVE_LEARNING.species_dir: not there 'heavy'")


def test_the_control_file_that_holds_is_read_for_mistakes(aims):
    (aims.directory / "control.in").write_text("xc pbe\ncharge one\n")
    (aims.directory / "other.in").write_text("xc pbe\ncharge two\n")
    aims.plant("aimsPAX.yaml", "MISC", "path_to_control", "control.in")
    (told,) = aims.mistakes({"REFERENCE.control": "other.in"})
    assert told.startswith("other.in:2  charge: wrong value 'two'")


# As the engine of the sampling MD


@pytest.fixture
def sampler(inputs):
    """Two geometries, and FHI-aims to sample from them; another reference labels."""
    (inputs.directory / "light").mkdir()
    for name in ("a", "b"):
        (inputs.directory / f"{name}.in").write_text("atom 0 0 0 H\n")
        (inputs.directory / f"control_{name}.in").write_text("xc pbe\n")
    inputs.plant("aimsPAX.yaml", "MISC", "path_to_geometry", "{0: a.in, 1: b.in}")
    inputs.plant("aimsPAX.yaml", IDG, "initial_sampling", "engine")
    sampled_by(inputs, "{0: control_a.in, 1: control_b.in}")
    return inputs


def sampled_by(inputs, control: str) -> None:
    engine = f"{{engine: aims, species_dir: light, launch_str: aims.x, control: {control}}}"
    inputs.plant("aimsPAX.yaml", IDG, "sampling_engine", engine)


def test_each_geometry_is_sampled_with_its_own_control_file(sampler):
    settings = sampler.load()
    named = [settings.sampling_engine_of(geometry).control for geometry in (0, 1)]
    assert named == [Path("control_a.in"), Path("control_b.in")]


def test_every_geometry_needs_a_control_file_to_be_sampled(sampler):
    sampled_by(sampler, "{0: control_a.in}")
    (told,) = sampler.mistakes()
    assert told.partition("  ")[2] == (f"{IDG}.sampling_engine.control: missing")


def test_every_geometry_needs_a_control_file_told_where_it_is_missing(sampler):
    sampler.project["REFERENCE"] = {
        "engine": "aims",
        "species_dir": "light",
        "launch_str": "aims.x",
        "control": "{0: control_a.in}",
    }
    (told,) = sampler.mistakes()
    assert told.partition("  ")[2].startswith("REFERENCE.control: missing")


def test_a_control_file_of_the_sampling_is_read_for_mistakes(sampler):
    (sampler.directory / "control_b.in").write_text("xc pbe\ncharge two\n")
    (told,) = sampler.mistakes()
    assert told.startswith("control_b.in:2  charge: wrong value 'two'")


def test_a_sampling_engine_without_use_needs_no_control_files(sampler):
    (sampler.directory / "control_a.in").write_text("charge two\n")
    sampled_by(sampler, "{0: control_a.in}")
    sampler.plant("aimsPAX.yaml", IDG, "initial_sampling", "aimd")
    assert sampler.load().sampling_engine_of(0) == TbliteReference(engine="tblite")


@pytest.mark.parametrize(("ensemble", "stress"), [("NVT", False), ("NPT", True)])
def test_sampling_that_moves_a_cell_has_its_stress_computed(sampler, ensemble, stress):
    sampler.plant("aimsPAX.yaml", "MD", "stat_ensemble", ensemble)
    assert sampler.load().sampling_engine_of(0).compute_stress is stress
