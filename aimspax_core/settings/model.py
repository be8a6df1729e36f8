"""Settings of the MACE models: `mace.yaml`, with MACE's own names.

Source: aims-PAX README, section "MACE settings", and the second generation's keys.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from ase.data import atomic_numbers, chemical_symbols
from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from aimspax_core.settings.reading.mistakes import shown
from aimspax_core.settings.values import (
    AnyCase,
    Count,
    Device,
    Natural,
    NonNegative,
    Number,
    Place,
    Positive,
    Section,
    begins_file_name,
    lower,
)


def _text(value: Any) -> Any:
    """MACE writes `gate: None` as a name; YAML reads it so too, but `null` as nothing."""
    name = "none" if value is None else lower(value)
    return "None" if name == "none" else name


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _model_class(value: Any) -> Any:
    """Read `mace` as the second generation does: a kind of model, of the usual class."""
    if not isinstance(value, str) or value == "MACE":
        return value
    usual = value.lower() in ("mace", "scaleshiftmace")
    return "ScaleShiftMACE" if usual else value


def _file_name(value: str) -> str:
    if not begins_file_name(value):
        raise PydanticCustomError("type", "cannot begin a file name")
    return value


def _irreps(value: str) -> str:
    if not re.fullmatch(r"\s*(\d+x)?\d+[eo]\s*(\+\s*(\d+x)?\d+[eo]\s*)*", value):
        raise PydanticCustomError("type", "not irreps")
    return value


def _by_number(value: Any) -> Any:
    """Read energies by chemical symbol or atomic number as energies by atomic number."""
    if not isinstance(value, dict):
        return value
    energies: dict[int, Any] = {}
    for key, energy in value.items():
        number: Any = atomic_numbers.get(str(key), key)
        if isinstance(number, str) and number.isascii() and number.isdecimal():
            number = int(number)
        if number not in range(1, len(chemical_symbols)):
            raise PydanticCustomError(
                "plain", f"found {key}, which is no element; allowed: {_ENERGIES}"
            )
        if number in energies:
            raise PydanticCustomError("plain", f"found {chemical_symbols[number]} twice")
        if type(energy) not in (int, float) or not math.isfinite(energy):
            text = f"found {shown(energy)} for {key}; allowed: {_ENERGIES}"
            raise PydanticCustomError("plain", text)
        energies[number] = energy
    return energies


_ENERGIES = "an energy (eV) for each element, such as {H: -13.6, C: -1029.5}"

Interaction = Literal[
    "RealAgnosticResidualInteractionBlock",
    "RealAgnosticAttResidualInteractionBlock",
    "RealAgnosticInteractionBlock",
    "RealAgnosticDensityInteractionBlock",
    "RealAgnosticDensityResidualInteractionBlock",
    "RealAgnosticResidualNonLinearInteractionBlock",
]


STRESS_LOSSES = ("stress", "weighted_stress", "virials", "huber", "universal")
"""The loss functions that have a term for stress or virials."""


class General(Section):
    """GENERAL: names, folders, number format."""

    name_exp: Annotated[str, AfterValidator(_file_name)] = Field(
        description="Name of the experiment; begins every member's tag.",
        json_schema_extra={
            "allowed": "a text that can begin a file's name, in quotes if it is a number"
        },
    )
    model_choice: Annotated[Literal["mace"], AnyCase()] = Field(
        "mace", description="Kind of model; here or in ARCHITECTURE."
    )
    checkpoints_dir: Place = Field(Path("./checkpoints"), description="Folder of checkpoints.")
    compute_stress: bool = Field(
        False,
        description="Train on stress and predict it; periodic structures need labels with stress.",
    )
    default_dtype: Literal["float32", "float64"] = Field("float32", description="Number format.")
    loss_dir: Place = Field(Path("./losses"), description="Folder of the training losses.")
    model_dir: Place = Field(Path("./model"), description="Folder of the models.")
    seed: Natural = Field(42, description="The members' own seeds are drawn from it.")


class Architecture(Section):
    """ARCHITECTURE: the MACE network; MACE's own names and meanings."""

    atomic_energies: Annotated[dict[int, float] | None, BeforeValidator(_by_number)] = Field(
        None,
        description="Energy (eV) of each element's isolated atom, by symbol or atomic number; "
        "none: least squares over the training set, renewed as it grows. A bare list, as the "
        "original's README has it, is refused: it does not say whose energy is whose.",
        json_schema_extra={"allowed": _ENERGIES},
    )
    compute_avg_num_neighbors: bool = Field(
        True, description="Take the average number of neighbours from the training set; else 1."
    )
    correlation: Count = Field(3, description="Correlation order of the product basis.")
    gate: Annotated[Literal["silu", "tanh", "abs", "None"], AnyCase(_text, (None,))] = Field(
        "silu", description="Activation of the last readout."
    )
    interaction: Interaction = Field(
        "RealAgnosticResidualInteractionBlock", description="Interaction block."
    )
    interaction_first: Interaction = Field(
        "RealAgnosticResidualInteractionBlock", description="First interaction block."
    )
    max_ell: Natural = Field(3, description="Highest degree of the spherical harmonics.")
    max_L: Natural = Field(1, description="Highest degree of the messages.")
    MLP_irreps: Annotated[str, AfterValidator(_irreps)] = Field(
        "16x0e",
        description="Irreps of the last readout's hidden layer.",
        json_schema_extra={"allowed": "irreps as e3nn writes them, such as 16x0e"},
    )
    model: Annotated[Literal["ScaleShiftMACE", "MACE"], AnyCase(_model_class)] = Field(
        "ScaleShiftMACE",
        description="Model class: with scale and shift of the energies, or without. The second "
        "generation's `mace`, in small letters, is a kind of model and means `ScaleShiftMACE`.",
    )
    model_choice: Annotated[Literal["mace"], AnyCase()] = Field(
        "mace", description="Kind of model; here or in GENERAL."
    )
    num_channels: Count = Field(128, description="Channels (features).")
    num_cutoff_basis: Count = Field(5, description="Order of the cutoff polynomial.")
    num_interactions: Count = Field(2, description="Message-passing layers.")
    num_radial_basis: Count = Field(8, description="Radial basis functions.")
    r_max: Positive = Field(5.0, description="Cutoff radius (Å).")
    radial_MLP: list[Count] = Field([64, 64, 64], description="Hidden layers of the radial MLP.")
    radial_type: Literal["bessel", "gaussian", "chebyshev"] = Field(
        "bessel", description="Radial basis."
    )
    scaling: Literal["rms_forces_scaling", "std_scaling", "no_scaling"] = Field(
        "rms_forces_scaling", description="How scale and shift follow from the training set."
    )


