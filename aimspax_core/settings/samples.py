"""Settings of where the samples of either phase come from, beside MD from the geometries."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from aimspax_core.settings.series import PositiveSeries, entry
from aimspax_core.settings.values import Number, Section, by_index

_BY_INDEX = "or one for each geometry by its index"


class Rattle(Section):
    """`rattle`: copies of a geometry with displaced atoms and, of cells, strained.

    One section for all geometries, or a whole one for each: `rattle: {0: {…}, 1: {…}}`.
    """

    displacement: PositiveSeries = Field(
        0.1,
        description="Standard deviation of each coordinate that is free (Å). Of several, copy k "
        "of a geometry takes entry k, again from the first behind the last.",
    )
    strain: Number = Field(
        0.02,
        ge=0,
        le=0.2,
        description="Standard deviation of each component of the strain of cells that are periodic "
        "in three directions and hold no atom.",
    )

    def displacement_of(self, number: int) -> float:
        """Return the standard deviation (Å) of a copy, counted from 0."""
        found = entry(self.displacement, number)
        assert found is not None
        return found


def _one_or_many(value: Any) -> str:
    many = isinstance(value, dict) and (
        by_index(value) or (bool(value) and all(isinstance(v, Rattle) for v in value.values()))
    )
    return "Rattles" if many else "Rattle"


Rattles = Annotated[
    Annotated[Rattle, Tag("Rattle")] | Annotated[dict[int, Rattle], Tag("Rattles")],
    Discriminator(_one_or_many),
]
"""One section for all geometries, or one for each, by index."""


class Samples(Section):
    """The keys of both phases that say where samples come from."""

    rattle: Rattles | None = Field(
        None,
        description="How copies of the geometries are rattled: those that `initial_sampling: "
        "rattle` labels (not given: by the defaults), and in ACTIVE_LEARNING those that "
        "trajectories begin with, each with its own (not given: all begin with the geometry).",
        json_schema_extra={"allowed": f"a section, {_BY_INDEX}"},
    )

    def rattle_of(self, geometry: int) -> Rattle | None:
        """Return how copies of a geometry are rattled; None: nothing is said."""
        return self.rattle.get(geometry) if isinstance(self.rattle, dict) else self.rattle
