"""Settings that a person changes while a campaign is there, without editing a file.

What was set stays in force, over restarts too, until the same key is changed in the file, the
environment or by `--set`: the later change wins.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from aimspax_core.campaign.events import ParametersSet
from aimspax_core.campaign.recorded_rules import Rules
from aimspax_core.campaign.requests import SetRequest
from aimspax_core.campaign.state import CampaignState, SetValue
from aimspax_core.errors import SettingsError
from aimspax_core.inputs.begun_choices import as_begun
from aimspax_core.settings.changeable import changeable, full_keys, short_names, value_by_key
from aimspax_core.settings.frozen import why_frozen
from aimspax_core.settings.load import load, stated
from aimspax_core.settings.project import ProjectSettings
from aimspax_core.settings.reading.mistakes import BY_HAND, FILE, value_text
from aimspax_core.settings.reading.which_files import settings_files
from aimspax_core.settings.reading.yaml_lines import UNSAID
from aimspax_core.settings.settings import MODEL_FILES, PROJECT_FILE, Settings
from aimspax_core.text import nearest_name, or_list

Overrides = Mapping[str, Any] | None


def in_force(
    directory: Path, overrides: Overrides, settings: Settings, state: CampaignState | None
) -> tuple[Settings, tuple[str, ...]]:
    """Return the settings with what was set by hand, and the keys where that has been superseded.

    Args:
        directory: The run directory.
        overrides: As for `Inputs.read`.
        settings: Those of files, environment and overrides.
        state: The campaign; None if there is none.

    Raises:
        SettingsError: What was set does not go with what the files say today.
    """
    if state is None or not state.set_values:
        return as_begun(settings, state), ()
    values, project, model = settings_files(Path(directory), overrides)
    holding, superseded = _parted(state, settings.directory, values, project)
    if holding:
        settings = load(settings.directory, values, project, model, holding)
    return as_begun(settings, state), superseded


def _parted(
    state: CampaignState, directory: Path, values: Mapping[str, Any], project: Path | None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return what was set by hand and still holds, and the keys where somebody changed it since."""
    superseded = tuple(
        key
        for key, one in state.set_values.items()
        if _changed_since(one, stated(directory, key, values, project))
    )
    known = state.set_values.items()
    return {key: parsed(one.value) for key, one in known if key not in superseded}, superseded


def _changed_since(one: SetValue, now: Mapping[str, Any]) -> bool:
    """Return whether somebody says something else than when the value was set.

    A key that is not in the file any more has been taken out; an environment variable or a `--set`
    that is not there any more belonged to another start.
    """
    then = {origin: parsed(text) for origin, text in one.stated.items()}
    if then.get(FILE, UNSAID) != now.get(FILE, UNSAID):
        return True
    return any(then.get(origin, UNSAID) != value for origin, value in now.items())


def change(
    request: SetRequest, state: CampaignState, settings: Settings, overrides: Overrides
) -> tuple[ParametersSet, Settings]:
    """Return the event of a change, and the settings that are in force with it.

    Nothing but the keys of the request changes, whatever has been edited in the files meanwhile.

    Args:
        request: What a person wants.
        state: The campaign.
        settings: The settings in force.
        overrides: As for `Inputs.read`.

    Raises:
        SettingsError: A key cannot be changed on the way, or a value is not allowed.
    """
    directory = settings.directory
    wanted = {_key(name, settings): text for name, text in request.values.items()}
    values, project, model = settings_files(directory, overrides)
    by_hand, _ = _parted(state, directory, values, project)
    by_hand |= {key: parsed(text) for key, text in wanted.items()}
    checked = load(directory, values, project, model, by_hand)
    _may_change(wanted)
    new = settings
    for key in wanted:
        new = replace(new, project=_taken(new.project, checked.project, key.split(".")))
    before = value_by_key(settings)
    changes = tuple(
        SetValue(
            key=key,
            value=text,
            before=yaml_text(before[key]),
            stated={
                origin: yaml_text(value)
                for origin, value in stated(directory, key, values, project).items()
            },
            time=request.time,
            by=request.by,
        )
        for key, text in wanted.items()
    )
    rules = Rules.of(new, state.rules.tags, state.rules.geometries, state.rules)
    return ParametersSet(rules=rules, values=changes), new


def _taken(old: Any, new: Any, path: Sequence[str]) -> Any:
    """Return a section with one key as it is in another; the other if there is no section yet."""
    if not path or old is None:
        return new
    part, *rest = path
    if isinstance(old, dict):
        index = int(part)
        return {**old, index: _taken(old[index], new[index], rest)}
    return old.model_copy(update={part: _taken(getattr(old, part), getattr(new, part), rest)})


def origins(state: CampaignState | None, directory: Path, overrides: Overrides) -> list[str]:
    """Return a sentence on each value that was set by hand: since when, and what others say.

    Args:
        state: The campaign; None if there is none.
        directory: The run directory.
        overrides: As for `Inputs.read`.
    """
    if state is None or not state.set_values:
        return []
    values, project, model = settings_files(Path(directory), overrides)
    base = load(directory, values, project, model)
    _, superseded = _parted(state, base.directory, values, project)
    lines = []
    for key, one in state.set_values.items():
        default = ("default", value_text(value_by_key(base).get(key)))
        who, said = [default, *one.stated.items()][-1]
        line = f"{key} {one.value}, set {_moment(one.time)} by {one.by}; {who}: {said}"
        changed = " (changed since: that is in force from the next start on)"
        lines.append(line + changed * (key in superseded))
    return lines


def parsed(text: str) -> Any:
    """Read a value as YAML; what is not YAML is for the key's own check to refuse."""
    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError:
        return text


def yaml_text(value: Any) -> str:
    """Return a value as YAML has it, so that `parsed` gives it back."""
    if isinstance(value, float) and math.isinf(value):
        return ".inf" if value > 0 else "-.inf"
    if isinstance(value, float) and value.is_integer():
        return f"{value:.0f}"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _key(name: str, settings: Settings) -> str:
    """Return the whole key that a name means.

    Raises:
        SettingsError: It means none, or several.
    """
    found = full_keys(name, settings)
    if len(found) == 1:
        return found[0]
    if not found and "." in name:
        return name  # what is wrong with it is told as for a file's
    if found:
        raise SettingsError(f"{BY_HAND}  {name}: several keys end so; allowed: {or_list(found)}")
    near = nearest_name(name, short_names(settings))
    hint = f"; did you mean {near}?" if near else ""
    raise SettingsError(f"{BY_HAND}  {name}: unknown key; allowed: SECTION.key{hint}")


def _may_change(keys: Mapping[str, str]) -> None:
    """Refuse keys that cannot take force at once.

    Raises:
        SettingsError: Its text has a line for each.
    """
    refused = []
    for key in keys:
        ours = key.partition(".")[0] in ProjectSettings.model_fields
        file = PROJECT_FILE if ours else MODEL_FILES[0]
        why = why_frozen(file, key)
        if why is not None:
            refused.append(f"{BY_HAND}  {key}: cannot change in a campaign that was begun: {why}")
        elif not ours or not changeable(key):
            refused.append(
                f"{BY_HAND}  {key}: takes force when a run starts: stop the campaign, change it in "
                f"{file} or with --set, and start again"
            )
    if refused:
        raise SettingsError("\n".join(refused))
