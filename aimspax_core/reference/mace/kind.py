"""REFERENCE with `engine: mace` or `engine: mace-mp`: teachers, MACE models in place of DFT."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from aimspax_core.devices import missing_gpu
from aimspax_core.reference.interface import Finding, Kind, Reference, Use
from aimspax_core.settings.engines import EngineSection, FoundationalModel
from aimspax_core.settings.values import Device, ExistingFile
from aimspax_core.versions import version_of


class MaceReference(EngineSection):
    """REFERENCE with `engine: mace`: a teacher, a MACE model file that stands in for DFT."""

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
    def method_text(self) -> str:
        """See `EngineSection.method_text`."""
        return str(self.model_path)


class MaceMpReference(FoundationalModel, EngineSection):
    """REFERENCE with `engine: mace-mp`: a teacher that is one of MACE's foundation models.

    MACE fetches a model that it knows by name from the internet, once.
    """

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
    def method_text(self) -> str:
        """See `EngineSection.method_text`."""
        dispersion = " with D3 dispersion" if self.dispersion else ""
        return f"{self.mace_model}{dispersion}"


def _check(section: MaceReference | MaceMpReference, use: Use) -> Iterator[Finding]:
    """A GPU that is asked for must be there; jobs of a cluster have theirs."""
    missing = missing_gpu(section.device) if use.here else None
    if missing is not None:
        yield Finding("device", missing)


def _frozen(
    section: MaceReference | MaceMpReference, directory: Path, elements: frozenset[str]
) -> Mapping[str, Any]:
    """Keys and the file's content say all else; to make the engine would import torch."""
    packages = {"version": "mace-torch"}
    if isinstance(section, MaceMpReference) and section.dispersion:
        packages["dispersion_version"] = "torch-dftd"
    return {key: version_of(name) for key, name in packages.items()}


def _make(section: MaceReference, directory: Path) -> Reference:
    from aimspax_core.reference.mace.engine import MaceTeacher

    return MaceTeacher(section, directory)


def _make_mp(section: MaceMpReference, directory: Path) -> Reference:
    from aimspax_core.reference.mace.engine import FoundationTeacher

    return FoundationTeacher(section, directory)


MACE = Kind(section=MaceReference, make=_make, check=_check, frozen=_frozen)
MACE_MP = Kind(section=MaceMpReference, make=_make_mp, check=_check, frozen=_frozen)
