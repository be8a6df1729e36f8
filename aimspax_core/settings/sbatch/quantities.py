"""Numbers, sizes, times and GPUs as options of sbatch have them."""

from __future__ import annotations

import re

_MB = {"K": 1 / 1024, "": 1.0, "M": 1.0, "G": 1024.0, "T": 1024.0**2}


def count(value: str | None) -> int | None:
    """Read a whole number of at least 1; None for what is none."""
    return int(value) if value and re.fullmatch(r"\d+", value, re.ASCII) and int(value) else None


def megabytes(value: str | None) -> float | None:
    """Read a size such as `64G` (MB); None for what is none."""
    found = re.fullmatch(r"(\d+)(?:([KMGT])B?)?", (value or "").upper(), re.ASCII)
    return int(found[1]) * _MB[found[2] or ""] if found else None


def is_unlimited(value: str) -> bool:
    """Tell whether a time limit says that there is none."""
    return value.upper() in ("UNLIMITED", "INFINITE", "-1") or value == "0"


def seconds(value: str | None) -> float | None:
    """Read a time limit (s); None if there is no limit, or if it cannot be read."""
    if value is None or is_unlimited(value):
        return None
    days, dash, rest = value.rpartition("-")
    parts = rest.split(":")
    if not all(re.fullmatch(r"\d+", part, re.ASCII) for part in (*parts, days or "0")):
        return None
    numbers = [float(part) for part in parts]
    if len(numbers) > 3 or (dash and not days):
        return None
    if dash:
        hours, minutes, rest_s = (*numbers, 0.0, 0.0)[:3]
    elif len(numbers) == 3:
        hours, minutes, rest_s = numbers
    else:
        hours, (minutes, rest_s) = 0.0, (*numbers, 0.0)[:2]
    return ((float(days or 0) * 24 + hours) * 60 + minutes) * 60 + rest_s


def gpus(value: str | None) -> int:
    """Return how many GPUs `2`, `a100:2` or a list of these are."""
    return sum(int(part.rpartition(":")[2]) for part in value.split(",")) if value else 0


def gpus_in_resources(value: str | None) -> int:
    """Return how many GPUs are in a list of generic resources: `gpu:a100:2,shard:1`."""
    named = re.findall(r"(?:^|,)(?:gres[/:])?gpu(?:[:=]([^,(]*))?", value or "")
    return sum(int(found) if (found := _last(part)).isdecimal() else 1 for part in named)


def _last(part: str) -> str:
    return re.split(r"[:=]", part)[-1]
