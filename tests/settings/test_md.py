"""The section MD: ensembles, masks, idle keys; and one section for each geometry."""

from __future__ import annotations

from typing import get_args

import pytest

from aimspax_core.settings.md import MD

NPT = "{stat_ensemble: NPT, barostat: "
WHOLE = "a whole number of at least 1"


def _md(inputs, **given: str):
    inputs.project["MD"] = {"stat_ensemble": "NPT", **given}
    inputs.plant("mace.yaml", "GENERAL", "compute_stress", "True")
    return inputs.load()


def _geometries(inputs, number: int) -> None:
    places = []
    for index in range(number):
        (inputs.directory / f"{index}.xyz").touch()
        places.append(f"{index}: {index}.xyz")
    inputs.plant("aimsPAX.yaml", "MISC", "path_to_geometry", f"{{{', '.join(places)}}}")


# Ensembles


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("pressure", None),
        ("pressure_au", 3.4e-7),
        ("external_stress", 6.24e-7),
        ("ttime", 30.0),
        ("pfactor", 100.0),
        ("barostat", "berendsen"),
        ("taut", 500.0),
        ("taup", 1000.0),
        ("tdamp", 50.0),
        ("pdamp", 500.0),
        ("tchain", 3),
        ("pchain", 3),
        ("tloop", 1),
        ("ploop", 1),
        ("mask", None),
    ],
)
def test_the_defaults_of_npt_are_the_originals(inputs, key, value):
    assert getattr(_md(inputs).md(0), key) == value


@pytest.mark.parametrize("name", ["Berendsen", "NPT", "mtk", "MTK", "isoMTK"])
def test_the_case_of_a_barostat_does_not_matter(inputs, name):
    assert _md(inputs, barostat=name).md(0).barostat == name.lower()


def test_the_time_of_the_thermostat_may_be_nothing(inputs):
    md = _md(inputs, barostat="npt", ttime="null", pfactor="null").md(0)
    assert (md.ttime, md.pfactor) == (None, None)


def test_a_pressure_may_be_negative(inputs):
    assert _md(inputs, pressure="-1e9").md(0).pressure == -1e9


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("barostat", "nose", "wrong value 'nose'"),
        ("stat_ensemble", "NVP", "wrong value 'NVP'"),
        ("pressure", ".inf", "wrong value inf"),
        ("pressure", "1 bar", "wrong value '1 bar'"),
        ("taut", "0", "wrong value 0"),
        ("compressibility_au", "-1", "wrong value -1"),
        ("tchain", "0", "wrong value 0"),
        ("ttime", "0", "wrong value 0"),
        ("barostatt", "npt", "unknown key -> barostat"),
    ],
)
def test_a_wrong_value_is_told(inputs, key, value, told):
    inputs.project["MD"] = {"stat_ensemble": "NPT"}
    assert inputs.mistake("aimsPAX.yaml", "MD", key, value).startswith(f"MD.{key}: {told}")


# Masks


@pytest.mark.parametrize(
    ("barostat", "text", "mask"),
    [
        ("berendsen", "[1, 1, 0]", (1, 1, 0)),
        ("mtk", "[True, False, True]", (1, 0, 1)),
        ("npt", "[0, 0, 1]", (0, 0, 1)),
        ("npt", "[[1, 0, 0], [0, 1, 1], [0, 1, 1]]", ((1, 0, 0), (0, 1, 1), (0, 1, 1))),
    ],
)
def test_a_mask_is_read(inputs, barostat, text, mask):
    assert _md(inputs, barostat=barostat, mask=text).md(0).mask == mask


