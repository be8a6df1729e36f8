"""`mace.yaml`: the README's defaults, what each key accepts, and what is told if it does not."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from mace.tools.arg_parser import build_default_arg_parser

from aimspax_core.settings.families.known_families import row_of
from aimspax_core.settings.model import Training
from aimspax_core.settings.original.keys import MODEL

BLOCK = "RealAgnosticResidualInteractionBlock"
POSITIVE = "a number above 0"
NOT_NEGATIVE = "a number of at least 0"
WHOLE = "a whole number of at least 1"
NAME = "a text that can begin a file's name, in quotes if it is a number"
IRREPS = "irreps as e3nn writes them, such as 16x0e"
ENERGIES = "an energy (eV) for each element, such as {H: -13.6, C: -1029.5}"

# From the README's tables.
DEFAULTS = {
    "GENERAL": {
        "checkpoints_dir": Path("checkpoints"),
        "compute_stress": False,
        "default_dtype": "float32",
        "loss_dir": Path("losses"),
        "model_dir": Path("model"),
        "seed": 42,
        "model_choice": "mace",
    },
    "ARCHITECTURE": {
        "atomic_energies": None,
        "compute_avg_num_neighbors": True,
        "correlation": 3,
        "gate": "silu",
        "interaction": BLOCK,
        "interaction_first": BLOCK,
        "max_ell": 3,
        "max_L": 1,
        "MLP_irreps": "16x0e",
        "model": "ScaleShiftMACE",
        "model_choice": "mace",
        "num_channels": 128,
        "num_cutoff_basis": 5,
        "num_interactions": 2,
        "num_radial_basis": 8,
        "r_max": 5.0,
        "radial_MLP": [64, 64, 64],
        "radial_type": "bessel",
        "scaling": "rms_forces_scaling",
        "solve_energies": "auto",
        "use_reduced_cg": False,
    },
    "TRAINING": {
        "amsgrad": True,
        "batch_size": 5,
        "clip_grad": 10.0,
        "config_type_weights": {"Default": 1.0},
        "dipole_weight": 1.0,
        "ema": True,
        "ema_decay": 0.99,
        "finetuning_choice": "naive",
        "convert_to_lora": False,
        "convert_to_multihead": False,
        "freeze": 0,
        "freeze_embedding": False,
        "freeze_hirshfeld": False,
        "freeze_partial_charges": False,
        "freeze_scales": False,
        "freeze_shifts": False,
        "freeze_zbl": False,
        "lora_alpha": 16.0,
        "lora_freeze_A": False,
        "lora_rank": 8,
        "multiheads_finetuning": False,
        "num_samples_pt": 100,
        "pt_train_file": None,
        "weight_pt_head": 1.0,
        "perform_finetuning": False,
        "pretrained_model": None,
        "pretrained_weights": None,
        "energy_weight": 1.0,
        "forces_weight": 1000.0,
        "hirshfeld_weight": 1.0,
        "loss": "weighted",
        "lr": 0.01,
        "lr_factor": 0.8,
        "lr_scheduler_gamma": 0.9993,
        "optimizer": "adam",
        "scheduler": "ReduceLROnPlateau",
        "scheduler_patience": 5,
        "seed": None,
        "start_swa": None,
        "stress_weight": 1.0,
        "swa": False,
        "valid_batch_size": 5,
        "virials_weight": 1.0,
        "weight_decay": 5e-7,
    },
    "MISC": {
        "device": "cpu",
        "compile": "auto",
        "compute_dipole": False,
        "enable_cueq": False,
        "error_table": "PerAtomMAE",
        "kernel": "auto",
        "keep_checkpoints": False,
        "log_level": "INFO",
        "restart_latest": False,
    },
}


def test_the_defaults_are_the_readmes(inputs):
    model = inputs.load().model.model_dump()
    del model["GENERAL"]["name_exp"]
    assert model == DEFAULTS


def test_the_experiment_needs_a_name(inputs):
    inputs.model["GENERAL"] = {"seed": "1"}
    assert inputs.mistakes() == ["mace.yaml:1  GENERAL.name_exp: missing"]


@pytest.mark.parametrize(
    ("section", "key", "value", "told"),
    [
        ("GENERAL", "name_exp", "2024", "wrong value 2024"),
        ("GENERAL", "name_exp", "''", "wrong value ''"),
        ("GENERAL", "name_exp", "a/b", "wrong value 'a/b'"),
        ("GENERAL", "name_exp", ".hidden", "wrong value '.hidden'"),
        ("GENERAL", "default_dtype", "float",
         "wrong value 'float' -> float64"),
        ("GENERAL", "seed", "-1", "wrong value -1"),
        ("GENERAL", "compute_stress", "si", "wrong value 'si'"),
        ("GENERAL", "nameexp", "x", "unknown key -> name_exp"),
        ("ARCHITECTURE", "r_max", "0", "wrong value 0"),
        ("ARCHITECTURE", "r_max", "inf", "wrong value 'inf'"),
        ("ARCHITECTURE", "r_max", ".inf", "wrong value inf"),
        ("ARCHITECTURE", "num_channels", "True", "wrong value True"),
        ("ARCHITECTURE", "max_L", "-1", "wrong value -1"),
        ("ARCHITECTURE", "max_l", "1", "unknown key -> max_L"),
        ("ARCHITECTURE", "radial_MLP", "16", "wrong value 16"),
        ("ARCHITECTURE", "radial_MLP", "[16, x]",
         "wrong value 'x' as item 2"),
        ("ARCHITECTURE", "MLP_irreps", "16x0", "wrong value '16x0'"),
        ("ARCHITECTURE", "MLP_irreps", "16", "wrong value 16"),
        ("ARCHITECTURE", "gate", "relu", "wrong value 'relu'"),
        ("ARCHITECTURE", "model", "ScaleShift",
         "wrong value 'ScaleShift' -> ScaleShiftMACE"),
        ("ARCHITECTURE", "atomic_energies", "[-13.6, -1029.5]",
         "wrong value [-13.6, -1029.5]"),
        ("ARCHITECTURE", "atomic_energies", "{Hh: -13.6}",
         "wrong value Hh, which is no element"),
        ("ARCHITECTURE", "atomic_energies", "{0: -13.6}",
         "wrong value 0, which is no element"),
        ("ARCHITECTURE", "atomic_energies", "{119: -13.6}",
         "wrong value 119, which is no element"),
        ("ARCHITECTURE", "atomic_energies", "{X: -13.6}",
         "wrong value X, which is no element"),
        ("ARCHITECTURE", "atomic_energies", "{H: -13.6, 1: -13.7}", "twice H twice"),
        ("ARCHITECTURE", "atomic_energies", "{H: low}",
         "wrong value 'low' for H"),
        ("ARCHITECTURE", "atomic_energies", "{C: .nan}",
         "wrong value nan for C"),
        ("ARCHITECTURE", "atomic_energies", "{6: True}",
         "wrong value True for 6"),
        ("TRAINING", "lr", "-.inf", "wrong value -inf"),
        ("TRAINING", "lr", "1.d-2", "wrong value '1.d-2'"),
        ("TRAINING", "ema_decay", "1.0", "wrong value 1.0"),
        ("TRAINING", "lr_scheduler_gamma", "1.5",
         "wrong value 1.5"),
        ("TRAINING", "clip_grad", "0", "wrong value 0"),
        ("TRAINING", "weight_decay", "True", "wrong value True"),
        ("TRAINING", "amsgrad", "2", "wrong value 2"),
        ("TRAINING", "config_type_weights", "{Default: -1}",
         "wrong value -1 for Default"),
        ("TRAINING", "config_type_weights", "1.0",
         "wrong value 1.0"),
        ("TRAINING", "loss", "wighted",
         "wrong value 'wighted' -> weighted"),
        ("TRAINING", "optimizer", "sgd", "wrong value 'sgd'"),
        ("TRAINING", "scheduler", "reduceLRonplateau",
         "wrong value 'reduceLRonplateau' -> ReduceLROnPlateau"),
        ("TRAINING", "num_channels", "16", "misplaced in the wrong section"),
        ("MISC", "device", "gpu", "wrong value 'gpu'"),
        ("MISC", "log_level", "LOUD", "wrong value 'LOUD'"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told(inputs, section, key, value, told):
    assert inputs.mistake("mace.yaml", section, key, value) == f"{section}.{key}: {told}"


@pytest.mark.parametrize(
    "text", ["{H: -13.6, O: -2040.0}", "{1: -13.6, 8: -2040.0}", "{'1': -13.6, O: -2040}"]
)
def test_atomic_energies_go_by_symbol_or_number(inputs, text):
    inputs.plant("mace.yaml", "ARCHITECTURE", "atomic_energies", text)
    assert inputs.load().model.ARCHITECTURE.atomic_energies == {1: -13.6, 8: -2040.0}


@pytest.mark.parametrize("symbol", ["N", "Y", "No", "Og"])
def test_symbols_that_look_like_something_else_are_elements(inputs, symbol):
    inputs.plant("mace.yaml", "ARCHITECTURE", "atomic_energies", f"{{{symbol}: -1.0}}")
    assert len(inputs.load().model.ARCHITECTURE.atomic_energies) == 1


def test_the_losses_are_those_of_the_installed_mace_that_need_no_dipole():
    (known,) = (
        set(action.choices)
        for action in build_default_arg_parser()._actions
        if action.dest == "loss"
    )
    ours = set(get_args(Training.model_fields["loss"].annotation))
    ours -= {name for name in ours if name not in row_of("mace").losses}
    assert ours - {"weighted_stress"} == {name for name in known if "dipole" not in name}
    assert {name for name in known if "dipole" in name} <= set(
        MODEL.refused_values["TRAINING", "loss"]
    )


@pytest.mark.parametrize(
    ("general", "loss", "stress"),
    [
        ("False", "weighted", False),
        ("True", "weighted", True),
        ("False", "stress", True),
        ("False", "virials", True),
        ("False", "huber", True),
        ("False", "universal", True),
        ("False", "l1l2energyforces", False),
    ],
)
def test_labels_need_stress_if_it_is_trained_on_or_measured(inputs, general, loss, stress):
    inputs.plant("mace.yaml", "GENERAL", "compute_stress", general)
    inputs.plant("mace.yaml", "TRAINING", "loss", loss)
    assert inputs.load().stress is stress


@pytest.mark.parametrize("text", ["None", "null", "'None'", "none"])
def test_the_gate_may_be_none(inputs, text):
    inputs.plant("mace.yaml", "ARCHITECTURE", "gate", text)
    assert inputs.load().model.ARCHITECTURE.gate == "None"


@pytest.mark.parametrize("text", ["16x0e", "0e", "8x0e + 4x1o", "16x0e+16x1o"])
def test_irreps_are_read_as_e3nn_writes_them(inputs, text):
    inputs.plant("mace.yaml", "ARCHITECTURE", "MLP_irreps", text)
    assert inputs.load().model.ARCHITECTURE.MLP_irreps == text


@pytest.mark.parametrize(
    ("section", "key", "text", "value"),
    [
        ("TRAINING", "weight_decay", "5.e-07", 5e-7),
        ("TRAINING", "lr", "1e-3", 1e-3),
        ("TRAINING", "clip_grad", "null", None),
        ("TRAINING", "optimizer", "AdamW", "adamw"),
        ("TRAINING", "loss", "Weighted", "weighted"),
        ("TRAINING", "loss", "WEIGHTED_STRESS", "weighted_stress"),
        ("TRAINING", "loss", "Huber", "huber"),
        ("ARCHITECTURE", "gate", "SiLU", "silu"),
        ("ARCHITECTURE", "model", "MACE", "MACE"),
        ("ARCHITECTURE", "model", "mace", "ScaleShiftMACE"),
        ("ARCHITECTURE", "model", "scaleshiftmace", "ScaleShiftMACE"),
        ("ARCHITECTURE", "model_choice", "Mace", "mace"),
        ("TRAINING", "seed", "7", 7),
        ("TRAINING", "start_swa", "100", 100),
        ("MISC", "log_level", "debug", "DEBUG"),
        ("MISC", "device", "cuda:1", "cuda:1"),
        ("GENERAL", "model_choice", "MACE", "mace"),
        ("GENERAL", "model_choice", "null", "mace"),
        ("GENERAL", "name_exp", "'2024'", "2024"),
    ],
)
def test_values_are_read_as_users_write_them(inputs, section, key, text, value):
    inputs.plant("mace.yaml", section, key, text)
    assert getattr(getattr(inputs.load().model, section), key) == value


def test_no_kind_of_model_is_none_that_there_is(inputs):
    told = inputs.mistake("mace.yaml", "ARCHITECTURE", "model_choice", "null")
    assert told == "ARCHITECTURE.model_choice: wrong value nothing"


def test_swa_needs_a_loss_with_energies(inputs):
    inputs.plant("mace.yaml", "TRAINING", "loss", "forces_only")
    told = inputs.mistake("mace.yaml", "TRAINING", "swa", "True")
    assert told == "TRAINING.swa: conflict True"


def test_a_second_stage_that_would_never_begin_is_told(inputs):
    inputs.plant("mace.yaml", "TRAINING", "swa", "True")
    inputs.plant("mace.yaml", "TRAINING", "start_swa", "500")
    (note,) = inputs.load().notes
    assert "TRAINING.swa never begins: start_swa is 500" in note
