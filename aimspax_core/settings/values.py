"""Value types that the settings share, and the errors that their checks raise.

A check of ours raises `PydanticCustomError` of one of three kinds, which `mistakes.explain` knows:
`wrong` (what was found is put before the text), `plain` (the text says all), `section` (the text
is about the whole section). What pydantic's schema cannot say of a type in a chemist's words is
said in the schema's extra key `allowed`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError

_INFINITIES = {"inf", "np.inf", ".inf", "numpy.inf", "math.inf", "infinity"}


class Section(BaseModel):
    """A section of a settings file: unknown keys are mistakes, values do not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def _no_truth_value(value: Any) -> Any:
    """Refuse `True` where a number belongs, which Python would read as 1."""
    if isinstance(value, bool):
        raise PydanticCustomError("type", "not a truth value")
    return value


def lower(value: Any) -> Any:
    """Make the case of a text not matter."""
    return value.lower() if isinstance(value, str) else value


def _infinity(value: Any) -> Any:
    """Read the spellings of infinity that the original's files use."""
    if isinstance(value, str) and value.strip().lower().removeprefix("+") in _INFINITIES:
        return math.inf
    return value


def _whole(value: float) -> float:
    if value < math.inf and value != int(value):
        raise PydanticCustomError("type", "not a whole number")
    return value


def _expanded(path: Path) -> Path:
    return path.expanduser()


def _there(path: Path, info: ValidationInfo) -> Path:
    if info.context and not (info.context["directory"] / path).exists():
        raise PydanticCustomError("wrong", f"no such file or folder in {info.context['directory']}")
    return path


def _file_there(path: Path, info: ValidationInfo) -> Path:
    if info.context and not (info.context["directory"] / path).is_file():
        raise PydanticCustomError("wrong", f"no such file in {info.context['directory']}")
    return path


_NUMBER = BeforeValidator(_no_truth_value)
Number = Annotated[float, _NUMBER]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), _NUMBER]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), _NUMBER]
Fraction = Annotated[float, Field(ge=0, lt=1), _NUMBER]
Whole = Annotated[int, _NUMBER]
Count = Annotated[int, Field(ge=1), _NUMBER]
Natural = Annotated[int, Field(ge=0), _NUMBER]

Limit = Annotated[
    float,
    Field(ge=1, json_schema_extra={"allowed": "a whole number of at least 1, or inf"}),
    BeforeValidator(_infinity),
    AfterValidator(_whole),
    _NUMBER,
]
"""A whole number, or infinity: `inf`, `np.inf`, `.inf`."""

Device = Annotated[
    str,
    Field(
        pattern=r"^(cpu|cuda(:\d+)?)$", json_schema_extra={"allowed": "cpu, cuda or cuda:<number>"}
    ),
]

Place = Annotated[Path, AfterValidator(_expanded)]
"""A file or folder; relative to the run directory."""
ExistingPlace = Annotated[Place, AfterValidator(_there)]
"""A file or folder that must be there when settings are loaded."""
ExistingFile = Annotated[Place, AfterValidator(_file_there)]
"""A file that must be there when settings are loaded."""
