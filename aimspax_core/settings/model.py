"""Settings of the MACE models: `mace.yaml`, with MACE's own names.

Source: aims-PAX README, section "MACE settings", and the second generation's keys.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from aimspax_core.settings.values import Count, NonNegative, Positive, Section


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _text(value: Any) -> Any:
    """MACE writes `gate: None` as a name; YAML reads it so too, but `null` as nothing."""
    return "None" if value is None else value


Interaction = Literal[
    "RealAgnosticResidualInteractionBlock",
    "RealAgnosticAttResidualInteractionBlock",
    "RealAgnosticInteractionBlock",
    "RealAgnosticDensityInteractionBlock",
    "RealAgnosticDensityResidualInteractionBlock",
    "RealAgnosticResidualNonLinearInteractionBlock",
]


class General(Section):
    """GENERAL: names, folders, number format."""

    name_exp: str = Field(description="Name of the experiment; begins every member's tag.")
    checkpoints_dir: Path = Field(Path("./checkpoints"), description="Folder of checkpoints.")
    compute_stress: bool = Field(False, description="Train on stress and predict it.")
    default_dtype: Literal["float32", "float64"] = Field("float32", description="Number format.")
    loss_dir: Path = Field(Path("./losses"), description="Folder of the training losses.")
    model_dir: Path = Field(Path("./model"), description="Folder of the models.")
    seed: int = Field(42, ge=0, description="Draws the members' own seeds.")

    @field_validator("name_exp")
    @classmethod
    def _file_name(cls, value: str) -> str:
        if not value or "/" in value or value.startswith("."):
            raise ValueError("a name that can begin a file name")
        return value


class Architecture(Section):
    """ARCHITECTURE: the MACE network; MACE's own names and meanings."""

    atomic_energies: dict[int, float] | None = Field(
        None,
        description="Energy (eV) of each element's isolated atom, by symbol or atomic number; "
        "none: least squares over the training set, renewed as it grows.",
    )
    compute_avg_num_neighbors: bool = Field(True, description="Neighbours from the training set.")
    correlation: Count = Field(3, description="Correlation order of the product basis.")
    gate: Annotated[Literal["silu", "tanh", "abs", "None"], BeforeValidator(_text)] = Field(
        "silu", description="Activation of the last readout."
    )
    interaction: Interaction = Field("RealAgnosticResidualInteractionBlock", description="Block.")
    interaction_first: Interaction = Field(
        "RealAgnosticResidualInteractionBlock", description="First interaction block."
    )
    max_ell: int = Field(3, ge=0, description="Highest degree of the spherical harmonics.")
    max_L: int = Field(1, ge=0, description="Highest degree of the messages.")
    MLP_irreps: str = Field("16x0e", description="Irreps of the last readout's hidden layer.")
    model: Literal["ScaleShiftMACE", "MACE"] = Field("ScaleShiftMACE", description="Model class.")
    model_choice: Literal["mace"] = Field("mace", description="Kind of model.")
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

    @field_validator("atomic_energies", mode="before")
    @classmethod
    def _elements(cls, value: Any) -> Any:
        """Accept chemical symbols beside atomic numbers."""
        if not isinstance(value, dict):
            return value
        from ase.data import atomic_numbers

        return {atomic_numbers.get(str(k), k): v for k, v in value.items()}


class Training(Section):
    """TRAINING: loss, optimizer, schedule; MACE's own names and meanings."""

    amsgrad: bool = Field(True, description="AMSGrad variant of Adam.")
    batch_size: Count = Field(5, description="Structures a batch; 1 if the set is smaller.")
    clip_grad: Positive | None = Field(10.0, description="Largest gradient norm; none: no limit.")
    config_type_weights: dict[str, float] = Field(
        {"Default": 1.0}, description="Weight by `config_type`."
    )
    ema: bool = Field(True, description="Exponential moving average of the weights.")
    ema_decay: float = Field(0.99, gt=0, lt=1, description="Decay of that average.")
    energy_weight: NonNegative = Field(1.0, description="Weight of the energy in the loss.")
    forces_weight: NonNegative = Field(1000.0, description="Weight of the forces in the loss.")
    loss: Annotated[
        Literal["weighted", "forces_only", "huber", "universal", "l1l2energyforces"],
        BeforeValidator(_lower),
    ] = Field("weighted", description="Loss function, by MACE's names.")
    lr: Positive = Field(0.01, description="Learning rate at the start.")
    lr_factor: float = Field(0.8, gt=0, lt=1, description="Factor of ReduceLROnPlateau.")
    lr_scheduler_gamma: float = Field(0.9993, gt=0, le=1, description="Gamma of ExponentialLR.")
    optimizer: Annotated[Literal["adam", "adamw"], BeforeValidator(_lower)] = Field(
        "adam", description="Optimizer."
    )
    scheduler: Literal["ReduceLROnPlateau", "ExponentialLR"] = Field(
        "ReduceLROnPlateau", description="Learning-rate scheduler."
    )
    scheduler_patience: int = Field(5, ge=0, description="Patience of ReduceLROnPlateau.")
    stress_weight: NonNegative = Field(1.0, description="Weight of the stress in the loss.")
    valid_batch_size: Count = Field(5, description="Structures a batch in validation.")
    virials_weight: NonNegative = Field(1.0, description="Weight of the virials in the loss.")
    weight_decay: NonNegative = Field(5e-7, description="L2 decay of products and linears.")


class ModelMisc(Section):
    """MISC: where models run and what is logged."""

    device: str = Field("cpu", pattern=r"^(cpu|cuda(:\d+)?)$", description="`cpu` or `cuda`.")
    error_table: Literal["PerAtomMAE", "PerAtomRMSE", "TotalMAE", "TotalRMSE"] = Field(
        "PerAtomMAE", description="Errors shown in logs and tables."
    )
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        BeforeValidator(lambda v: v.upper() if isinstance(v, str) else v),
    ] = Field("INFO", description="How much is logged.")


class ModelSettings(Section):
    """All of `mace.yaml`."""

    GENERAL: General
    ARCHITECTURE: Architecture = Architecture()
    TRAINING: Training = Training()
    MISC: ModelMisc = ModelMisc()
