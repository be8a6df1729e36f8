"""The measures of a committee's uncertainty of a structure, and the table of all.

A measure is a function and one row of `MEASURES`; docs/extending/uncertainty-measure.md adds one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from ase import Atoms

from aimspax_core.prediction import Prediction
from aimspax_core.uncertainty.force_spread import ensemble_sd, max_atomic_sd, mean_atomic_sd


@dataclass(frozen=True)
class Measure:
    """A measure of how much a committee of M members disagrees on a structure of N atoms.

    Attributes:
        name: The value of `ACTIVE_LEARNING.uncertainty_type`.
        function: Returns the uncertainty, in `unit`: at least 0, the larger the less sure, 0 for a
            committee of one, and not finite where the prediction that it looks at is not. Its
            arguments are the prediction and the structure, which has no calculator. It must not
            depend on the order of members, nor on that of atoms of one kind.
        unit: Its unit in eV and Å, such as `eV/Å`.
        text: What it is, for the reference of settings.
    """

    name: str
    function: Callable[[Prediction, Atoms], float]
    unit: str
    text: str

    @property
    def plain_unit(self) -> str:
        """A thousandth of its unit as it stands in names of JSON keys, such as `meV_per_A`."""
        return "m" + self.unit.replace("/", "_per_").replace("Å", "A").replace("³", "3")


MEASURES: tuple[Measure, ...] = (
    Measure(
        "max_atomic_sd", max_atomic_sd, "eV/Å", "largest standard deviation of the force on an atom"
    ),
    Measure(
        "mean_atomic_sd", mean_atomic_sd, "eV/Å", "mean standard deviation of the force on an atom"
    ),
    Measure("ensemble_sd", ensemble_sd, "eV/Å", "standard deviation of all forces"),
)
"""All measures; the first is the default."""

if TYPE_CHECKING:
    UncertaintyType: TypeAlias = str
else:
    UncertaintyType = Literal[tuple(measure.name for measure in MEASURES)]


def measure_of(name: UncertaintyType) -> Measure:
    """Return the measure of a name.

    Raises:
        ValueError: There is none.
    """
    for one in MEASURES:
        if one.name == name:
            return one
    raise ValueError(f"unknown uncertainty type {name!r}")


def measures_text() -> str:
    """Return what the measures are, in one line."""
    return "; ".join(f"`{one.name}`, {one.text} ({one.unit})" for one in MEASURES)
