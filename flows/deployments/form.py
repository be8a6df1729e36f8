"""The form for a flow's parameters on the web page, as both of Prefect's pages show it.

Of a parameter that may be left out they know no better than to ask whether it is "dict" or "None";
the newer page then has no box to write a dictionary into. So such a parameter is one that is not
required, of the kind that it has if it is given: a box that may stay empty.
"""

from __future__ import annotations

from typing import Any

from prefect import Flow
from prefect.utilities.callables import parameter_schema

_NULL = {"type": "null"}


def form(flow: Flow[..., Any]) -> dict[str, Any]:
    """Return the JSON schema of a flow's parameters, in which nothing is either this or null."""
    schema = parameter_schema(flow).model_dump(exclude_unset=True)
    named = schema["properties"].items()
    return {**schema, "properties": {name: _box(found) for name, found in named}}


def _box(found: dict[str, Any]) -> dict[str, Any]:
    """Return one parameter without null, and its description without marks of Markdown."""
    box = {**found, "description": found.get("description", "").replace("`", "")}
    kinds = box.get("anyOf", [])
    if _NULL in kinds and len(kinds) == 2 and box.get("default") is None:
        del box["anyOf"]
        box.pop("default", None)
        box |= next(kind for kind in kinds if kind != _NULL)
    return box
