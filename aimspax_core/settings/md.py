"""The section MD: ensembles, thermostats and barostats, for all geometries or for each by index."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from ase import units
from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from aimspax_core.settings.values import (
    AnyCase,
    Count,
    Finite,
    Mask,
    Natural,
    Positive,
    Section,
    by_index,
)


class MD(Section):
    """MD: the dynamics of all trajectories, of sampling and exploration alike.

    One section for all geometries, or a whole one for each by its index, `MD: {0: {…}, 1: {…}}`;
    geometries count from 0 in the order of `path_to_geometry`.
    """

    stat_ensemble: Annotated[Literal["nvt", "npt", "nve"], AnyCase()] = Field(
        description="Statistical ensemble."
    )
    thermostat: Annotated[Literal["langevin"], AnyCase()] = Field(
        "langevin", description="Thermostat of NVT."
    )
    barostat: Annotated[Literal["berendsen", "npt", "mtk", "isomtk"], AnyCase()] = Field(
        "berendsen",
        description="Barostat (and thermostat) of NPT: Berendsen; Nosé-Hoover and "
        "Parrinello-Rahman (`npt`); Martyna-Tobias-Klein with a flexible (`mtk`) or an "
        "isotropic cell (`isomtk`).",
    )
    temperature: Positive = Field(300.0, description="Temperature (K).")
    timestep: Positive = Field(0.5, description="Time step (fs).")
    friction: Positive = Field(0.001, description="Langevin friction (1/fs).")
    fixcm: bool = Field(True, description="Hold the centre of mass (Langevin, Berendsen).")
    pressure: Finite | None = Field(
        None,
        description="Pressure (Pa) for any barostat. Not given: `berendsen` has `pressure_au`, "
        "`npt` `external_stress`, `mtk` and `isomtk` 101325 Pa.",
    )
    pressure_au: Finite = Field(3.4e-7, description="Pressure of `berendsen` (eV/Å³).")
    taut: Positive = Field(500.0, description="Temperature coupling of `berendsen` (fs).")
    taup: Positive = Field(1000.0, description="Pressure coupling of `berendsen` (fs).")
    compressibility_au: Positive = Field(
        round(4.57e-5 / (1e5 * units.Pascal), 3),
        description="Compressibility for `berendsen` (Å³/eV); that of water if not given.",
    )
    external_stress: Finite = Field(6.24e-7, description="Pressure of `npt` (eV/Å³).")
    ttime: Positive | None = Field(
        30.0, description="Time of the thermostat of `npt` (fs); none: no thermostat."
    )
    pfactor: Positive | None = Field(
        100.0,
        description="Barostat constant of `npt`, multiplied by ASE's fs as in the original; "
        "none: a rigid cell.",
    )
    tdamp: Positive = Field(50.0, description="Time of the thermostat of `mtk`, `isomtk` (fs).")
    pdamp: Positive = Field(500.0, description="Time of the barostat of `mtk`, `isomtk` (fs).")
    tchain: Count = Field(3, description="Length of the thermostat chain of `mtk`, `isomtk`.")
    pchain: Count = Field(3, description="Length of the barostat chain of `mtk`, `isomtk`.")
    tloop: Count = Field(1, description="Sub-steps of the thermostat of `mtk`, `isomtk`.")
    ploop: Count = Field(1, description="Sub-steps of the barostat of `mtk`, `isomtk`.")
    mask: Mask | None = Field(
        None,
        description="Along which of x, y and z the cell may change (0 or 1 each). `berendsen` and "
        "`mtk` need a cell along the axes; `npt` turns it so that c is along z, and also takes "
        "3 x 3.",
        json_schema_extra={"allowed": "three numbers 0 or 1, or a symmetric 3 x 3 of them"},
    )
    MD_seed: Natural = Field(42, description="Seeds noise and velocities of every trajectory.")

    @field_validator("mask")
    @classmethod
    def _mask_fits(cls, mask: Any, info: ValidationInfo) -> Any:
        barostat = info.data.get("barostat")
        if mask is not None and info.data.get("stat_ensemble") == "npt":
            if barostat == "isomtk":
                raise PydanticCustomError(
                    "plain", "`isomtk` scales the whole cell; allowed: nothing"
                )
            if barostat != "npt" and not isinstance(mask[0], int):
                raise PydanticCustomError(
                    "plain", f"`{barostat}` takes three numbers, 0 or 1; 3 x 3 only `npt` does"
                )
        return mask

    @property
    def idle(self) -> list[str]:
        """The keys that were given but mean nothing to the ensemble chosen."""
        kind = self.barostat if self.stat_ensemble == "npt" else self.stat_ensemble
        return sorted(
            key
            for key in self.model_fields_set
            if kind not in _ENSEMBLES.get(key, ()) and key in _ENSEMBLES
        )


_ALL_NPT = ("berendsen", "npt", "mtk", "isomtk")
_ENSEMBLES: dict[str, tuple[str, ...]] = {
    "thermostat": ("nvt",),
    "friction": ("nvt",),
    "fixcm": ("nvt", "berendsen"),
    "barostat": _ALL_NPT,
    "pressure": _ALL_NPT,
    **dict.fromkeys(("pressure_au", "taut", "taup", "compressibility_au"), ("berendsen",)),
    **dict.fromkeys(("external_stress", "ttime", "pfactor"), ("npt",)),
    **dict.fromkeys(("tdamp", "pdamp", "tchain", "pchain", "tloop", "ploop"), ("mtk", "isomtk")),
    "mask": ("berendsen", "npt", "mtk"),
}
"""Whom each key of MD means something to; the others mean something to all."""


def _one_or_many(value: Any) -> str:
    many = isinstance(value, dict) and (
        by_index(value) or all(isinstance(v, MD) for v in value.values())
    )
    return "MDs" if many else "MD"


MDs = Annotated[
    Annotated[MD, Tag("MD")] | Annotated[dict[int, MD], Tag("MDs")], Discriminator(_one_or_many)
]
"""The section MD: one for all geometries, or one for each, by index."""
