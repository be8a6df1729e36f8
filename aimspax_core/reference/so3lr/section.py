"""REFERENCE with `engine: so3lr`: its keys."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from aimspax_core.settings.engines import EngineSection, So3lrFoundation
from aimspax_core.settings.values import Count, Device, Whole


class So3lrReference(So3lrFoundation, EngineSection):
    """REFERENCE with `engine: so3lr`: a teacher, the foundation model SO3LR for molecules.

    It needs `pip install 'aimspax[so3lr]'`, which brings its weights.
    """

    is_network: ClassVar[bool] = True
    free: ClassVar[tuple[str, ...]] = ("device",)

    engine: Literal["so3lr"] = Field(description="The engine.")
    charge: Whole = Field(0, description="Total charge (e).")
    spin: Count = Field(1, description="Spin multiplicity, 2S+1.")
    device: Device = Field("cpu", description="Where it runs.")
    default_dtype: Literal["float32", "float64"] = Field("float64", description="Number format.")

    @property
    def cites(self) -> tuple[str, ...]:
        """The model."""
        return ("kabylda2025",)

    @property
    def method_text(self) -> str:
        """See `EngineSection.method_text`."""
        return "" if self.model_path is None else str(self.model_path)
