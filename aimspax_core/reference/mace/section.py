"""REFERENCE with `engine: mace` or `engine: mace-mp`: their keys."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from aimspax_core.settings.engines import FOUNDATION_MODELS, EngineSection, MaceFoundation
from aimspax_core.settings.values import Device, ExistingFile


class MaceReference(EngineSection):
    """REFERENCE with `engine: mace`: a teacher, a MACE model file that stands in for DFT."""

    is_network: ClassVar[bool] = True
    free: ClassVar[tuple[str, ...]] = ("device",)
    heeds_spin: ClassVar[bool | None] = False

    engine: Literal["mace"] = Field(description="The engine.")
    model_path: ExistingFile = Field(description="The teacher's `.model` file.")
    device: Device = Field("cpu", description="Where it runs.")
    default_dtype: Literal["float32", "float64"] = Field("float64", description="Number format.")

    @classmethod
    def example(cls, charge: int, spin: int, periodic: bool) -> dict[str, Any]:
        """See `EngineSection.example`."""
        return {"engine": "mace", "model_path": "teacher.model"}

    @property
    def cites(self) -> tuple[str, ...]:
        """The architecture of the teacher."""
        return "batatia2022", "batatia2025design"

    @property
    def method_text(self) -> str:
        """See `EngineSection.method_text`."""
        return str(self.model_path)


class MaceMpReference(MaceFoundation, EngineSection):
    """REFERENCE with `engine: mace-mp`: a teacher that is one of MACE's foundation models.

    MACE fetches a model that it knows by name from the internet, once.
    """

    is_network: ClassVar[bool] = True
    free: ClassVar[tuple[str, ...]] = ("device",)
    heeds_spin: ClassVar[bool | None] = False

    engine: Literal["mace-mp"] = Field(description="The engine.")
    device: Device = Field("cpu", description="Where it runs.")
    default_dtype: Literal["float32", "float64"] = Field("float64", description="Number format.")

    @classmethod
    def example(cls, charge: int, spin: int, periodic: bool) -> dict[str, Any]:
        """See `EngineSection.example`."""
        return {"engine": "mace-mp", "mace_model": "medium"}

    @property
    def cites(self) -> tuple[str, ...]:
        """The architecture, the model if MACE knows it by name, and its dispersion."""
        return (
            *("batatia2022", "batatia2025design"),
            *(("batatia2025foundation",) if self.mace_model in FOUNDATION_MODELS else ()),
            *(("grimme2010",) if self.dispersion else ()),
        )

    @property
    def method_text(self) -> str:
        """See `EngineSection.method_text`."""
        dispersion = " with D3 dispersion" if self.dispersion else ""
        return f"{self.mace_model}{dispersion}"
