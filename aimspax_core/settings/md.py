"""The section MD: ensembles, thermostats and barostats, for all geometries or for each by index.

The section may hold several temperatures and pressures; what a trajectory is integrated by has one
of each: `MD.at` chooses.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Discriminator, Field, Tag, ValidationInfo, create_model, field_validator

from aimspax_core.settings.ensembles import CHOSEN_BY, ENSEMBLES, Ensemble, MDKeys, Row, find
from aimspax_core.settings.reading.mistakes import conflict
from aimspax_core.settings.series import AnySeries, PositiveSeries, Series, entries, entry
from aimspax_core.settings.values import Finite, Positive, Section, by_index

_CHOOSING = ("stat_ensemble", *CHOSEN_BY.values())

_SEVERAL: dict[str, tuple[Any, str]] = {
    "temperature": (
        PositiveSeries,
        "Of several, trajectory k of a geometry takes entry k, and the initial phase one after "
        "another, one a sampling step, both again from the first behind the last; "
        "`{from: 300, to: 600, steps: 4}` is 300, 400, 500 and 600.",
    ),
    "pressure": (AnySeries, "Several as with `temperature`."),
}
"""The keys that may have several values: what they are read as, and what is said of that."""


def _own_keys() -> dict[str, list[Row]]:
    """The keys that not all ensembles have, and who has them."""
    owners: dict[str, list[Row]] = {}
    for row in ENSEMBLES:
        for key in row.ensemble.keys.model_fields:
            if key not in MDKeys.model_fields:
                owners.setdefault(key, []).append(row)
    return owners


def _fields() -> dict[str, Any]:
    """The fields of those keys, each with its owners' names in its description."""
    fields: dict[str, Any] = {}
    for key, (first, *others) in OWNERS.items():
        own = copy.copy(first.ensemble.keys.model_fields[key])
        names = ", ".join(f"`{row.name}`" for row in (first, *others))
        own.description = f"{own.description} For {names}."
        fields[key] = (own.annotation, own)
    return fields


def _several() -> dict[str, Any]:
    """The fields of the keys that may have several values."""
    fields: dict[str, Any] = {}
    single = MDKeys.model_fields | {key: own for key, (_, own) in _fields().items()}
    for key, (kind, more) in _SEVERAL.items():
        own = single[key]
        fields[key] = (kind, Field(own.default, description=f"{own.description} {more}"))
    return fields


OWNERS = _own_keys()
"""Whom each key of MD means something to; keys that are not here mean something to all."""

if TYPE_CHECKING:

    class _Keys(Section):
        stat_ensemble: str
        thermostat: str
        barostat: str
        temperature: Series
        pressure: Series | None
        timestep: float
        MD_seed: int

else:
    _Keys = create_model("_Keys", __base__=MDKeys, __module__=__name__, **(_fields() | _several()))


class MD(_Keys):
    """MD: the dynamics of all trajectories, of sampling and exploration alike.

    One section for all geometries, or a whole one for each by its index, `MD: {0: {…}, 1: {…}}`;
    geometries count from 0 in the order of `path_to_geometry`.
    """

    @field_validator("*")
    @classmethod
    def _suits_the_ensemble(cls, value: Any, info: ValidationInfo) -> Any:
        if info.field_name in OWNERS and info.data.keys() >= {*_CHOOSING}:
            row = find(*(info.data[key] for key in _CHOOSING))
            for one in entries(value) if info.field_name in _SEVERAL else (value,):
                wrong = row.ensemble.mistake(info.field_name, one)
                if wrong is not None:
                    raise conflict(wrong)
        return value

    def at(self, number: int) -> Dynamics:
        """Return the dynamics of a trajectory of a geometry, or of a sampling step.

        Args:
            number: Which one, from 0.
        """
        chosen = {key: entry(getattr(self, key), number) for key in _SEVERAL}
        named = set(self.model_fields_set)
        return Dynamics.model_construct(_fields_set=named, **{**dict(self), **chosen})

    @property
    def period(self) -> int:
        """How many entries of temperature and pressure there are until they are as at first."""
        return math.lcm(*(len(values) for values in self.several.values()))

    @property
    def several(self) -> dict[str, tuple[float | None, ...]]:
        """The values of keys that have more than one and mean something to the ensemble."""
        found = {key: entries(getattr(self, key)) for key in _SEVERAL if _matters(key, self.row)}
        return {key: values for key, values in found.items() if len(values) > 1}

    @property
    def row(self) -> Row:
        """The row of the ensemble chosen."""
        return find(self.stat_ensemble, self.thermostat, self.barostat)

    @property
    def ensemble(self) -> Ensemble:
        """The ensemble chosen."""
        return self.row.ensemble

    @property
    def idle(self) -> list[str]:
        """The keys that were given but mean nothing to the ensemble chosen."""
        return sorted(key for key in self.model_fields_set if not _matters(key, self.row))


class Dynamics(MD):
    """The dynamics of one trajectory: one temperature, and one pressure where there is any."""

    temperature: Positive
    pressure: Finite | None


def _matters(key: str, row: Row) -> bool:
    if key in CHOSEN_BY.values():
        return key == row.chosen_by
    return key not in OWNERS or row in OWNERS[key]


def cell_keys() -> list[str]:
    """Return the keys that mean something to ensembles with a moving cell only."""
    moving = [row for row in ENSEMBLES if row.ensemble.moves_cell]
    others = [row for row in ENSEMBLES if row not in moving]
    return [key for key in MD.model_fields if not any(_matters(key, row) for row in others)]


def _one_or_many(value: Any) -> str:
    many = isinstance(value, dict) and (
        by_index(value) or all(isinstance(v, MD) for v in value.values())
    )
    return "MDs" if many else "MD"


MDs = Annotated[
    Annotated[MD, Tag("MD")] | Annotated[dict[int, MD], Tag("MDs")], Discriminator(_one_or_many)
]
"""The section MD: one for all geometries, or one for each, by index."""
