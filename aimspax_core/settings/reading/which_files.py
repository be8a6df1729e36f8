"""Settings files under other names than `aimsPAX.yaml` and `mace.yaml`, named among the overrides.

Public flows take a directory and overrides, nothing else; so the names of files travel as overrides
that belong to no section.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aimspax_core.errors import SettingsError

PROJECT, MODEL = "aimsPAX_settings", "model_settings"
"""The overrides that name the file in place of `aimsPAX.yaml`, and of `mace.yaml`."""


def settings_files(
    directory: Path, overrides: Mapping[str, Any] | None
) -> tuple[dict[str, Any], Path | None, Path | None]:
    """Part the names of settings files from the values that replace those of the files.

    Args:
        directory: The run directory; names of files are relative to it.
        overrides: Values by section and key, and perhaps `aimsPAX_settings` and `model_settings`.

    Returns:
        What `settings.load.load` takes after the directory: the other overrides, the file in place
        of `aimsPAX.yaml`, and that in place of `mace.yaml`; None where the usual name holds.

    Raises:
        SettingsError: The name of a file is not a text.
    """
    values = dict(overrides or {})
    project, model = (_file(directory, name, values.pop(name, None)) for name in (PROJECT, MODEL))
    return values, project, model


def _file(directory: Path, name: str, value: Any) -> Path | None:
    if value is None:
        return None
    if not isinstance(value, str | Path) or not str(value):
        raise SettingsError(f"{name}: found {value!r}; allowed: the name of a file")
    return directory / Path(value).expanduser()
