"""Mappings inside mappings, as YAML and JSON have them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def leaves(content: Mapping[Any, Any]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield what nested mappings hold: the keys that lead to it, and the value.

    A mapping without keys is a value.
    """
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from (((key, *path), inner) for path, inner in leaves(value))
        else:
            yield (key,), value
