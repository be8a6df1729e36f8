"""Settings of fine-tuning: the keys of TRAINING by which members begin from a trained model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from aimspax_core.settings.engines import PretrainedName
from aimspax_core.settings.reading.mistakes import (
    Mistake,
    MistakeKind,
    conflict,
    mistaken,
)
from aimspax_core.settings.values import AnyCase, Count, ExistingFile, Positive, Section
from aimspax_core.text import and_list

PARTS = {
    "embedding": "embedding",
    "zbl": "ZBL repulsion",
    "hirshfeld": "Hirshfeld ratios",
    "partial_charges": "partial charges",
    "shifts": "shifts of the energy",
    "scales": "scales of the energy",
}
"""Parts of So3krates and SO3LR that `freeze_` and their name keep from training, in words."""


@dataclass(frozen=True)
class Pretrained:
    """What members begin from.

    Attributes:
        model: A model file, or a name that the family's package knows; None: a network of the
            settings' ARCHITECTURE with the weights of a file.
        weights: File of weights that take the place of the model's; None: its own.
    """

    model: str | None
    weights: Path | None = None

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return str(self.weights if self.model is None else self.model)


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
        description="How: `naive` trains the weights on, all or those that `freeze` and `freeze_…` "
        "leave; `lora` keeps them, and trains what is added to linear maps, a product of two thin "
        "matrices (LoRA, arXiv:2106.09685): with MACE that alone, with So3krates and SO3LR also "
        "the parts that `freeze_…` could keep, and does not. Models that are written have it added "
        "in.",
    )
    convert_to_lora: bool = Field(
        False, description="Another name of `finetuning_choice: lora`, from aims-PAX 0.2."
    )
    pretrained_model: PretrainedName | None = Field(
        None,
        description="Model that members begin from: a `.model` file, or a size or name of MACE-MP; "
        "of SO3LR also `so3lr`, the one of its package.",
        json_schema_extra={"allowed": "a size, a name that MACE knows, so3lr, or a path"},
    )
    pretrained_weights: ExistingFile | None = Field(
        None,
        description="File of weights (a state dict of torch, or a checkpoint of MACE's `run_train` "
        "or of so3krates-torch) that take the place of those of `pretrained_model`, which says how "
        "they are put together; with So3krates and SO3LR, ARCHITECTURE can say that instead.",
    )

    freeze: int = Field(
        0,
        ge=0,
        le=6,
        description="MACE only: what `naive` does not train, by its numbers: 1 to 4 the embedding "
        "of the elements, 5 also the interactions, 6 also the products, so that the "
        "readouts are left.",
    )
    freeze_embedding: bool = Field(
        False,
        description="So3krates and SO3LR: do not train the embedding of elements, charge, spin "
        "and (`trainable_rbf`) distances.",
    )
    freeze_zbl: bool = Field(False, description="SO3LR: do not train the ZBL repulsion.")
    freeze_hirshfeld: bool = Field(
        False, description="SO3LR: do not train the Hirshfeld ratios, which dispersion is from."
    )
    freeze_partial_charges: bool = Field(
        False, description="SO3LR: do not train the partial charges."
    )
    freeze_shifts: bool = Field(
        False,
        description="So3krates and SO3LR: do not train the energy's shift of each element. "
        "Energies of free atoms beside it are solved for as ever (`solve_energies`).",
    )
    freeze_scales: bool = Field(
        False, description="So3krates and SO3LR: do not train the energy's factor of each element."
    )
    lora_rank: Count = Field(8, description="`lora`: inner size of the two matrices.")
    lora_alpha: Positive = Field(
        16.0,
        description="`lora`: their product is multiplied by `lora_alpha / lora_rank`; with "
        "So3krates and SO3LR, whose package has it so, by `lora_alpha / √lora_rank`.",
    )
    lora_freeze_A: bool = Field(
        False, description="`lora`: of the two, train only the second, which is zero at first."
    )

    convert_to_multihead: bool = Field(
        False,
        description="SO3LR: `pretrained_model` has one head, and each of the heads of "
        "`ARCHITECTURE.use_multihead_model` begins as a copy of it; see `docs/several-heads.md`.",
    )
    multiheads_finetuning: bool = Field(
        False,
        description="MACE only: members have a second head, and are trained on data that "
        "`pretrained_model` was trained on as well (`pt_train_file`), so that they forget less. "
        "Published models have the member's own head alone.",
    )
    pt_train_file: ExistingFile | None = Field(
        None,
        description="`multiheads_finetuning`: file of these data, labelled by the method of "
        "`pretrained_model`; quantities by the names in MISC.",
    )
    num_samples_pt: Count = Field(
        100,
        description="`multiheads_finetuning`: of the frames of `pt_train_file` whose elements are "
        "those of the geometries, each member draws so many, and trains on them in every epoch. "
        "MACE itself draws 10000.",
    )
    weight_pt_head: Positive = Field(
        1.0, description="`multiheads_finetuning`: weight of these frames in the loss."
    )

    @field_validator(
        *("convert_to_lora", "convert_to_multihead", "multiheads_finetuning"),
        *(f"freeze_{part}" for part in PARTS),
    )
    @classmethod
    def _only_if_tuned(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("perform_finetuning") is False:
            raise conflict("it is for `perform_finetuning: True`", found="True")
        return value

    @field_validator("freeze")
    @classmethod
    def _only_naively(cls, freeze: int, info: ValidationInfo) -> int:
        if freeze and info.data.get("perform_finetuning") is False:
            raise conflict("it is for `perform_finetuning: True`", found=str(freeze))
        lora = info.data.get("finetuning_choice") == "lora" or info.data.get("convert_to_lora")
        if freeze and lora:
            raise conflict("`lora` trains none of the model's weights", str(freeze), "0")
        return freeze

    @model_validator(mode="after")
    def _begins_from_something(self) -> Self:
        named = self.pretrained_model is not None or self.pretrained_weights is not None
        if self.perform_finetuning and not named:
            why = "`perform_finetuning: True` needs it, what members begin from"
            raise mistaken(Mistake(MistakeKind.MISSING, why=why, key="pretrained_model"))
        return self

    @model_validator(mode="after")
    def _replays_a_file(self) -> Self:
        if self.replays and self.pt_train_file is None:
            why = "`multiheads_finetuning: True` needs it, what members are trained on beside"
            raise mistaken(Mistake(MistakeKind.MISSING, why=why, key="pt_train_file"))
        if self.pt_train_file is not None and not self.multiheads_finetuning:
            found, why = f"'{self.pt_train_file}'", "it is for `multiheads_finetuning: True`"
            raise mistaken(Mistake(MistakeKind.CONFLICT, found, why, key="pt_train_file"))
        return self

    @model_validator(mode="after")
    def _one_choice(self) -> Self:
        said = "finetuning_choice" in self.model_fields_set
        if self.convert_to_lora and said and self.finetuning_choice != "lora":
            found = f"True beside finetuning_choice: {self.finetuning_choice}"
            conflicting = Mistake(MistakeKind.CONFLICT, found, allowed="one", key="convert_to_lora")
            raise mistaken(conflicting)
        return self

    @property
    def uses_lora(self) -> bool:
        """Whether members hold what is added to their linear maps."""
        chosen = self.finetuning_choice == "lora" or self.convert_to_lora
        return self.perform_finetuning and chosen

    @property
    def replays(self) -> bool:
        """Whether members are trained on earlier data, too, by a head of their own."""
        return self.perform_finetuning and self.multiheads_finetuning

    @property
    def frozen_parts(self) -> tuple[str, ...]:
        """The parts of So3krates and SO3LR that are not trained, by their names in `PARTS`."""
        return tuple(part for part in PARTS if getattr(self, f"freeze_{part}"))

    @field_validator("pretrained_model", "pretrained_weights")
    @classmethod
    def _only_to_tune(cls, value: Any, info: ValidationInfo) -> Any:
        tunes = info.data.get("perform_finetuning")
        if value is not None and tunes is False:
            raise conflict("it is for `perform_finetuning: True`", found=f"'{value}'")
        return value

    @property
    def tuning_text(self) -> str:
        """What is trained, in words, for the plan of a run."""
        return self._trained_text + (
            f", beside at most {self.num_samples_pt} frames of {self.pt_train_file}"
            if self.replays
            else ""
        )

    @property
    def _trained_text(self) -> str:
        if self.uses_lora:
            fixed = ", the first matrix fixed" if self.lora_freeze_A else ""
            frozen = f", {self._frozen_text} frozen" if self.frozen_parts else ""
            return f"LoRA of rank {self.lora_rank} and alpha {self.lora_alpha:g}{fixed}{frozen}"
        if self.frozen_parts:
            return f"all weights but {self._frozen_text}"
        left = {5: "products and readouts", 6: "readouts"}
        return left.get(self.freeze, "all weights" + " but the embedding" * bool(self.freeze))

    @property
    def _frozen_text(self) -> str:
        return and_list([PARTS[part] for part in self.frozen_parts])

    def pretrained(self, directory: Path) -> Pretrained | None:
        """Return what members begin from; None if from random weights.

        Args:
            directory: The run directory, where names of files begin.
        """
        if not self.perform_finetuning:
            return None
        model, weights = self.pretrained_model, self.pretrained_weights
        if model is not None and (directory / model).is_file():
            model = str(directory / model)
        return Pretrained(model, None if weights is None else directory / weights)

    @property
    def pretrained_text(self) -> str:
        """What members begin from, as the settings name it."""
        model, weights = self.pretrained_model, self.pretrained_weights
        if model is None:
            return f"the weights of {weights} in the network of ARCHITECTURE"
        return str(model) + (f" with the weights of {weights}" if weights is not None else "")
