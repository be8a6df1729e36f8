"""JSON Schemas of the settings files, for editors that complete and check YAML.

They accept what `load` accepts of both generations' files: second names, keys without effect, any
case where it does not matter, the spellings of infinity and of truth.
"""

from __future__ import annotations

import math
from re import escape
from typing import Any, Literal

from pydantic import BaseModel

from aimspax_core.settings.known_engines import SECTIONS
from aimspax_core.settings.model import ModelSettings
from aimspax_core.settings.original import keys
from aimspax_core.settings.project import ProjectSettings
from aimspax_core.settings.values import INFINITIES

_TRUTHS = ("true", "false", "yes", "no", "on", "off")
_FILES: dict[str, tuple[type[BaseModel], keys.OtherKeys, str]] = {
    "aimsPAX.yaml": (ProjectSettings, keys.PROJECT, "Settings of a campaign of active learning."),
    "mace.yaml": (ModelSettings, keys.MODEL, "Settings of the MACE models of a campaign."),
}

Which = Literal["aimsPAX.yaml", "mace.yaml"]


def schema(which: Which) -> dict[str, Any]:
    """Return the JSON Schema (draft 7) of one of the two settings files.

    Args:
        which: `aimsPAX.yaml`, or `mace.yaml` (also called `model.yaml`).
    """
    model, others, about = _FILES[which]
    content = _widened(model.model_json_schema())
    content |= {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": which,
        "description": about,
    }
    for name, node in content["properties"].items():
        content["properties"][name] = _without_null(node)
    for name in model.model_fields:
        sections = _sections(content, content["properties"][name])
        for section in sections:
            _add_other_keys(section, name, others)
        if name not in content.get("required", ()):
            sections[0]["type"] = ["object", "null"]  # an empty section
    if which == "mace.yaml":
        _allow_several(content["properties"]["ARCHITECTURE"])
    if which == "aimsPAX.yaml":
        _allow_less(content)
        _add_parsl(content["$defs"]["Blocks"])
    return content


def _allow_several(architecture: dict[str, Any]) -> None:
    """Let ARCHITECTURE fit several families: `model_choice` may stand in GENERAL instead."""
    if "oneOf" in architecture:
        architecture["anyOf"] = architecture.pop("oneOf")


def _widened(node: Any) -> Any:
    """Return a schema that accepts all spellings, without what only we understand."""
    if isinstance(node, list):
        return [_widened(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {
        key: _widened(value)
        for key, value in node.items()
        if key not in ("allowed", "any_case", "discriminator", "infinity", "title")
        or isinstance(value, dict)  # a key of a section that has this name
    }
    if "default" in kept:
        kept["default"] = _finite(kept["default"])
    choices = kept.get("enum") or ([kept["const"]] if "const" in kept else [])
    if "any_case" in node:
        also = [{"type": "null"}] if None in node["any_case"] else []
        names = [*choices, *(name for name in node["any_case"] if name is not None)]
        return _either(kept, "|".join(names), *also)
    if kept.get("type") == "boolean":
        return _either(kept, "|".join(_TRUTHS), {"enum": [0, 1]})
    if node.get("infinity"):
        return _either(kept, r"[+]?(" + "|".join(sorted(INFINITIES)).replace(".", r"\.") + ")")
    return kept


def _finite(default: Any) -> Any:
    """Return a default, or the defaults of a section, as JSON has them: it has no infinity."""
    if isinstance(default, dict):
        return {key: _finite(value) for key, value in default.items()}
    return "inf" if default == math.inf else default


def _either(node: dict[str, Any], names: str, *more: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that accepts names in any case too; the key's description stays outside."""
    outer: dict[str, Any] = {
        key: node.pop(key) for key in ("default", "description") if key in node
    }
    return {**outer, "anyOf": [node, {"type": "string", "pattern": _any_case(names)}, *more]}


def _without_null(node: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a section that may be missing as that of the section itself."""
    parts = [part for part in node.get("anyOf", ()) if part.get("type") != "null"]
    if len(parts) != 1:
        return node
    return parts[0] | {key: node[key] for key in node if key not in ("anyOf", "default")}


def _any_case(names: str) -> str:
    """Return a pattern for names in any case; that of JSON Schema has no switch for it."""
    letters = (f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in names)
    return f"^({''.join(letters)})$"


def _sections(root: dict[str, Any], node: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the schemas of the models that a section may follow."""
    if "$ref" in node:
        return [root["$defs"][node["$ref"].rpartition("/")[2]]]
    parts = [*node.get("anyOf", ()), *node.get("oneOf", ())]
    return [section for part in parts for section in _sections(root, part)]


def _add_other_keys(section: dict[str, Any], name: str, others: keys.OtherKeys) -> None:
    """Accept second names and keys without effect, and refused keys that are switched off."""
    properties = section["properties"]
    for (place, key), ours in others.renamed.items():
        if place == name:
            properties[key] = {**properties[ours], "description": f"Another name of {ours}."}
            section["not"] = {"type": "object", "required": [key, ours]}
    for (place, key), moved in others.moved.items():
        if place == name:
            engines = " or ".join(moved.engines)
            meant = f"REFERENCE.{moved.key} of engine {engines}; no effect with others."
            properties[key] = {"description": meant}
    for (place, key), why in others.ignored.items():
        if place == name:
            properties[key] = {"description": f"Has no effect: {why}."}
    section["patternProperties"] = {
        _regular(pattern): {"enum": [None, False], "description": f"Refused: {why}."}
        for pattern, why in others.refused.items()
    }


def _add_parsl(blocks: dict[str, Any]) -> None:
    """Accept what configured PARSL beside the keys of its blocks."""
    ignored = {"description": f"Has no effect: {keys.NO_PARSL}."}
    blocks["properties"] |= dict.fromkeys(keys.PARSL_OPTIONS, ignored)


def _regular(pattern: str) -> str:
    """Return a pattern of file names as a regular expression that every language reads."""
    return f"^{escape(pattern)}$".replace(r"\*", ".*").replace(r"\?", ".")


def _allow_less(content: dict[str, Any]) -> None:
    """One of the two phases must be there; and REFERENCE, unless a phase says what labels.

    It does so by naming a teacher, or the species of FHI-aims, whose keys may all be elsewhere.
    """
    phases = ("INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING")
    content["required"] = [name for name in content["required"] if name != "REFERENCE"]
    teacher = {"properties": {"use_teacher_reference": {"enum": [True]}}}
    asked = {**teacher, "required": ["use_teacher_reference"]}
    aims = {"required": ["species_dir"]}
    said = [
        {"properties": {phase: way}, "required": [phase]}
        for phase in phases
        for way in (asked, aims)
    ]
    for engine in SECTIONS:
        elsewhere = {
            m.key for m in keys.PROJECT.moved.values() if engine.engine_name() in m.engines
        }
        inner = content["$defs"][engine.__name__]
        inner["required"] = [name for name in inner["required"] if name not in elsewhere]
    content["allOf"] = [
        {"anyOf": [{"required": [phase]} for phase in phases]},
        {"anyOf": [{"required": ["REFERENCE"]}, *said]},
    ]
