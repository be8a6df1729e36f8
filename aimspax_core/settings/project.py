"""Settings of a campaign: `aimsPAX.yaml`, with the original's sections, keys and defaults.

Source: aims-PAX README, section "Settings", and the second generation's keys. `REFERENCE` is ours.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, create_model, field_validator

from aimspax_core.settings.cluster import Cluster
from aimspax_core.settings.engines import FoundationalModel, FoundationName, Gate, Teacher
from aimspax_core.settings.families.known_families import FAMILIES
from aimspax_core.settings.known_engines import EngineSettings
from aimspax_core.settings.md import MDs
from aimspax_core.settings.misc import Misc
from aimspax_core.settings.reading.mistakes import Mistake, MistakeKind, missing, mistaken
from aimspax_core.settings.samples import Samples
from aimspax_core.settings.thresholds import Thresholds
from aimspax_core.settings.values import (
    Amount,
    AnyCase,
    ByTag,
    Count,
    ExistingSets,
    Fraction,
    Limit,
    Natural,
    NonNegative,
    Number,
    Positive,
    Section,
    Whole,
    lower,
)
from aimspax_core.stopping.rule import KeyKind, Stage
from aimspax_core.stopping.table import rules_of
from aimspax_core.text import and_list


def _same_sampler(value: Any) -> Any:
    """`mace-mp0` is the first generation's name of `foundational`."""
    value = lower(value)
    return "foundational" if value == "mace-mp0" else value


class _Phase(Section):
    """What both phases have."""

    ensemble_size: Whole = Field(
        4,
        ge=1,
        description="Members of the ensemble, at least 2; INITIAL_DATASET_GENERATION's holds for "
        "both phases. With a network of several heads (`use_multihead_model`) 1.",
    )
    valid_ratio: Fraction = Field(0.1, description="Share of the points kept for validation.")
    valid_skip: Count = Field(1, description="Epochs from one validation to the next.")
    margin: NonNegative = Field(0.002, description="A validation loss lower by this is progress.")
    convergence_patience: Count = Field(
        50, description="Epochs without progress that end a convergence."
    )
    max_convergence_epochs: Count = Field(500, description="Most epochs of a convergence.")
    use_teacher_reference: bool = Field(
        False, description="Label with a teacher, a model that stands in for DFT."
    )
    teacher_reference_settings: Teacher | None = Field(None, description="Which teacher.")
    save_trajectories_interval: Count = Field(
        5, description="MD steps from one frame of a saved trajectory to the next."
    )
    save_trajectories_max_frames: Count | None = Field(
        None,
        description="Most frames of a saved trajectory: when it has more, every other one goes.",
    )


_KINDS = (
    " or ".join(name for row in FAMILIES for name in row.foundations)
    + " (a file of either: as foundational_model_settings.mace_model or .model_path)"
)
"""What `foundational_model` may say."""


def _limits(stage: Stage) -> dict[str, Any]:
    """Return the fields for the keys of the rules that may end a phase."""
    types: dict[KeyKind, Any] = {"count": Limit, "amount": Amount, "accuracy": NonNegative}
    keys = [rule.key for rule in rules_of(stage)]
    return {k.name: (types[k.kind], Field(k.off, description=k.description)) for k in keys}


if TYPE_CHECKING:  # limits are read by their rules: `rule.limit(section)`

    class _InitialLimits(Section): ...

    class _ActiveLimits(Section): ...

    class _BudgetLimits(Section): ...

    FoundationKind = str
else:
    FoundationKind = Literal[tuple(name for row in FAMILIES for name in row.foundations)]
    _InitialLimits = create_model("_InitialLimits", __base__=Section, **_limits("initial"))
    _ActiveLimits = create_model("_ActiveLimits", __base__=Section, **_limits("active"))
    _BudgetLimits = create_model("_BudgetLimits", __base__=Section, **_limits("campaign"))


