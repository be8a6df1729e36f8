"""The engines of the settings: reference methods, foundation models, teachers, and the gate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from aimspax_core.settings.pyscf import PyscfReference
from aimspax_core.settings.values import (
    AnyCase,
    Count,
    Device,
    ExistingControls,
    ExistingFile,
    ExistingFolder,
    Fraction,
    NonNegative,
    Place,
    Positive,
    Section,
    Whole,
)

FOUNDATION_MODELS = (
    *("small", "medium", "large", "small-0b", "medium-0b", "small-0b2", "medium-0b2", "large-0b2"),
    *("medium-0b3", "medium-mpa-0", "small-omat-0", "medium-omat-0"),
    *("mace-matpes-pbe-0", "mace-matpes-r2scan-0", "mh-0", "mh-1"),
)
"""The foundation models that MACE knows by name (mace.calculators.foundations_models)."""


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


def _a_line(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("wrong", "allowed: the shell line that runs the code")
    return text


class TbliteReference(Section):
    """REFERENCE with `engine: tblite`: extended tight binding; needs no further installation."""

    engine: Literal["tblite"] = Field(description="The engine.")
    method: Literal["GFN2-xTB", "GFN1-xTB"] = Field("GFN2-xTB", description="Parametrisation.")
    charge: Whole = Field(0, description="Total charge (e).")
    spin: Count = Field(1, description="Spin multiplicity, 2S+1.")
    accuracy: Positive = Field(
        1.0, description="Tightness of the SCF convergence; smaller is tighter."
    )
    max_iterations: Count = Field(250, description="SCF cycles before it counts as failed.")
    electronic_temperature: NonNegative = Field(300.0, description="Electronic temperature (K).")


class MaceReference(Section):
    """REFERENCE with `engine: mace`: a teacher, a MACE model file that stands in for DFT."""

    engine: Literal["mace"] = Field(description="The engine.")
    model_path: ExistingFile = Field(description="The teacher's `.model` file.")
    device: Device = Field("cpu", description="Where it runs.")
    default_dtype: Literal["float32", "float64"] = Field("float64", description="Number format.")


class FoundationalModel(Section):
    """`foundational_model_settings`: which MACE-MP model, and its dispersion correction."""

    mace_model: FoundationName = Field(
        "small", description="The model. MACE fetches one that it knows by name, once."
    )
    dispersion: bool = Field(False, description="Add D3 dispersion.")
    dispersion_xc: str = Field("pbe", description="Functional of the dispersion correction.")
    dispersion_cutoff: Positive = Field(12.0, description="Cutoff of the dispersion (Å).")
    damping: Literal["bj", "zero", "bjm", "zerom"] = Field(
        "bj", description="Damping function of the dispersion."
    )

    def for_mace(self, directory: Path) -> dict[str, Any]:
        """Return these settings as arguments of `mace.foundation.foundation_calculator`.

        Args:
            directory: The run directory, where the name of a local file may begin.
        """
        local = directory / self.mace_model
        return {
            "model": str(local) if local.is_file() else self.mace_model,
            "dispersion": self.dispersion,
            "dispersion_xc": self.dispersion_xc,
            "dispersion_cutoff": self.dispersion_cutoff,
            "damping": self.damping,
        }


class MaceMpReference(FoundationalModel):
    """REFERENCE with `engine: mace-mp`: a teacher that is one of MACE's foundation models.

    MACE fetches a model that it knows by name from the internet, once.
    """

    engine: Literal["mace-mp"] = Field(description="The engine.")
    device: Device = Field("cpu", description="Where it runs.")
    default_dtype: Literal["float32", "float64"] = Field("float64", description="Number format.")


class AseReference(Section):
    """REFERENCE with `engine: ase`: any ASE calculator that Python can import."""

    engine: Literal["ase"] = Field(description="The engine.")
    calculator: str = Field(
        description="Import path of the calculator's class, or of a function that returns one.",
        pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$",
        json_schema_extra={"allowed": "an import path, such as ase.calculators.emt.EMT"},
    )
    arguments: dict[str, Any] = Field(
        default_factory=dict,
        description="Its keyword arguments. Names of files and folders begin in the run directory; "
        "a file's content is part of every label's key, also of one that is named beside its "
        "folder, and a `command` is not. An argument that is an object is written "
        "`{import: its.path, arguments: {…}}`.",
        json_schema_extra={"allowed": "a section with the calculator's keyword arguments"},
    )
    calc_dir: Place = Field(
        Path("./calc"),
        description="Folder of the calculations, each in one of its own, if the calculator runs a "
        "program; in a relative one the run directory is where it begins. The original's place is "
        "CLUSTER.",
    )
    clean_dirs: bool = Field(
        True,
        description="Remove the folders of good calculations; those of failed ones stay. The "
        "original's place is CLUSTER.",
    )
    version: str = Field(
        "",
        description="Part of every label's key: change it when the method has changed, or the "
        "program behind the calculator.",
    )


class AimsReference(Section):
    """REFERENCE with `engine: aims`: FHI-aims, run by the user's own launch line.

    The original has some of these keys in other sections, where they may stay; a file without a
    section REFERENCE is read as one for FHI-aims.
    """

    engine: Literal["aims"] = Field(description="The engine.")
    species_dir: ExistingFolder = Field(
        description="Folder of species defaults, with files such as `14_Si_default`. The "
        "original's places are INITIAL_DATASET_GENERATION and ACTIVE_LEARNING.",
    )
    launch_str: Annotated[str, AfterValidator(_a_line)] = Field(
        description="The shell line that runs FHI-aims, as it is: "
        "`srun path/to/aims.x >> aims.out`. The original's place is CLUSTER.",
        json_schema_extra={"allowed": "a shell line, such as: srun path/to/aims.x >> aims.out"},
    )
    control: ExistingControls = Field(
        Path("./control.in"),
        description="The settings of FHI-aims, without species: a file, or files by index of the "
        "geometry. The original's place is `MISC.path_to_control`.",
        json_schema_extra={"allowed": "a file, or files by index: {0: control.in, 1: bulk.in}"},
    )
    calc_dir: Place = Field(
        Path("./calc"),
        description="Folder of the calculations, each in one of its own; in a relative one the "
        "run directory is where it begins. The original's place is CLUSTER.",
    )
    clean_dirs: bool = Field(
        True,
        description="Remove the folders of good calculations; those of failed ones stay. The "
        "original's place is CLUSTER.",
    )
    timeout: Positive = Field(
        86400.0, description="Seconds after which a calculation is ended and tried elsewhere."
    )
    energy: Literal["free", "total"] = Field(
        "free",
        description="Which energy is learnt: the electronic free energy, which the forces belong "
        "to and which ASE reads, or the total energy (that of zero broadening for metals). They "
        "differ only where states are partly occupied.",
    )
    compute_stress: bool = Field(
        False,
        description="Compute the stress of periodic structures; it is computed in any case if the "
        "models train on it.",
    )
    version: str = Field(
        "",
        description="Part of every label's key: write the version of FHI-aims, and change it when "
        "the executable changes.",
    )

    def of_geometry(self, index: int) -> AimsReference:
        """Return these settings with the one control file that holds for a geometry."""
        if not isinstance(self.control, dict):
            return self
        return self.model_copy(update={"control": self.control[index]})


EngineSettings = Annotated[
    TbliteReference
    | MaceReference
    | MaceMpReference
    | AseReference
    | AimsReference
    | PyscfReference,
    Field(discriminator="engine"),
]


class Gate(Section):
    """GATE: what may reach an engine or a dataset; all else is kept aside and told."""

    min_distance: Fraction = Field(
        0.5, description="Nearest distance allowed, as a fraction of the covalent radii's sum."
    )
    max_force: Positive = Field(
        50.0, description="Largest force on an atom allowed (eV/Å): of a label, and in any MD."
    )
    max_energy_deviation: Positive = Field(
        5.0,
        description="Largest deviation of a label's energy (eV/atom) from the median of the "
        "labels of the same composition, once there are three.",
    )


class Teacher(Section):
    """`teacher_reference_settings`: the second generation's way to write REFERENCE.

    With `use_teacher_reference: True` in either phase it is read as `REFERENCE: {engine: mace, …}`
    or `{engine: mace-mp, …}` for both; beside a section REFERENCE it is a mistake.
    """

    model_type: Annotated[Literal["mace", "mace-mp"], AnyCase()] = Field(
        "mace", description="Kind of teacher: a model file, or one of MACE's foundation models."
    )
    model_path: ExistingFile | None = Field(
        None, description="The teacher's `.model` file (`model_type: mace`)."
    )
    mace_model: FoundationName = Field(
        "small", description="Size, name or file of the foundation model (`model_type: mace-mp`)."
    )

    @field_validator("model_path")
    @classmethod
    def _file_named(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if path is None and info.data.get("model_type") == "mace":
            raise PydanticCustomError(
                "plain", "missing; `model_type: mace` needs it, the teacher's `.model` file"
            )
        return path
