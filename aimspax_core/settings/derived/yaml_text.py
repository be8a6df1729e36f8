"""Values as a settings file shows them: short collections in one line, `inf` as YAML writes it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_PLAIN = re.compile(r"[A-Za-z0-9_./~][\w ./+~:-]*(?<![ :])")
_NUMBER = re.compile(r"[-+.\d][-+._\deE:]*|0[xob].*|[-+]?\.(inf|nan)", re.IGNORECASE)
_TAKEN = {"true", "false", "null", "none", "yes", "no", "on", "off", "~"}


def value(content: Any) -> str:
    """Write a value in one line; what is read back is the same."""
    match content:
        case None:
            return "null"
        case bool():
            return str(content)
        case int():
            return str(content)
        case float():
            return _number(content)
        case Mapping():
            return "{" + ", ".join(f"{value(k)}: {value(v)}" for k, v in content.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(value, content)) + "]"
    return _text(content.as_posix() if isinstance(content, Path) else str(content))


def block(content: Mapping[Any, Any], indent: str = "") -> Iterator[str]:
    """Yield the lines of sections and keys, one key a line."""
    for key, inner in content.items():
        if isinstance(inner, Mapping) and inner:
            yield f"{indent}{value(key)}:"
            yield from block(inner, f"{indent}  ")
        else:
            yield f"{indent}{value(key)}: {value(inner)}"


def _number(content: float) -> str:
    if not math.isfinite(content):
        return ".nan" if math.isnan(content) else f"{'-' if content < 0 else ''}.inf"
    mantissa, e, exponent = repr(content).partition("e")
    # YAML 1.1 takes `5e-07` for a text: a number has a point.
    return f"{mantissa}{'' if '.' in mantissa or not e else '.0'}{e}{exponent}"


def _text(content: str) -> str:
    plain = _PLAIN.fullmatch(content) and ": " not in content and not _NUMBER.fullmatch(content)
    if (plain and content.lower() not in _TAKEN) or content == ".":
        return content
    return json.dumps(content, ensure_ascii=False)