class InitialDatasetGeneration(_Phase, Samples, _InitialLimits):
    """INITIAL_DATASET_GENERATION: the first points, and an ensemble trained on them."""

    n_points_per_sampling_step_idg: Count = Field(
        description="Points for each member and geometry in a sampling step."
    )
    desired_acc_scale_idg: Positive = Field(
        10.0, description="The phase ends at this times `desired_acc`."
    )
    initial_sampling: Annotated[
        Literal["foundational", "aimd", "engine", "rattle"], AnyCase(_same_sampler, ("mace-mp0",))
    ] = Field(
        "foundational",
        description="What drives the sampling MD: a foundation model (`mace-mp0`, "
        "`foundational`), the reference itself (`aimd`), or `sampling_engine` (`engine`); or no "
        "MD, but rattled copies of the geometries (`rattle`).",
        json_schema_extra={"allowed": "mace-mp0 (or foundational), aimd, engine or rattle"},
    )
    foundational_model: Annotated[FoundationKind, AnyCase()] = Field(
        "mace-mp",
        description="Kind of foundation model: MACE-MP, or SO3LR for molecules of H, C, N, O, F, "
        "P, S and Cl (`pip install 'aimspax[so3lr]'`).",
        json_schema_extra={"allowed": _KINDS},
    )
    initial_foundational_size: FoundationName = Field(
        "small", description="The first generation's key for `mace_model`."
    )
    foundational_model_settings: FoundationalModel | None = Field(
        None, description="Settings of the foundation model; if given, these count."
    )
    sampling_engine: EngineSettings | None = Field(
        None, description="Engine of the sampling MD, written like REFERENCE."
    )
    intermediate_epochs_idg: Count = Field(
        5, description="Epochs of training after each sampling step."
    )
    analysis: bool = Field(False, description="Keep metrics of the phase in `analysis/`.")
    distinct_model_sets: bool = Field(
        True, description="Give each member its own points; else all have the same."
    )
    progress_dft_update: Count = Field(
        10, description="Labels from one line on their progress to the next."
    )
    save_trajectories: bool = Field(False, description="Keep the sampling MD in `trajectories/`.")
    scheduler_initial: bool = Field(True, description="Use a learning-rate scheduler.")
    skip_step_initial: Count = Field(25, description="MD steps from one point to the next.")
    converge_initial: bool = Field(False, description="Converge the ensemble at the end.")

    @field_validator("sampling_engine")
    @classmethod
    def _engine_named(cls, engine: Any, info: ValidationInfo) -> Any:
        if engine is None and info.data.get("initial_sampling") == "engine":
            raise missing("`initial_sampling: engine` needs it, written like REFERENCE")
        return engine

    @field_validator(rules_of("initial")[-1].key.name)
    @classmethod
    def _ends(cls, last: float, info: ValidationInfo) -> float:
        """Refuse a phase without an end; with the last limit, so that all others are known."""
        keys = [rule.key for rule in rules_of("initial")]
        found = {**info.data, str(info.field_name): last}
        if all(found.get(key.name) == key.off for key in keys):  # one that is wrong was meant
            named = [f"{k.name} (above 0)" if k.kind == "accuracy" else k.name for k in keys]
            why, allowed = "nothing ends this phase", f"at least one of {and_list(named)}"
            raise mistaken(Mistake(MistakeKind.CONFLICT, why=why, allowed=allowed), of_section=True)
        return last

    @classmethod
    def not_run(cls, active: ActiveLearning | None) -> Self:
        """Return what stands in for the section of a phase that is not run.

        Args:
            active: The section ACTIVE_LEARNING, which then says how many members there are.
        """
        section = {"n_points_per_sampling_step_idg": 1, "max_initial_epochs": 1}
        if active is not None and "ensemble_size" in active.model_fields_set:
            section["ensemble_size"] = active.ensemble_size
        return cls.model_validate(section)

    @property
    def foundation(self) -> FoundationalModel:
        """The foundation model in force, whichever generation's keys name it."""
        return self.foundational_model_settings or FoundationalModel(
            mace_model=self.initial_foundational_size
        )


