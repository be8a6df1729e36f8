"""Settings from the environment: `AIMSPAX_ACTIVE_LEARNING__C_X=-0.1` is ACTIVE_LEARNING.c_x."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import create_model
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from aimspax_core.settings.reading.nested import leaves

PREFIX, BETWEEN = "AIMSPAX_", "__"


class _Environment(BaseSettings):
    """How names are read; a field for each section is added where it is used."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter=BETWEEN)


def from_environment(sections: Mapping[str, Iterable[str]]) -> dict[str, Any]:
    """Return what environment variables say, as overrides `{"SECTION.key": value}`.

    Names are matched without regard to case, values are read as YAML. A name that no section has
    is returned too, so that it is told as a mistake like one of a file. Variables without the
    prefix and a double underscore are not ours.

    Args:
        sections: The keys that each section may have, by the section's name.
    """
    fields: dict[str, Any] = dict.fromkeys(sections, (dict[str, Any] | None, None))
    source = EnvSettingsSource(create_model("_Environment", __base__=_Environment, **fields))
    found: dict[str, Any] = {}
    for section, content in source().items():
        keys = {key.lower(): key for key in sections[section]}
        for path, value in leaves(content or {}):
            depth = 1 if path[0].isdecimal() else 0  # MD by geometry
            named = [keys.get(part, part) if i <= depth else part for i, part in enumerate(path)]
            found[".".join((section, *named))] = _read(value)
    return found | dict.fromkeys(_unknown(sections))


def _unknown(sections: Iterable[str]) -> Iterator[str]:
    """Yield the variables that would set something in a section that there is not."""
    known = {section.upper() for section in sections}
    for name in sorted(os.environ):
        section, between, key = name.upper().removeprefix(PREFIX).partition(BETWEEN)
        if name.upper().startswith(PREFIX) and between and section not in known:
            yield f"{section}.{key}"


def _read(value: Any) -> Any:
    """Read a text as YAML; what is not YAML is for the key's own check to refuse."""
    try:
        return YAML(typ="safe", pure=True).load(value) if isinstance(value, str) else value
    except YAMLError:
        return value
