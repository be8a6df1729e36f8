"""Value types that the settings share, and the errors that their checks raise.

A check of ours raises one of the errors that `reading.mistakes` makes (`wrong_value`, `missing`,
`conflict`, `mistaken`), or `PydanticCustomError("type", ...)` where the type itself says what is
allowed. What pydantic's schema cannot say of a type in a chemist's words is said in the schema's
extra key `allowed`; `infinity` marks numbers that may be infinite.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError, core_schema

from aimspax_core.settings.reading.mistakes import Mistake, MistakeKind, mistaken, wrong_value

INFINITIES = {"inf", "np.inf", ".inf", "numpy.inf", "math.inf", "infinity"}


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


@dataclass(frozen=True)
class AnyCase:
    """Marks a choice of texts whose case does not matter; `schema` tells editors so.

    Attributes:
        fold: Brings what was found into our spelling.
        also: What it reads besides the choices themselves.
    """

    fold: Callable[[Any], Any] = lower
    also: tuple[str | None, ...] = ()

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_wrap_validator_function(self._read, handler(source))

    def _read(self, value: Any, choose: core_schema.ValidatorFunctionWrapHandler) -> Any:
        try:
            return choose(self.fold(value))
        except ValidationError:
            return choose(value)  # what is wrong is told as it was written

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), "any_case": list(self.also)}


def _infinity(value: Any) -> Any:
    """Read the spellings of infinity that the original's files use."""
    if isinstance(value, str) and value.strip().lower().removeprefix("+") in INFINITIES:
        return math.inf
    return value


def _whole(value: float) -> float:
    if value < math.inf and value != int(value):
        raise PydanticCustomError("type", "not a whole number")
    return value


def _expanded(path: Path) -> Path:
    return path.expanduser()


def _not_there(what: str, info: ValidationInfo, found: str = "") -> PydanticCustomError:
    assert info.context is not None
    why = f"no such {what} in {info.context['directory']}"
    return mistaken(Mistake(MistakeKind.NOT_THERE, found, why))


def _there(path: Path, info: ValidationInfo) -> Path:
    if info.context and not (info.context["directory"] / path).exists():
        raise _not_there("file or folder", info)
    return path


def _file_there(path: Path, info: ValidationInfo) -> Path:
    if info.context and not (info.context["directory"] / path).is_file():
        raise _not_there("file", info)
    return path


def _folder_there(path: Path, info: ValidationInfo) -> Path:
    if info.context and not (info.context["directory"] / path).is_dir():
        raise _not_there("folder", info)
    return path


def begins_file_name(text: str) -> bool:
    """Tell whether a text can begin a file's name: not empty, no folder, nothing hidden."""
    return bool(text.strip()) and "/" not in text and not text.startswith(".")


def _tags(value: dict[str, Any]) -> dict[str, Any]:
    """Refuse members' tags that would lead out of the folders that are named after them."""
    for tag in value:
        if not begins_file_name(tag):
            raise wrong_value(TAG, found=f"'{tag}' for a member's tag")
    return value


TAG = "a text that can begin a file's name, without `/` and not with a dot"


def is_index(key: Any) -> bool:
    """Tell whether a key is the index of a geometry, as a number or in quotes."""
    return type(key) is int or (isinstance(key, str) and key.isdecimal())


def _each_there(paths: dict[Any, Path], info: ValidationInfo) -> dict[Any, Path]:
    found = {key: _expanded(path) for key, path in paths.items()}
    for key, path in found.items():
        if info.context and not (info.context["directory"] / path).is_file():
            raise _not_there("file", info, f"'{path}' for {key}")
    return found


def by_index(value: Any) -> bool:
    """Tell whether something is a dictionary by geometry index, which the second generation has."""
    return isinstance(value, dict) and bool(value) and all(is_index(key) for key in value)


def _places(value: Any) -> Any:
    """Read one path, or files by index."""
    if isinstance(value, str | Path):
        return value
    if by_index(value) and all(isinstance(place, str | Path) for place in value.values()):
        if sorted(int(key) for key in value) == list(range(len(value))):
            return {int(key): place for key, place in value.items()}
        raise wrong_value(f"every index from 0 to {len(value) - 1}, each once")
    raise wrong_value("a path, or files by index: {0: a.xyz, 1: b.xyz}")


