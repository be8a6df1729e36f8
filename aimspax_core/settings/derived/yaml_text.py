"""Values and sections as YAML text, one key a line: what is read back is the same."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import SafeRepresenter


class _Representer(SafeRepresenter):
    """Writes `True` as the settings files do, and paths and tuples."""


def _bool(representer: SafeRepresenter, value: bool) -> ScalarNode:
    return representer.represent_scalar("tag:yaml.org,2002:bool", str(value))


def _path(representer: SafeRepresenter, value: PurePath) -> ScalarNode:
    return representer.represent_str(value.as_posix())


def _tuple(representer: SafeRepresenter, value: tuple[Any, ...]) -> Any:
    return representer.represent_list(list(value))


_Representer.add_representer(bool, _bool)
_Representer.add_multi_representer(PurePath, _path)
_Representer.add_representer(tuple, _tuple)


def value_yaml(content: Any) -> str:
    """Return a value in one line of YAML."""
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = True
    yaml.sort_base_mapping_type_on_output = False
    yaml.allow_unicode = True
    yaml.width = 10**6  # in one line
    text = io.StringIO()
    yaml.dump(content, text)
    return text.getvalue().removesuffix("\n").removesuffix("\n...")


def section_lines(content: Mapping[Any, Any], indent: str = "") -> Iterator[str]:
    """Yield the lines of sections and keys, one key a line."""
    for key, inner in content.items():
        if isinstance(inner, Mapping) and inner:
            yield f"{indent}{value_yaml(key)}:"
            yield from section_lines(inner, f"{indent}  ")
        else:
            yield f"{indent}{value_yaml(key)}: {value_yaml(inner)}"
