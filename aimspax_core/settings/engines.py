"""The engines of the settings: reference methods, foundation models, teachers, and the gate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from aimspax_core.settings.values import (
    AnyCase,
    Count,
    Device,
    ExistingFile,
    Fraction,
    NonNegative,
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
        """Return the arguments of `model.mace.foundation_calculator` that these settings are.

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
        description="Its keyword arguments. The name of a file is given from the run directory; "
        "the file's content is part of every label's key.",
        json_schema_extra={"allowed": "a section with the calculator's keyword arguments"},
    )
    version: str = Field(
        "", description="Part of every label's key: change it when the method has changed."
    )


EngineSettings = Annotated[
    TbliteReference | MaceReference | MaceMpReference | AseReference, Field(discriminator="engine")
]


class Gate(Section):
    """GATE: what may reach an engine or a dataset; all else is discarded and told."""

    min_distance: Fraction = Field(
        0.5, description="Nearest distance allowed, as a fraction of the covalent radii's sum."
    )
    max_force: Positive = Field(
        50.0, description="Largest force on an atom allowed (eV/Å): of a label, and in any MD."
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
