"""What settings allow, in a chemist's words, from the JSON schema of their models."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel

from aimspax_core.text import or_list


@cache
def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of the model of a settings file, made once; nobody may change it."""
    return model.model_json_schema()


def allowed_text(node: dict[str, Any], root: dict[str, Any], quotes: bool = True) -> str:
    """Return what is allowed, as a part of a sentence.

    Args:
        node: The part of a JSON schema that is about one key.
        root: The whole schema.
        quotes: Whether to say that a text which looks like a number needs quotes.
    """
    inner = resolved(node, root)
    bounds = {
        "minimum": "of at least",
        "exclusiveMinimum": "above",
        "maximum": "of at most",
        "exclusiveMaximum": "below",
    }
    limits = [f"{text} {inner[name]:g}" for name, text in bounds.items() if name in inner]
    tail = f" {' and '.join(limits)}" if limits and "allowed" not in inner else ""
    if any(part.get("type") == "null" for part in node.get("anyOf", ())):
        tail += ", or nothing"
    return _kind(inner, root, quotes) + tail


def _kind(node: dict[str, Any], root: dict[str, Any], quotes: bool) -> str:
    if "allowed" in node:
        return str(node["allowed"])
    if "enum" in node or "const" in node:
        return or_list(node.get("enum") or [node["const"]])
    if "oneOf" in node:
        return f"a section with {tag(node)} ({or_list(tags(node))})"
    if "properties" in node:
        return f"a section with the keys {', '.join(sorted(node['properties']))}"
    match node.get("type"):
        case "object":
            inner = allowed_text(node["additionalProperties"], root, quotes)
            return f"a section, each key with {inner}"
        case "array":
            return f"a list, each item {allowed_text(node['items'], root, quotes)}"
        case "boolean":
            return "True or False"
        case "integer":
            return "a whole number"
        case "number":
            return "a number"
    if node.get("format") == "path":
        return "a path"
    return "a text, in quotes if it is a number" if quotes else "a text"


def resolved(node: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """Look through references in a JSON schema, and through `or nothing`."""
    if "$ref" in node:
        return resolved(root["$defs"][node["$ref"].rpartition("/")[2]], root)
    for part in node.get("anyOf", ()):
        if part.get("type") != "null":
            extra = {"allowed": node["allowed"]} if "allowed" in node else {}
            return {**resolved(part, root), **extra}
    return node


def fields_of(schema: dict[str, Any], section: str) -> list[str]:
    """Return the keys that a section may have, whichever of several models it follows.

    Args:
        schema: The JSON schema of a settings file.
        section: Name of the section.
    """
    nodes, found = [schema["properties"][section]], []
    while nodes:
        node = nodes.pop()
        nodes += [*node.get("anyOf", ()), *node.get("oneOf", ())]
        if "$ref" in node:
            nodes.append(resolved(node, schema))
        found += node.get("properties", {})
    return found


def tag(node: dict[str, Any]) -> str:
    """Return the key that says which model of a union is meant."""
    return str(_discriminator(node)["propertyName"])


def tags(node: dict[str, Any]) -> list[str]:
    """Return the values that this key may have."""
    return sorted(_discriminator(node)["mapping"])


def _discriminator(node: dict[str, Any]) -> dict[str, Any]:
    inner = next((part for part in node.get("anyOf", ()) if "oneOf" in part), node)
    found: dict[str, Any] = inner["discriminator"]
    return found
