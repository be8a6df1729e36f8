"""Settings of where the samples of either phase come from, beside MD from the geometries."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag, WithJsonSchema

from aimspax_core.settings.reading.mistakes import value_text, wrong_value
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


_SHARE = "a number from 0 to 1"
_SHARES = f"{_SHARE}, or one for each geometry by its index"


def _shares(value: Any) -> float | dict[int, float]:
    """Read one share, or one by index."""
    if by_index(value):
        return {int(key): _share(one, f" for {key}") for key, one in value.items()}
    return _share(value, "")


def _share(value: Any, where: str) -> float:
    try:
        found = -1.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        found = -1.0
    if not 0 <= found <= 1:
        raise wrong_value(_SHARES, found=f"{value_text(value)}{where}")
    return found


_SHARE_SCHEMA = {"type": "number", "minimum": 0, "maximum": 1}
Shares = Annotated[
    float | dict[int, float],
    BeforeValidator(_shares),
    WithJsonSchema(
        {
            "anyOf": [_SHARE_SCHEMA, {"type": "object", "additionalProperties": _SHARE_SCHEMA}],
            "allowed": _SHARES,
        }
    ),
]
"""A share for all geometries, or one for each, by index; those that are not named have 0."""


class Samples(Section):
    """The keys of both phases that say where samples come from."""

    rattle: Rattles | None = Field(
        None,
        description="How copies of the geometries are rattled: those that `initial_sampling: "
        "rattle` labels (not given: by the defaults), and in ACTIVE_LEARNING those that "
        "trajectories begin with, each with its own (not given: all begin with the geometry).",
        json_schema_extra={"allowed": f"a section, {_BY_INDEX}"},
    )

    restart_from_labels: Shares = Field(
        0.0,
        description="Chance by which a trajectory begins anew, with new velocities, from a "
        "labelled point of its geometry: in ACTIVE_LEARNING after each of its labels, in the "
        "initial dataset as a sampling step begins; else it goes on, as in the original.",
    )

    def restart_shares(self, geometries: int) -> tuple[float, ...]:
        """Return `restart_from_labels` of each geometry; nothing if all are 0."""
        given = self.restart_from_labels
        found = tuple(
            given.get(geometry, 0.0) if isinstance(given, dict) else given
            for geometry in range(geometries)
        )
        return found if any(found) else ()

    def rattle_of(self, geometry: int) -> Rattle | None:
        """Return how copies of a geometry are rattled; None: nothing is said."""
        return self.rattle.get(geometry) if isinstance(self.rattle, dict) else self.rattle
