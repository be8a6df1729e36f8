"""Settings of the models: `mace.yaml` (or `model.yaml`), with MACE's own names.

The section ARCHITECTURE is that of the family which `model_choice` names (`families`); the other
sections are shared by all families.

Source: aims-PAX README, section "MACE settings", and the second generation's keys.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from aimspax_core.settings.families.known_families import FAMILIES, row_of
from aimspax_core.settings.families.row import Architecture, FamilyRow
from aimspax_core.settings.fine_tuning import FineTuning
from aimspax_core.settings.reading.mistakes import Mistake, MistakeKind, conflict, mistaken
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
from aimspax_core.text import or_list


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _switched(value: Any) -> Any:
    """Read `on` and `off` as YAML does, which makes True and False of them."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else lower(value)


def _file_name(value: str) -> str:
    if not begins_file_name(value):
        raise PydanticCustomError("type", "cannot begin a file name")
    return value


if TYPE_CHECKING:
    ModelChoice = str
    AnyLoss = str
    AnyArchitecture = Architecture
else:
    ModelChoice = Literal[tuple(row.name for row in FAMILIES)]
    AnyLoss = Literal[tuple(dict.fromkeys(loss for row in FAMILIES for loss in row.losses))]
    AnyArchitecture = FAMILIES[0].architecture
    if len(FAMILIES) > 1:
        sections = Union[tuple(row.architecture for row in FAMILIES)]  # noqa: UP007
        AnyArchitecture = Annotated[sections, Field(discriminator="model_choice")]


WEIGHTS = {"dipole": "dipole_weight", "hirshfeld_ratios": "hirshfeld_weight"}
"""The keys of TRAINING that weigh what a label may have beside energy, forces and stress."""