def _all_there(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, dict):
        return _there(_expanded(value), info)
    return _each_there(value, info)


def _files_there(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, dict):
        return _file_there(_expanded(value), info)
    return _each_there(value, info)


def _sets(value: Any) -> Any:
    """Read one path, or a path by tag."""
    named = isinstance(value, dict) and value
    if isinstance(value, str | Path) or (
        named and all(isinstance(path, str | Path) for path in value.values())
    ):
        return value if not named else _tags({str(tag): path for tag, path in value.items()})
    raise wrong_value("a path, or one for each member's tag")


def _mask(value: Any) -> Any:
    """Three numbers 0 or 1, or a symmetric 3 x 3 of them."""
    rows = list(value) if isinstance(value, list | tuple) else []

    def bits(row: Any) -> bool:
        return isinstance(row, list | tuple) and len(row) == 3 and all(b in (0, 1) for b in row)

    if bits(rows):
        return tuple(int(bit) for bit in rows)
    if len(rows) == 3 and all(bits(row) for row in rows):
        square = tuple(tuple(int(bit) for bit in row) for row in rows)
        if square == tuple(zip(*square, strict=True)):
            return square
    raise wrong_value("three numbers 0 or 1, or a symmetric 3 x 3 of them")


_NUMBER = BeforeValidator(_no_truth_value)
Number = Annotated[float, _NUMBER]
Finite = Annotated[float, Field(allow_inf_nan=False), _NUMBER]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), _NUMBER]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), _NUMBER]
Fraction = Annotated[float, Field(ge=0, lt=1), _NUMBER]
Whole = Annotated[int, _NUMBER]
Count = Annotated[int, Field(ge=1), _NUMBER]
Natural = Annotated[int, Field(ge=0), _NUMBER]

Limit = Annotated[
    float,
    Field(
        ge=1,
        json_schema_extra={"allowed": "a whole number of at least 1, or inf", "infinity": True},
    ),
    BeforeValidator(_infinity),
    AfterValidator(_whole),
    _NUMBER,
]
"""A whole number, or infinity: `inf`, `np.inf`, `.inf`."""

Amount = Annotated[
    float,
    Field(gt=0, json_schema_extra={"allowed": "a number above 0, or inf", "infinity": True}),
    BeforeValidator(_infinity),
    _NUMBER,
]
"""A number, or infinity."""

Device = Annotated[
    str,
    Field(
        pattern=r"^(cpu|cuda(:\d+)?)$", json_schema_extra={"allowed": "cpu, cuda or cuda:<number>"}
    ),
]

Place = Annotated[Path, AfterValidator(_expanded)]
"""A file or folder; relative to the run directory."""
ExistingPlaces = Annotated[
    Path | dict[int, Path], BeforeValidator(_places), AfterValidator(_all_there)
]
"""A file or folder, or files by index, that must be there when settings are loaded."""
ExistingControls = Annotated[
    Path | dict[int, Path], BeforeValidator(_places), AfterValidator(_files_there)
]
"""A file, or files by index, that must be there when settings are loaded."""
ExistingSets = Annotated[
    Path | dict[str, Path], BeforeValidator(_sets), AfterValidator(_files_there)
]
"""A file, or files by a member's tag, that must be there when settings are loaded."""
ExistingFile = Annotated[Place, AfterValidator(_file_there)]
"""A file that must be there when settings are loaded."""
ExistingFolder = Annotated[Place, AfterValidator(_folder_there)]
"""A folder that must be there when settings are loaded."""

ByTag = AfterValidator(_tags)
"""Marks a dictionary by members' tags, which become names of files and folders."""

Mask = Annotated[
    tuple[int, int, int] | tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]],
    BeforeValidator(_mask),
]
"""Which directions of a cell may change."""

DataKey = Annotated[str, Field(min_length=1, pattern=r"^[^\s=\"]+$")]
"""A name in an extended-XYZ file."""