class Training(Section):
    """TRAINING: loss, optimizer, schedule; MACE's own names and meanings."""

    amsgrad: bool = Field(True, description="AMSGrad variant of Adam.")
    batch_size: Count = Field(5, description="Structures a batch; 1 if the set is smaller.")
    clip_grad: Positive | None = Field(10.0, description="Largest gradient norm; none: no limit.")
    config_type_weights: dict[str, NonNegative] = Field(
        {"Default": 1.0}, description="Weight of structures in the loss, by their `config_type`."
    )
    ema: bool = Field(True, description="Exponential moving average of the weights.")
    ema_decay: Number = Field(0.99, gt=0, lt=1, description="Decay of that average.")
    energy_weight: NonNegative = Field(1.0, description="Weight of the energy in the loss.")
    forces_weight: NonNegative = Field(1000.0, description="Weight of the forces in the loss.")
    loss: Annotated[
        Literal[
            "weighted",
            "ef",
            "forces_only",
            "stress",
            "weighted_stress",
            "virials",
            "huber",
            "universal",
            "l1l2energyforces",
        ],
        AnyCase(),
    ] = Field(
        "weighted",
        description="Loss function, by MACE's names; `weighted_stress` is another name of "
        "`stress`. `stress`, `virials`, `huber` and `universal` train on stress, and so need "
        "labels with stress for periodic structures.",
    )
    lr: Positive = Field(0.01, description="Learning rate at the start.")
    lr_factor: Number = Field(0.8, gt=0, lt=1, description="Factor of ReduceLROnPlateau.")
    lr_scheduler_gamma: Number = Field(0.9993, gt=0, le=1, description="Gamma of ExponentialLR.")
    optimizer: Annotated[Literal["adam", "adamw"], AnyCase()] = Field(
        "adam", description="Optimizer."
    )
    scheduler: Literal["ReduceLROnPlateau", "ExponentialLR"] = Field(
        "ReduceLROnPlateau", description="Learning-rate scheduler."
    )
    scheduler_patience: int = Field(5, ge=0, description="Patience of ReduceLROnPlateau.")
    seed: Natural | None = Field(
        None, description="Orders the batches of all members; none: each member's own seed."
    )
    start_swa: Count | None = Field(
        None, description="Epoch of a convergence at which `swa` begins; none: after three fourths."
    )
    stress_weight: NonNegative = Field(
        1.0, description="Weight of the stress in the losses `stress`, `huber`, `universal`."
    )
    swa: bool = Field(
        False,
        description="MACE's second stage at the end of a convergence: a learning rate of 0.001, "
        "and a loss that weighs energies more (1000 to 100 for forces).",
    )

    @field_validator("swa")
    @classmethod
    def _has_second_stage(cls, swa: bool, info: ValidationInfo) -> bool:
        if swa and info.data.get("loss") == "forces_only":
            raise PydanticCustomError(
                "plain", "found True; MACE has no second stage of the loss `forces_only`"
            )
        return swa

    valid_batch_size: Count = Field(5, description="Structures a batch in validation.")
    virials_weight: NonNegative = Field(
        1.0, description="Weight of the virials in the loss `virials`."
    )
    weight_decay: NonNegative = Field(5e-7, description="L2 decay of products and linears.")


class ModelMisc(Section):
    """MISC: where models run and what is logged."""

    device: Device = Field("cpu", description="Where models train and run MD.")
    enable_cueq: bool = Field(
        False, description="NVIDIA's cuEquivariance kernels (device `cuda` only)."
    )
    error_table: Literal[
        "PerAtomMAE",
        "PerAtomRMSE",
        "TotalMAE",
        "TotalRMSE",
        "PerAtomMAEstressvirials",
        "PerAtomRMSEstressvirials",
    ] = Field("PerAtomMAE", description="Which errors logs and tables show, by MACE's names.")
    keep_checkpoints: bool = Field(False, description="Keep the checkpoints of every round.")
    restart_latest: bool = Field(
        False, description="Converge from the latest raw weights, not from their average."
    )
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        AnyCase(_upper),
    ] = Field("INFO", description="How much is logged.")


class ModelSettings(Section):
    """All of `mace.yaml`."""

    GENERAL: General
    ARCHITECTURE: Architecture = Architecture()
    TRAINING: Training = Training()
    MISC: ModelMisc = ModelMisc()

    @property
    def stress(self) -> bool:
        """Whether labels need stress, for periodic structures: it is trained on or measured."""
        return self.GENERAL.compute_stress or self.TRAINING.loss in STRESS_LOSSES