class General(Section):
    """GENERAL: names, folders, number format."""

    name_exp: Annotated[str, AfterValidator(_file_name)] = Field(
        description="Name of the experiment; begins every member's tag.",
        json_schema_extra={
            "allowed": "a text that can begin a file's name, in quotes if it is a number"
        },
    )
    model_choice: Annotated[ModelChoice, AnyCase()] = Field(
        FAMILIES[0].name, description="Kind of model; here or in ARCHITECTURE."
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


class Training(FineTuning):
    """TRAINING: loss, optimizer, schedule; MACE's own names and meanings."""

    amsgrad: bool = Field(True, description="AMSGrad variant of Adam.")
    batch_size: Count = Field(5, description="Structures a batch; 1 if the set is smaller.")
    clip_grad: Positive | None = Field(10.0, description="Largest gradient norm; none: no limit.")
    config_type_weights: dict[str, NonNegative] = Field(
        {"Default": 1.0}, description="Weight of structures in the loss, by their `config_type`."
    )
    dipole_weight: NonNegative = Field(
        1.0,
        description="Weight of dipoles in the losses that have them (SO3LR, molecules); a label "
        "then needs a dipole.",
    )
    ema: bool = Field(True, description="Exponential moving average of the weights.")
    ema_decay: Number = Field(0.99, gt=0, lt=1, description="Decay of that average.")
    energy_weight: NonNegative = Field(1.0, description="Weight of the energy in the loss.")
    forces_weight: NonNegative = Field(1000.0, description="Weight of the forces in the loss.")
    hirshfeld_weight: NonNegative = Field(
        1.0,
        description="Weight of Hirshfeld ratios (volume of an atom over that of the free atom) in "
        "the losses that have them (SO3LR); a label then needs them.",
    )
    loss: Annotated[AnyLoss, AnyCase()] = Field(
        "weighted",
        description="Loss function, by MACE's names; `weighted_stress` is another name of "
        "`stress`. `stress`, `virials`, `huber` and `universal` train on stress, and so need "
        "labels with stress for periodic structures. SO3LR can train on dipoles, Hirshfeld ratios, "
        "or both besides.",
    )
    lr: Positive = Field(
        0.01,
        description="Learning rate at the start; not given, So3krates and SO3LR are fine-tuned "
        "with 0.0003, or 0.001 by `lora`.",
    )
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
            raise conflict("MACE has no second stage of the loss `forces_only`", found="True")
        return swa

    valid_batch_size: Count = Field(5, description="Structures a batch in validation.")
    virials_weight: NonNegative = Field(
        1.0, description="Weight of the virials in the loss `virials`."
    )
    weight_decay: NonNegative = Field(5e-7, description="L2 decay of products and linears.")


class ModelMisc(Section):
    """MISC: where models run and what is logged."""

    compute_dipole: bool = Field(
        False,
        description="Measure the errors of SO3LR's dipoles where labels have them, also without "
        "training on them.",
    )
    device: Device = Field("cpu", description="Where models train and run MD.")
    enable_cueq: bool = Field(
        False, description="NVIDIA's cuEquivariance kernels (device `cuda` only)."
    )
    kernel: Annotated[Literal["auto", "lean", "mace"], AnyCase()] = Field(
        "auto",
        description="How the network is computed; weights and files are the same, results agree to "
        "rounding. `mace`: by MACE itself. `lean`: by few large operations, several times faster; "
        "`auto`: so where the ARCHITECTURE allows it, else by MACE.",
    )
    compile: Annotated[Literal["auto", "on", "off"], AnyCase(_switched)] = Field(
        "auto",
        description="Whether torch compiles the training of the `lean` network: a process aside "
        "does so for about a minute, while training goes on as it is. `on`: at once; `auto`: where "
        "the training ahead is worth it; `off`: never. Results agree to rounding; only with `off` "
        "is a campaign repeatable to the last bit, as from when on training is compiled hangs on "
        "the clock.",
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
    ARCHITECTURE: AnyArchitecture = FAMILIES[0].architecture(model_choice=FAMILIES[0].name)
    TRAINING: Training = Training()
    MISC: ModelMisc = ModelMisc()

    @model_validator(mode="before")
    @classmethod
    def _one_model_choice(cls, data: Any) -> Any:
        """Read `model_choice` in any case, and of GENERAL or ARCHITECTURE, whichever gives it."""
        if not isinstance(data, dict):
            return data
        sections = {"ARCHITECTURE": {}} | {
            name: data[name] for name in ("GENERAL", "ARCHITECTURE") if name in data
        }
        sections = {k: v for k, v in sections.items() if isinstance(v, dict)}
        if sections.get("GENERAL", {}).get("model_choice", "") is None:  # the second generation's
            sections["GENERAL"] = sections["GENERAL"].copy()
            del sections["GENERAL"]["model_choice"]
        found = {name: lower(section.get("model_choice")) for name, section in sections.items()}
        known = [row.name for row in FAMILIES]
        chosen = {name: choice for name, choice in found.items() if choice in known}
        if len(set(chosen.values())) > 1:
            both = " but ".join(f"{name}.model_choice {choice}" for name, choice in chosen.items())
            raise mistaken(Mistake(MistakeKind.CONFLICT, both, allowed="one"))
        choice = next(iter(chosen.values()), known[0])
        return data | {
            name: {**section, "model_choice": choice}
            for name, section in sections.items()
            if "model_choice" not in section or name in chosen
        }

    @model_validator(mode="after")
    def _loss_of_the_family(self) -> ModelSettings:
        if self.TRAINING.loss not in self.family.losses:
            allowed = f"for {self.family.name} models, {or_list(self.family.losses)}"
            raise mistaken(
                Mistake(
                    MistakeKind.CONFLICT,
                    f"'{self.TRAINING.loss}'",
                    allowed=allowed,
                    key="TRAINING.loss",
                )
            )
        return self

    @property
    def family(self) -> FamilyRow:
        """The family that `model_choice` names."""
        return row_of(self.ARCHITECTURE.model_choice)

    @property
    def heads(self) -> int:
        """How many heads a member has; with several, their spread is the uncertainty."""
        return self.family.heads(self)

    @property
    def beside(self) -> tuple[str, ...]:
        """What labels need beside energy, forces and stress, by its names in `Label`."""
        trained = self.family.trains.get(self.TRAINING.loss, ())
        return tuple(one for one in trained if getattr(self.TRAINING, WEIGHTS[one]) > 0)

    @property
    def measured(self) -> tuple[str, ...]:
        """Of what beside energy, forces and stress errors are measured, where labels have it."""
        asked = ("dipole",) if self.MISC.compute_dipole else ()
        return tuple(dict.fromkeys((*asked, *self.beside)))

    @property
    def stress(self) -> bool:
        """Whether labels need stress, for periodic structures: it is trained on or measured."""
        return self.GENERAL.compute_stress or self.TRAINING.loss in self.family.stress_losses
