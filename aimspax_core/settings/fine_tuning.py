"""Settings of fine-tuning: the keys of TRAINING by which members begin from a trained model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from aimspax_core.settings.engines import PretrainedName
from aimspax_core.settings.reading.mistakes import conflict, missing
from aimspax_core.settings.values import AnyCase, Count, ExistingFile, Positive, Section


@dataclass(frozen=True)
class Pretrained:
    """What members begin from.

    Attributes:
        model: A model file, or a name that the family's package knows.
        weights: File of weights that take the place of the model's; None: its own.
    """

    model: str
    weights: Path | None = None


class FineTuning(Section):
    """The keys of TRAINING by which members begin from a trained model."""

    perform_finetuning: bool = Field(
        False,
        description="Members begin from `pretrained_model`, not from random weights, and "
        "INITIAL_DATASET_GENERATION trains them on; see `docs/fine-tuning.md`. ARCHITECTURE is "
        "the model's, and a key of it that says otherwise is a mistake.",
    )
    finetuning_choice: Annotated[Literal["naive", "lora"], AnyCase()] = Field(
        "naive",
        description="How: `naive` trains the weights on, all or those that `freeze` leaves; `lora` "
        "keeps them, and trains what is added to linear maps, a product of two thin matrices "
        "(LoRA, arXiv:2106.09685), for MACE only. Models that are written have it added in.",
    )
    pretrained_model: PretrainedName | None = Field(
        None,
        description="Model that members begin from: a `.model` file, or a size or name of MACE-MP; "
        "of SO3LR also `so3lr`, the one of its package.",
        json_schema_extra={"allowed": "a size, a name that MACE knows, so3lr, or a path"},
    )
    pretrained_weights: ExistingFile | None = Field(
        None,
        description="MACE only. File of weights (a state dict of torch, or a checkpoint of MACE's "
        "`run_train`) that take the place of those of `pretrained_model`, which says how they are "
        "put together.",
    )

    freeze: int = Field(
        0,
        ge=0,
        le=6,
        description="MACE only: what `naive` does not train, by its numbers: 1 to 4 the embedding "
        "of the elements, 5 also the interactions, 6 also the products, so that the "
        "readouts are left.",
    )
    lora_rank: Count = Field(8, description="MACE's `lora`: inner size of the two matrices.")
    lora_alpha: Positive = Field(
        16.0, description="MACE's `lora`: their product is multiplied by `lora_alpha / lora_rank`."
    )
    lora_freeze_A: bool = Field(
        False,
        description="MACE's `lora`: of the two, train only the second, which is zero at first.",
    )

    @field_validator("freeze")
    @classmethod
    def _only_naively(cls, freeze: int, info: ValidationInfo) -> int:
        if freeze and info.data.get("perform_finetuning") is False:
            raise conflict("it is for `perform_finetuning: True`", found=str(freeze))
        if freeze and info.data.get("finetuning_choice") == "lora":
            raise conflict("`lora` trains none of the model's weights", str(freeze), "0")
        return freeze

    @property
    def uses_lora(self) -> bool:
        """Whether members hold what is added to their linear maps."""
        return self.perform_finetuning and self.finetuning_choice == "lora"

    @field_validator("pretrained_model", "pretrained_weights")
    @classmethod
    def _only_to_tune(cls, value: Any, info: ValidationInfo) -> Any:
        tunes = info.data.get("perform_finetuning")
        if value is not None and tunes is False:
            raise conflict("it is for `perform_finetuning: True`", found=f"'{value}'")
        if value is None and tunes and info.field_name == "pretrained_model":
            raise missing("`perform_finetuning: True` needs it, what members begin from")
        return value

    @property
    def tuning_text(self) -> str:
        """What is trained, in words, for the plan of a run."""
        if self.uses_lora:
            fixed = ", the first matrix fixed" if self.lora_freeze_A else ""
            return f"LoRA of rank {self.lora_rank} and alpha {self.lora_alpha:g}{fixed}"
        left = {5: "products and readouts", 6: "readouts"}
        return left.get(self.freeze, "all weights" + " but the embedding" * bool(self.freeze))

    def pretrained(self, directory: Path) -> Pretrained | None:
        """Return what members begin from; None if from random weights.

        Args:
            directory: The run directory, where names of files begin.
        """
        if not self.perform_finetuning or self.pretrained_model is None:
            return None
        local = directory / self.pretrained_model
        weights = self.pretrained_weights
        return Pretrained(
            str(local) if local.is_file() else self.pretrained_model,
            None if weights is None else directory / weights,
        )
