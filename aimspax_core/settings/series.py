"""Settings that trajectories and sampling steps take one after another: a number, or several."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from aimspax_core.settings.reading.mistakes import value_text, wrong_value

Series = float | tuple[float, ...]
"""One number for all, or one after another, again from the first behind the last."""

MOST_STEPS = 1000
"""Most entries of `{from, to, steps}`."""

_RAMP = ("from", "to", "steps")


def entries(value: Series | None) -> tuple[float | None, ...]:
    """Return what follows each other; nothing is an entry too."""
    return value if isinstance(value, tuple) else (value,)


def entry(value: Series | None, number: int) -> float | None:
    """Return the entry of a number from 0, however many there are."""
    found = entries(value)
    return found[number % len(found)]


def read(value: Any, above_0: bool, optional: bool = False) -> Series | None:
    """Read a number, a list of them, or evenly spaced ones.

    `{from: a, to: b, steps: n}` is n numbers, a first and b last; they may fall.

    Args:
        value: As in a settings file.
        above_0: Whether each must be above 0.
        optional: Whether it may be nothing.

    Raises:
        PydanticCustomError: It is something else.
    """
    allowed = _allowed(above_0) + (", or nothing" if optional else "")
    number = partial(_number, allowed=allowed, above_0=above_0)
    if value is None and optional:
        return None
    if isinstance(value, Mapping):
        return _ramp(value, number, allowed)
    if isinstance(value, list | tuple):
        if not value:
            raise wrong_value(allowed, "an empty list")
        return tuple(number(one, f" as item {place}") for place, one in enumerate(value, 1))
    return number(value, "")


def _number(value: Any, where: str, allowed: str, above_0: bool) -> float:
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found) or (above_0 and found <= 0):
        raise wrong_value(allowed, found=f"{value_text(value)}{where}")
    return found


def _ramp(
    value: Mapping[Any, Any], number: Callable[[Any, str], float], allowed: str
) -> tuple[float, ...]:
    if set(value) != set(_RAMP):
        raise wrong_value(allowed)
    first, last = (number(value[key], f" for {key}") for key in _RAMP[:2])
    steps = value["steps"]
    if type(steps) is not int or not 2 <= steps <= MOST_STEPS:
        raise wrong_value(
            f"a whole number from 2 to {MOST_STEPS}", found=f"{value_text(steps)} for steps"
        )
    between = (first + (last - first) * place / (steps - 1) for place in range(steps - 1))
    return (*between, last)


def _allowed(above_0: bool) -> str:
    one = "a number above 0" if above_0 else "a number"
    return f"{one}, a list of them, or {{from: …, to: …, steps: …}}"


def _schema(above_0: bool, optional: bool = False) -> dict[str, Any]:
    """Return the JSON schema of what `read` reads."""
    number = {"type": "number", **({"exclusiveMinimum": 0} if above_0 else {})}
    ramp = {
        "type": "object",
        "properties": {
            "from": number,
            "to": number,
            "steps": {"type": "integer", "minimum": 2, "maximum": MOST_STEPS},
        },
        "required": list(_RAMP),
        "additionalProperties": False,
    }
    several = {"type": "array", "items": number, "minItems": 1}
    nothing = [{"type": "null"}] if optional else []
    return {"anyOf": [number, several, ramp, *nothing], "allowed": _allowed(above_0)}


PositiveSeries = Annotated[
    Series, BeforeValidator(partial(read, above_0=True)), WithJsonSchema(_schema(True))
]
"""A number above 0, or several."""

AnySeries = Annotated[
    Series | None,
    BeforeValidator(partial(read, above_0=False, optional=True)),
    WithJsonSchema(_schema(False, True)),
]
"""A number, or several; or nothing."""