class ActiveLearning(_Phase, Thresholds, Samples, _ActiveLimits):
    """ACTIVE_LEARNING: exploring with the ensemble, labelling where it is unsure."""

    num_trajectories: Count = Field(description="Trajectories that explore.")
    c_x: Number = Field(
        0.0,
        gt=-1,
        allow_inf_nan=False,
        description="Tightens (< 0) or relaxes (> 0) the uncertainty threshold.",
    )
    epochs_per_worker: Count = Field(
        2, description="Epochs of training for a point that was found."
    )
    round_points_counted: Limit = Field(
        8,
        description="A training round that is held for several points has `epochs_per_worker` "
        "epochs for each of them, up to so many; 1: `epochs_per_worker` epochs for all together.",
    )
    md_steps_while_training: Limit = Field(
        math.inf,
        description="MD steps after which a trajectory halts, at its next check, while a round of "
        "training is under way, which replaces the ensemble; `.inf`: it goes on.",
    )
    intermediate_epochs_al: Count = Field(1, description="Epochs of a step within a round.")
    freeze_threshold_dataset: Limit = Field(
        math.inf,
        description="Size of a member's training set at which the moving threshold freezes.",
    )
    skip_step_mlff: Count = Field(
        25, description="MD steps from one check of the uncertainty to the next."
    )
    uncert_not_crossed_limit: Limit = Field(
        50000, description="MD steps without a crossing after which a point is taken anyway."
    )
    converge_al: bool = Field(True, description="Converge on the final data at the end.")
    converge_best: bool = Field(True, description="Converge the best member only.")
    converge_on: Annotated[Literal["all", "own"], AnyCase()] = Field(
        "all",
        description="What the final models are converged on: `all` members' sets together (what "
        "any member has trained on validates none), or each on its `own`, as the original does.",
    )
    converge_on_analysis: bool = Field(
        False,
        description="With `converge_on: all`, train the final models on the labels of `analysis` "
        "too.",
    )
    analysis: bool = Field(
        False,
        description="Label structures at fixed intervals too; keep predictions, errors and "
        "uncertainties in `analysis/`; these labels do not enter training.",
    )
    analysis_skip: Count = Field(50, description="MD steps from one such structure to the next.")
    seeds_tags_dict: Annotated[dict[str, Natural], ByTag] | None = Field(
        None,
        description="Seed of each member by its tag, in place of those drawn from GENERAL.seed.",
        json_schema_extra={"allowed": "a section with the seed of each member's tag"},
    )
    replay_strategy: Annotated[Literal["full_dataset", "random_subset"], AnyCase()] = Field(
        "full_dataset", description="A training round sees all points, or a random subset of them."
    )
    train_subset_size: Count | None = Field(
        None, description="Training points of a round; `random_subset` needs it."
    )
    valid_subset_size: Count | None = Field(
        None, description="Validation points of a round with `random_subset`; not given: all."
    )
    update_md_checkpoints: bool = Field(
        True, description="A labelled structure becomes what its trajectory is rolled back to."
    )
    extend_existing_final_ds: bool = Field(
        False, description="Begin from the datasets in `data/final` of an earlier run."
    )
    save_trajectories: bool = Field(True, description="Keep the exploring MD in `trajectories/`.")
    initial_train_dataset: ExistingSets | None = Field(
        None,
        description="Training set to begin from (extended XYZ).",
        json_schema_extra={"allowed": "a path, or one for each member's tag"},
    )
    initial_valid_dataset: ExistingSets | None = Field(
        None,
        description="Validation set to begin from (extended XYZ).",
        json_schema_extra={"allowed": "a path, or one for each member's tag"},
    )
    use_foundational: bool = Field(
        False, description="A foundation model drives the MD; the ensemble judges."
    )
    foundational_model: Annotated[FoundationKind, AnyCase()] = Field(
        "mace-mp",
        description="Kind of foundation model: MACE-MP, or SO3LR for molecules of H, C, N, O, F, "
        "P, S and Cl (`pip install 'aimspax[so3lr]'`).",
        json_schema_extra={"allowed": _KINDS},
    )
    foundational_model_settings: FoundationalModel = Field(
        FoundationalModel(), description="Settings of the foundation model."
    )

    @classmethod
    def not_run(cls) -> Self:
        """Return what stands in for the section of a phase that is not run."""
        return cls.model_validate({"num_trajectories": 1, "max_MD_steps": 1})

    @field_validator("valid_subset_size")
    @classmethod
    def _subset_sized(cls, size: int | None, info: ValidationInfo) -> int | None:
        """Refuse `random_subset` without a size; with the last of its keys."""
        if (
            info.data.get("replay_strategy") == "random_subset"
            and info.data.get("train_subset_size", 1) is None
        ):
            why = "`replay_strategy: random_subset` needs train_subset_size"
            raise mistaken(Mistake(MistakeKind.CONFLICT, why=why), of_section=True)
        return size


class Budget(_BudgetLimits):
    """BUDGET: what the whole campaign may cost.

    When one of these is used up, what is under way is finished and kept, and the campaign converges
    and publishes its models; see docs/budget.md.
    """


class ProjectSettings(Section):
    """All of `aimsPAX.yaml`; a phase without a section is not run."""

    INITIAL_DATASET_GENERATION: InitialDatasetGeneration | None = None
    ACTIVE_LEARNING: ActiveLearning | None = None
    MD: MDs
    REFERENCE: EngineSettings
    GATE: Gate = Gate()
    BUDGET: Budget = Budget()
    MISC: Misc = Misc()
    CLUSTER: Cluster | None = None
