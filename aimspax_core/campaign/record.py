"""The base of everything that a campaign writes down."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """An immutable value that becomes JSON and comes back equal."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    def but(self, **changes: Any) -> Self:
        """Return a copy with some fields replaced.

        Values are checked by their class, not element by element: a state holds thousands of
        points, and every event makes several copies of it.

        Raises:
            TypeError: There is no such field, or the value is of a class that it cannot have.
        """
        allowed = _classes_of_fields(type(self))
        for name, value in changes.items():
            if name not in allowed or not isinstance(value, allowed[name]):
                raise TypeError(_what_is_wrong(type(self), name, value))
        return self.model_copy(update=changes)


@cache
def _classes_of_fields(record: type[Record]) -> dict[str, tuple[type, ...]]:
    """Return the classes that a value of each field may be of."""
    fields = record.model_fields.items()
    return {name: tuple(set(_classes(field.annotation))) for name, field in fields}


def _classes(annotation: Any) -> list[type]:
    """Return the classes that a type allows: `tuple` for `tuple[str, ...]`, both of a union's."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _classes(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [found for part in get_args(annotation) for found in _classes(part)]
    if origin is Literal:
        return [type(value) for value in get_args(annotation)]
    if annotation is float:
        return [float, int]
    return [origin or annotation]


def _what_is_wrong(record: type[Record], name: str, value: object) -> str:
    allowed = _classes_of_fields(record)
    if name not in allowed:
        near = get_close_matches(name, allowed, n=1)
        return f"{record.__name__} has no field {name!r}" + (f"; {near[0]!r}?" if near else "")
    kinds = " or ".join(sorted(kind.__name__ for kind in allowed[name]))
    return f"{record.__name__}.{name} cannot be {value!r}; allowed: {kinds}"
