"""REFERENCE with `engine: tblite`: its keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from aimspax_core.settings.engines import EngineSection
from aimspax_core.settings.usual import Usual
from aimspax_core.settings.values import Count, NonNegative, Positive, Whole


class TbliteReference(EngineSection):
    """REFERENCE with `engine: tblite`: extended tight binding; needs no further installation."""

    free: ClassVar[tuple[str, ...]] = ("max_iterations",)
    cell_hint: ClassVar[str] = "tblite computes the Γ point alone: give it a supercell."
    usual: ClassVar[Mapping[str, Usual]] = {
        "accuracy": Usual(1e-4, 100, "", "usual are 0.01 to 1"),
        "electronic_temperature": Usual(10, 2e4, " K", "usual is 300 K (0.0259 eV)"),
    }

    engine: Literal["tblite"] = Field(description="The engine.")
    method: Literal["GFN2-xTB", "GFN1-xTB"] = Field("GFN2-xTB", description="Parametrisation.")
    charge: Whole = Field(0, description="Total charge (e).")
    spin: Count = Field(1, description="Spin multiplicity, 2S+1.")
    accuracy: Positive = Field(
        1.0, description="Tightness of the SCF convergence; smaller is tighter."
    )
    max_iterations: Count = Field(250, description="SCF cycles before it counts as failed.")
    electronic_temperature: NonNegative = Field(300.0, description="Electronic temperature (K).")

    @classmethod
    def example(cls, charge: int, spin: int, periodic: bool) -> dict[str, Any]:
        """See `EngineSection.example`."""
        return {"engine": "tblite", "method": "GFN2-xTB", "charge": charge, "spin": spin}

    @property
    def cites(self) -> tuple[str, ...]:
        """The method and the program."""
        return ("bannwarth2019" if self.method == "GFN2-xTB" else "grimme2017", "tblite")

    @property
    def method_text(self) -> str:
        """See `EngineSection.method_text`."""
        return self.method
