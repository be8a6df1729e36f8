"""The section MD: ensembles, thermostats and barostats, for all geometries or for each by index."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Discriminator, Tag, ValidationInfo, create_model, field_validator

from aimspax_core.settings.ensembles import CHOSEN_BY, ENSEMBLES, Ensemble, MDKeys, Row, find
from aimspax_core.settings.reading.mistakes import conflict
from aimspax_core.settings.values import by_index

_CHOOSING = ("stat_ensemble", *CHOSEN_BY.values())


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


OWNERS = _own_keys()
"""Whom each key of MD means something to; keys that are not here mean something to all."""

if TYPE_CHECKING:
    _Keys = MDKeys
else:
    _Keys = create_model("_Keys", __base__=MDKeys, __module__=__name__, **_fields())


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
            wrong = row.ensemble.mistake(info.field_name, value)
            if wrong is not None:
                raise conflict(wrong)
        return value

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