@pytest.mark.parametrize(
    ("barostat", "text", "told"),
    [
        *(
            ("npt", text, f"wrong value {text}")
            for text in ("[1, 1]", "[1, 1, 2]", "[[1, 1, 0], [0, 1, 0], [0, 0, 1]]", "1")
        ),
        ("isomtk", "[1, 1, 0]", "conflict"),
        ("mtk", "[[1, 0, 0], [0, 1, 0], [0, 0, 1]]",
         "conflict"),
        ("berendsen", "[[1, 0, 0], [0, 1, 0], [0, 0, 1]]",
         "conflict"),
    ],
)  # fmt: skip
def test_a_wrong_mask_is_told(inputs, barostat, text, told):
    inputs.project["MD"] = {"stat_ensemble": "NPT", "barostat": barostat}
    assert inputs.mistake("aimsPAX.yaml", "MD", "mask", text) == f"MD.mask: {told}"


# Keys that mean nothing to the ensemble


@pytest.mark.parametrize(
    ("given", "note"),
    [
        ({"stat_ensemble": "NVT", "pressure": "1e5", "barostat": "npt", "mask": "[1, 1, 1]"},
         "barostat, mask, pressure mean nothing to NVT langevin"),
        ({"stat_ensemble": "NVT", "taut": "100"}, "taut means nothing to NVT langevin"),
        ({"stat_ensemble": "NVE", "friction": "0.1", "thermostat": "langevin"},
         "friction, thermostat mean nothing to NVE"),
        ({"stat_ensemble": "NPT", "barostat": "mtk", "taut": "100", "ttime": "30"},
         "taut, ttime mean nothing to NPT mtk"),
        ({"stat_ensemble": "NPT", "external_stress": "0", "tdamp": "50"},
         "external_stress, tdamp mean nothing to NPT berendsen"),
    ],
)  # fmt: skip
def test_idle_keys_are_named_in_one_note(inputs, given, note):
    inputs.project["MD"] = given
    inputs.plant("mace.yaml", "GENERAL", "compute_stress", "True")  # of cells that move
    assert inputs.load().notes == (f"aimsPAX.yaml: MD: {note}",)


@pytest.mark.parametrize("barostat", ["berendsen", "npt", "mtk", "isomtk"])
def test_the_pressure_means_something_to_every_barostat(inputs, barostat):
    assert _md(inputs, barostat=barostat, pressure="1e5").notes == ()


def test_every_barostat_knows_its_own_keys(inputs):
    choices = get_args(MD.model_fields["barostat"].annotation)
    own = {
        "berendsen": {"pressure_au": "0", "taut": "100", "taup": "100", "compressibility_au": "1"},
        "npt": {"external_stress": "0", "ttime": "9", "pfactor": "1"},
        "mtk": {"tdamp": "50", "pdamp": "50", "tchain": "1", "pchain": "1", "tloop": "1"},
        "isomtk": {"tdamp": "50", "pdamp": "50", "tchain": "1", "pchain": "1", "ploop": "1"},
    }
    assert set(own) == set(choices)
    for barostat, keys in own.items():
        assert _md(inputs, barostat=barostat, **keys).notes == ()


# One section for each geometry


def test_each_geometry_may_have_its_own_dynamics(inputs):
    _geometries(inputs, 2)
    inputs.project["MD"] = "{0: {stat_ensemble: NVT}, 1: {stat_ensemble: NVE, temperature: 400}}"
    settings = inputs.load()
    assert (settings.md(0).stat_ensemble, settings.md(0).temperature) == ("nvt", 300.0)
    assert (settings.md(1).stat_ensemble, settings.md(1).temperature) == ("nve", 400.0)
    assert settings.notes == ()


def test_indices_may_be_in_quotes(inputs):
    inputs.project["MD"] = "{'0': {stat_ensemble: NVT, temperature: 400}}"
    assert inputs.load().md(0).temperature == 400.0


def test_one_section_holds_for_every_geometry(inputs):
    settings = inputs.load()
    assert settings.md(7) == settings.md(0)


def _planted(inputs, text: str) -> str:
    """Plant a text in the second geometry's section, in line 11."""
    _geometries(inputs, 2)
    inputs.project["MD"] = {"0": "{stat_ensemble: NVT}", "1": text}
    (only,) = inputs.mistakes()
    return only


