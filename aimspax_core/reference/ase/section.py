"""REFERENCE with `engine: ase`: its keys."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from aimspax_core.settings.engines import ProgramSection


class AseReference(ProgramSection):
    """REFERENCE with `engine: ase`: any ASE calculator that Python can import."""

    free: ClassVar[tuple[str, ...]] = (
        *("calc_dir", "clean_dirs"),
        *("arguments.command", "arguments.*.command"),
    )
    heeds_spin: ClassVar[bool | None] = None

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
    version: str = Field(
        "",
        description="Part of every label's key: change it when the method has changed, or the "
        "program behind the calculator.",
    )

    @classmethod
    def example(cls, charge: int, spin: int, periodic: bool) -> dict[str, Any]:
        """See `EngineSection.example`."""
        return {"engine": "ase", "calculator": "ase.calculators.emt.EMT"}

    @property
    def method_text(self) -> str:
        """See `EngineSection.method_text`."""
        return self.calculator

    @property
    def atoms_in_cell(self) -> bool | None:
        """See `EngineSection.atoms_in_cell`; only the calculator knows."""
        return None
