"""Settings of a campaign: `aimsPAX.yaml`, with the original's sections, keys and defaults.

Source: aims-PAX README, section "Settings", and the second generation's keys. `REFERENCE` is ours.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from aimspax_core.settings.values import (
    Count,
    Device,
    ExistingFile,
    ExistingPlace,
    Fraction,
    Limit,
    Natural,
    NonNegative,
    Number,
    Place,
    Positive,
    Section,
    Whole,
    lower,
)

FOUNDATION_MODELS = (
    *("small", "medium", "large", "small-0b", "medium-0b", "small-0b2", "medium-0b2", "large-0b2"),
    *("medium-0b3", "medium-mpa-0", "small-omat-0", "medium-omat-0"),
    *("mace-matpes-pbe-0", "mace-matpes-r2scan-0", "mh-0", "mh-1"),
)
"""The foundation models that MACE knows by name (mace.calculators.foundations_models)."""


def _same_sampler(value: Any) -> Any:
    """`mace-mp0` is the first generation's name of `foundational`."""
    value = lower(value)
    return "foundational" if value == "mace-mp0" else value


def _foundation(value: str, info: ValidationInfo) -> str:
    known = value in FOUNDATION_MODELS or value.startswith("https:")
    if known or not info.context or (info.context["directory"] / value).is_file():
        return value
    raise PydanticCustomError(
        "wrong",
        f"no such file in {info.context['directory']}, nor a name that MACE knows: "
        f"{', '.join(FOUNDATION_MODELS)}",
        {"names": FOUNDATION_MODELS},
    )


FoundationName = Annotated[
    str,
    AfterValidator(_foundation),
    Field(json_schema_extra={"allowed": "a size, a name that MACE knows, or a path"}),
]


class TbliteReference(Section):
    """REFERENCE with `engine: tblite`: extended tight binding (GFN1-xTB, GFN2-xTB)."""

    engine: Literal["tblite"] = Field(description="The engine.")
    method: Literal["GFN2-xTB", "GFN1-xTB"] = Field("GFN2-xTB", description="Parametrisation.")
    charge: Whole = Field(0, description="Total charge (e).")
    spin: Count = Field(1, description="Spin multiplicity, 2S+1.")
    accuracy: Positive = Field(1.0, description="Convergence; smaller is tighter.")
    max_iterations: Count = Field(250, description="SCF cycles before it counts as failed.")
    electronic_temperature: NonNegative = Field(300.0, description="Electronic temperature (K).")


class MaceReference(Section):
    """REFERENCE with `engine: mace`: a teacher, a MACE model file that stands in for DFT."""

    engine: Literal["mace"] = Field(description="The engine.")
    model_path: ExistingFile = Field(description="The teacher's `.model` file.")
    device: Device = Field("cpu", description="Where it runs.")
    default_dtype: Literal["float32", "float64"] = Field("float64", description="Number format.")


EngineSettings = Annotated[TbliteReference | MaceReference, Field(discriminator="engine")]


class Gate(Section):
    """GATE: what may reach an engine or a dataset."""

    min_distance: Fraction = Field(
        0.5, description="Nearest distance allowed, as a fraction of the covalent radii's sum."
    )
    max_force: Positive = Field(50.0, description="Largest force on an atom allowed (eV/Å).")


class FoundationalModel(Section):
    """`foundational_model_settings`: which MACE-MP model, and its dispersion correction."""

    mace_model: FoundationName = Field(
        "small", description="Size, name that MACE knows, or path of a file."
    )
    dispersion: bool = Field(False, description="Add D3 dispersion.")
    dispersion_xc: str = Field("pbe", description="Functional of the dispersion correction.")
    dispersion_cutoff: Positive = Field(12.0, description="Cutoff of the dispersion (Å).")
    damping: Literal["bj", "zero", "bjm", "zerom"] = Field("bj", description="D3 damping.")


class Teacher(Section):
    """`teacher_reference_settings`: the second generation's way to name a teacher."""

    model_type: Literal["mace"] = Field("mace", description="Kind of teacher.")
    model_path: ExistingFile = Field(description="The teacher's `.model` file.")


class _Phase(Section):
    """What both phases have."""

    desired_acc: NonNegative = Field(0.0, description="Force MAE to reach in validation (eV/Å).")
    ensemble_size: Whole = Field(4, ge=2, description="Members of the ensemble.")
    valid_ratio: Fraction = Field(0.1, description="Share of the points kept for validation.")
    valid_skip: Count = Field(1, description="Epochs from one validation to the next.")
    margin: NonNegative = Field(0.002, description="Fall of validation loss that is progress.")
    convergence_patience: Count = Field(50, description="Epochs without progress to the end.")
    max_convergence_epochs: Count = Field(500, description="Most epochs of the convergence.")
    use_teacher_reference: bool = Field(False, description="Label with a teacher model.")
    teacher_reference_settings: Teacher | None = Field(None, description="That teacher.")