def test_a_mistake_inside_is_told_with_index_and_line(inputs):
    assert _planted(inputs, "{stat_ensemble: NVT, temperature: cold}") == (
        "aimsPAX.yaml:11  MD.1.temperature: wrong value 'cold'"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{temperature: 300}",
         "MD.1.stat_ensemble: missing"),
        ("{stat_ensemble: NVT, temprature: 1}",
         "MD.1.temprature: unknown key -> temperature"),
        ("{stat_ensemble: NVT, num_trajectories: 1}",
         "MD.1.num_trajectories: misplaced in the wrong section"),
        ("{stat_ensemble: NVT, seed: -1}",
         "MD.1.MD_seed: wrong value -1"),
        ("{stat_ensemble: NVT, seed: 1, MD_seed: 2}",
         "MD.1.seed: twice beside MD_seed"),
        ("{stat_ensemble: NVT, MODIFY: {type: temp}}",
         "MD.1.MODIFY: refused (settings that change on the way are not available)"),
        ("{stat_ensemble: NPT, barostat: isomtk, mask: [1, 1, 1]}",
         "MD.1.mask: conflict"),
    ],
)  # fmt: skip
def test_any_mistake_inside_is_told(inputs, text, told):
    assert _planted(inputs, text) == f"aimsPAX.yaml:11  {told}"


@pytest.mark.parametrize("text", ["5", "NVT", "[1]", "null"])
def test_what_is_no_section_inside_is_told(inputs, text):
    assert _planted(inputs, text).startswith("aimsPAX.yaml:11  MD.1: wrong value ")


def test_the_second_name_of_the_seed_is_read_inside(inputs):
    inputs.project["MD"] = "{0: {stat_ensemble: NVT, seed: 7}}"
    settings = inputs.load()
    assert settings.md(0).MD_seed == 7
    assert settings.notes == ("aimsPAX.yaml: MD.0.seed is read as MD_seed",)


def test_idle_keys_are_noted_with_the_index(inputs):
    inputs.project["MD"] = "{0: {stat_ensemble: NVT, taut: 7}}"
    assert inputs.load().notes == ("aimsPAX.yaml: MD.0: taut means nothing to NVT langevin",)


def test_a_geometry_without_a_section_is_told(inputs):
    _geometries(inputs, 3)
    inputs.project["MD"] = "{0: {stat_ensemble: NVT}, 2: {stat_ensemble: NVT}}"
    assert inputs.mistakes() == ["aimsPAX.yaml:9  MD.1: missing"]


def test_a_section_without_a_geometry_is_noted(inputs):
    inputs.project["MD"] = "{0: {stat_ensemble: NVT}, 1: {stat_ensemble: NVT}}"
    assert inputs.load().notes == ("aimsPAX.yaml: MD.1 has no effect: there is no geometry 1",)


def test_keys_for_all_beside_sections_by_geometry_are_a_mistake(inputs):
    _geometries(inputs, 2)
    inputs.project["MD"] = "{0: {stat_ensemble: NVT}, 1: {stat_ensemble: NVT}, timestep: 1}"
    assert inputs.mistakes() == [
        "aimsPAX.yaml:9  MD.timestep: conflict beside sections by geometry"
    ]


def test_a_section_by_geometry_beside_keys_for_all_is_a_mistake(inputs):
    told = inputs.mistake("aimsPAX.yaml", "MD", "0", "{temperature: 400}")
    assert told == ("MD.0: conflict beside keys for all geometries")


def test_an_override_reaches_the_section_of_a_geometry(inputs):
    inputs.project["MD"] = "{0: {stat_ensemble: NVT}}"
    assert inputs.load({"MD.0.temperature": 400}).md(0).temperature == 400.0


def test_an_override_for_all_of_sections_by_geometry_is_told_what_to_write(inputs):
    _geometries(inputs, 2)
    inputs.project["MD"] = "{0: {stat_ensemble: NVT}, 1: {stat_ensemble: NVT}}"
    assert inputs.mistakes({"MD.timestep": 1}) == [
        "override  MD.timestep: conflict beside sections by geometry"
    ]
