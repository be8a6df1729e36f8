"""Numbers far from what is usual are questioned, with file and line; usual ones are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from aimspax_core.settings.load import load

IDG, AL = "INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"
LANGEVIN = {"stat_ensemble": "NVT"}
BERENDSEN = {"stat_ensemble": "NPT"}
NPT = {"stat_ensemble": "NPT", "barostat": "npt"}
MTK = {"stat_ensemble": "NPT", "barostat": "mtk"}

MD = [
    (LANGEVIN, "timestep", ["50", "5e-16", "0.01"], ["0.25", "2"]),
    (LANGEVIN, "temperature", ["0.0259", "[300, 0.05]", "1e5"], ["300", "[10, 3000]"]),
    (LANGEVIN, "friction", ["1", "10", "0.1018", "1e-6"], ["0.001", "0.05"]),
    (BERENDSEN, "pressure", ["1", "1.01325", "1000", "-1", "1e15"], ["0", "101325", "1e10"]),
    (BERENDSEN, "pressure_au", ["101325", "1.01325", "-5"], ["3.4e-7", "0.006"]),
    (BERENDSEN, "taut", ["0.5"], ["100"]),
    (BERENDSEN, "taup", ["1"], ["1000"]),
    (BERENDSEN, "compressibility_au", ["4.57e-5"], ["73.2", "1.6"]),
    (NPT, "external_stress", ["101325", "1"], ["6.24e-7", "0"]),
    (NPT, "ttime", ["0.025"], ["25"]),
    (MTK, "tdamp", ["0.1"], ["50"]),
    (MTK, "pdamp", ["0.5"], ["500"]),
]
ENGINES = [
    ("tblite", "electronic_temperature", ["0.0259"], ["300", "0"]),
    ("tblite", "accuracy", ["1e-8"], ["0.1"]),
    ("pyscf", "max_memory", ["4"], ["4000"]),
    ("pyscf", "conv_tol", ["0.001"], ["1e-10"]),
]
OTHERS = [
    ("aimsPAX.yaml", IDG, "desired_acc", ["50", "1e-5"], ["0.05"]),
    ("aimsPAX.yaml", AL, "desired_acc", ["50", "10", "1e-5"], ["0.05", "0.001"]),
    ("aimsPAX.yaml", IDG, "valid_ratio", ["0.9", "0.6"], ["0.1", "0.5"]),
    ("aimsPAX.yaml", AL, "valid_ratio", ["0.9"], ["0.2"]),
    ("aimsPAX.yaml", AL, "c_x", ["5", "100", "-0.95"], ["-0.5", "0.5"]),
    ("aimsPAX.yaml", AL, "skip_step_mlff", ["100000"], ["1", "100"]),
    ("aimsPAX.yaml", IDG, "skip_step_initial", ["20000"], ["25"]),
    ("aimsPAX.yaml", IDG, "ensemble_size", ["100"], ["2", "8"]),
    ("aimsPAX.yaml", AL, "max_MD_steps", ["10"], ["1000"]),
    ("aimsPAX.yaml", AL, "uncert_not_crossed_limit", ["10"], ["5000"]),
    ("aimsPAX.yaml", AL, "max_train_set_size", ["4"], ["200"]),
    ("aimsPAX.yaml", AL, "rattle", ["{displacement: 1.0}"], ["{displacement: [0.02, 0.1]}"]),
    ("aimsPAX.yaml", "GATE", "max_force", ["0.5", "50000"], ["20"]),
    ("aimsPAX.yaml", "GATE", "min_distance", ["0.95"], ["0.5"]),
    ("aimsPAX.yaml", "GATE", "max_energy_deviation", ["0.01", "5000"], ["5"]),
    ("mace.yaml", "ARCHITECTURE", "r_max", ["500", "0.5"], ["4", "6.0"]),
    ("mace.yaml", "ARCHITECTURE", "num_channels", ["4096"], ["64"]),
    ("mace.yaml", "ARCHITECTURE", "max_ell", ["12"], ["3"]),
    ("mace.yaml", "ARCHITECTURE", "correlation", ["8"], ["3"]),
    ("mace.yaml", "ARCHITECTURE", "num_interactions", ["10"], ["2"]),
    ("mace.yaml", "TRAINING", "lr", ["1", "1e-9"], ["0.01", "0.001"]),
    ("mace.yaml", "TRAINING", "ema_decay", ["0.1"], ["0.995"]),
    ("mace.yaml", "TRAINING", "weight_decay", ["0.5"], ["5e-7", "0"]),
    ("mace.yaml", "TRAINING", "forces_weight", ["0"], ["100"]),
    (
        "mace.yaml",
        "ARCHITECTURE",
        "atomic_energies",
        [
            *("{H: 13.6}", "{H: -0.5}", "{O: -75.07}", "{C: -75.6}", "{Si: -288.9}", "{8: -150.1}"),
            *("{Li: -7.478}", "{Be: -14.667}", "{Ag: -5314}", "{Au: -19035}", "{Au: -17865}"),
        ],
        ["{H: -13}", "{O: -2041.8}", "{O: -432.1}", "{O: -102.6, C: -48.8}", "{O: -1.6}"],
    ),
]


@pytest.mark.parametrize(("ensemble", "key", "doubtful", "usual"), MD)
def test_unusual_dynamics_are_questioned(inputs, ensemble, key, doubtful, usual):
    for name, text in ensemble.items():
        inputs.plant("aimsPAX.yaml", "MD", name, text)
    asked(inputs, "aimsPAX.yaml", "MD", key, doubtful, usual)


@pytest.mark.parametrize(("file", "section", "key", "doubtful", "usual"), OTHERS)
def test_what_is_unusual_is_questioned(inputs, file, section, key, doubtful, usual):
    asked(inputs, file, section, key, doubtful, usual)


@pytest.mark.parametrize(("engine", "key", "doubtful", "usual"), ENGINES)
@pytest.mark.parametrize("section", ["REFERENCE", f"{IDG}.sampling_engine"])
def test_unusual_numbers_of_an_engine_are_questioned(inputs, section, engine, key, doubtful, usual):
    for texts, told in ((doubtful, True), (usual, False)):
        for text in texts:
            if section == "REFERENCE":
                inputs.project[section] = {"engine": engine, key: text}
            else:
                inputs.plant("aimsPAX.yaml", IDG, "initial_sampling", "engine")
                content = f"{{engine: {engine}, {key}: {text}}}"
                inputs.plant("aimsPAX.yaml", IDG, "sampling_engine", content)
            notes = inputs.load().notes
            found = [note for note in notes if f"  {section}.{key} is " in note]
            assert bool(found) is told, (text, notes)
            assert all(note.startswith("aimsPAX.yaml:") for note in found)


def asked(inputs, file, section, key, doubtful, usual):
    """Plant the values, and look whether there is a note with the line of the key."""
    for texts, told in ((doubtful, True), (usual, False)):
        for text in texts:
            inputs.plant(file, section, key, text)
            notes = inputs.load().notes
            place = f"{file}:{line_of(inputs.directory / file, section, key)}  {section}.{key}"
            found = [note for note in notes if f"{section}.{key}" in note]
            assert bool(found) is told, (text, notes)
            assert all(note.startswith(place) for note in found)


def line_of(file, section, key):
    """Return the line of a key in a file of the test."""
    lines = file.read_text().splitlines()
    begin = lines.index(f"{section}:")
    return next(i for i in range(begin + 1, len(lines)) if lines[i].startswith(f"  {key}:")) + 1


def test_the_dynamics_of_each_geometry_have_their_own_line(inputs):
    (inputs.directory / "b.in").write_text("atom 0 0 0 H\n")
    inputs.plant("aimsPAX.yaml", "MISC", "path_to_geometry", "{0: geometry.in, 1: b.in}")
    inputs.project["MD"] = {"0": "{stat_ensemble: NVT}", "1": "{stat_ensemble: NVT, timestep: 50}"}
    (note,) = (note for note in inputs.load().notes if "timestep" in note)
    assert note.split()[1] == "MD.1.timestep"


def test_numbers_that_mean_nothing_to_the_ensemble_are_not_questioned(inputs):
    inputs.plant("aimsPAX.yaml", "MD", "pressure", "1")
    assert not any("Pa" in note for note in inputs.load().notes)


@pytest.mark.parametrize("key", ["temperature", "timestep", "friction"])
def test_nothing_at_all_is_a_mistake(inputs, key):
    assert "0" in inputs.mistake("aimsPAX.yaml", "MD", key, "0")


def test_the_defaults_are_usual(inputs):
    for ensemble in (LANGEVIN, BERENDSEN, NPT, MTK):
        inputs.project["MD"] = dict(ensemble)
        assert [
            note for note in inputs.load().notes if "usual" in note and "stress" not in note
        ] == []


@pytest.mark.parametrize("folder", sorted(Path("examples").glob("*/aimsPAX.yaml")), ids=str)
def test_the_examples_are_usual(folder):
    assert not any("usual" in note for note in load(folder.parent.resolve()).notes)


def test_cells_that_move_by_models_without_stress(inputs):
    inputs.plant("aimsPAX.yaml", "MD", "stat_ensemble", "NPT")
    assert any("do not train on stress" in note for note in inputs.load().notes)
    inputs.plant("mace.yaml", "GENERAL", "compute_stress", "True")
    inputs.plant("mace.yaml", "TRAINING", "loss", "stress")
    assert not any("do not train on stress" in note for note in inputs.load().notes)