class InitialDatasetGeneration(_Phase):
    """INITIAL_DATASET_GENERATION: the first points, and an ensemble trained on them."""

    n_points_per_sampling_step_idg: Count = Field(
        description="Points for each member and geometry in a sampling step."
    )
    desired_acc_scale_idg: Positive = Field(10.0, description="Times `desired_acc` ends the phase.")
    initial_sampling: Annotated[
        Literal["foundational", "aimd", "engine"], BeforeValidator(_same_sampler)
    ] = Field(
        "foundational",
        description="What drives the sampling MD: a foundation model (`mace-mp0`, "
        "`foundational`), the reference itself (`aimd`), or `sampling_engine` (`engine`).",
        json_schema_extra={"allowed": "mace-mp0 (or foundational), aimd or engine"},
    )
    foundational_model: Literal["mace-mp"] = Field("mace-mp", description="Foundation model.")
    initial_foundational_size: FoundationName = Field(
        "small", description="Its size (first generation)."
    )
    foundational_model_settings: FoundationalModel | None = Field(
        None, description="Its settings (second generation); these count if given."
    )
    sampling_engine: EngineSettings | None = Field(
        None, description="Engine of the sampling MD, written like REFERENCE."
    )
    intermediate_epochs_idg: Count = Field(5, description="Epochs after each sampling step.")
    max_initial_epochs: Limit = Field(math.inf, description="Most epochs of the phase.")
    max_initial_set_size: Limit = Field(
        math.inf, description="Most labelled points of the phase, all members together."
    )
    scheduler_initial: bool = Field(True, description="Use a learning-rate scheduler.")
    skip_step_initial: Count = Field(25, description="MD steps from one point to the next.")
    converge_initial: bool = Field(False, description="Converge the ensemble at the end.")

    @field_validator("sampling_engine")
    @classmethod
    def _engine_named(cls, engine: Any, info: ValidationInfo) -> Any:
        if engine is None and info.data.get("initial_sampling") == "engine":
            raise PydanticCustomError(
                "plain", "missing; `initial_sampling: engine` needs it, written like REFERENCE"
            )
        return engine

    @field_validator("max_initial_set_size")
    @classmethod
    def _ends(cls, size: float, info: ValidationInfo) -> float:
        """Refuse a phase without an end; with the last limit, so that all others are known."""
        limits = (size, info.data.get("max_initial_epochs", 1))
        if info.data.get("desired_acc", 1) == 0 and min(limits) == math.inf:
            raise PydanticCustomError(
                "section",
                "nothing ends this phase; allowed: at least one of desired_acc (above 0), "
                "max_initial_epochs and max_initial_set_size",
            )
        return size

    @property
    def foundation(self) -> FoundationalModel:
        """The foundation model in force, whichever generation's keys name it."""
        return self.foundational_model_settings or FoundationalModel(
            mace_model=self.initial_foundational_size
        )


class ActiveLearning(_Phase):
    """ACTIVE_LEARNING: exploring with the ensemble, labelling where it is unsure."""

    num_trajectories: Count = Field(description="Trajectories that explore.")
    c_x: Number = Field(
        0.0,
        gt=-1,
        allow_inf_nan=False,
        description="Tightens (< 0) or relaxes (> 0) the uncertainty threshold.",
    )
    epochs_per_worker: Count = Field(2, description="Epochs of a training round.")
    intermediate_epochs_al: Count = Field(1, description="Epochs of a step within a round.")
    freeze_threshold_dataset: Limit = Field(
        math.inf, description="Training set size at which the threshold freezes."
    )
    max_MD_steps: Limit = Field(math.inf, description="MD steps of a trajectory.")
    max_train_set_size: Limit = Field(math.inf, description="Training set size that ends it.")
    skip_step_mlff: Count = Field(25, description="MD steps from one check to the next.")
    uncertainty_type: Literal["max_atomic_sd", "mean_atomic_sd", "ensemble_sd"] = Field(
        "max_atomic_sd", description="Measure of the ensemble's disagreement."
    )
    uncert_not_crossed_limit: Limit = Field(
        50000, description="MD steps without a crossing after which a point is taken anyway."
    )
    converge_al: bool = Field(True, description="Converge on the final data at the end.")
    converge_best: bool = Field(True, description="Converge the best member only.")


class MD(Section):
    """MD: the dynamics of all trajectories, of sampling and exploration alike."""

    stat_ensemble: Annotated[Literal["nvt"], BeforeValidator(lower)] = Field(
        description="Statistical ensemble."
    )
    thermostat: Annotated[Literal["langevin"], BeforeValidator(lower)] = Field(
        "langevin", description="Thermostat of NVT."
    )
    temperature: Positive = Field(300.0, description="Temperature (K).")
    timestep: Positive = Field(0.5, description="Time step (fs).")
    friction: Positive = Field(0.001, description="Langevin friction (1/fs).")
    fixcm: bool = Field(True, description="Hold the centre of mass.")
    MD_seed: Natural = Field(42, description="Seeds noise and velocities of every trajectory.")


class Misc(Section):
    """MISC: folders and files."""

    create_restart: bool = Field(True, description="Go on where a run stopped.")
    dataset_dir: Place = Field(Path("./data"), description="Folder of the datasets.")
    log_dir: Place = Field(Path("./logs"), description="Folder of the logs.")
    output_dir: Place = Field(Path(), description="Folder of everything that is written.")
    path_to_geometry: ExistingPlace = Field(
        Path("./geometry.in"), description="Geometry file or folder."
    )


class MlPool(Section):
    """`CLUSTER.ml`: the workers that train and run MD."""

    max_workers: Count | None = Field(None, description="Processes; none: from the machine.")


class Cluster(Section):
    """CLUSTER: where labels are computed, and where training and MD run."""

    type: Annotated[Literal["local"], BeforeValidator(lower)] = Field(
        description="Kind of cluster."
    )
    max_workers: Count = Field(4, description="Labels computed at the same time.")
    ml: MlPool = Field(MlPool(), description="Workers for training and MD.")


class ProjectSettings(Section):
    """All of `aimsPAX.yaml`."""

    INITIAL_DATASET_GENERATION: InitialDatasetGeneration
    ACTIVE_LEARNING: ActiveLearning
    MD: MD
    REFERENCE: EngineSettings
    GATE: Gate = Gate()
    MISC: Misc = Misc()
    CLUSTER: Cluster | None = None
