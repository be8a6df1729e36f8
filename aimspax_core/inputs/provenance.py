"""What a run was started with, and what may not change when it is taken up again."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ase import Atoms

from aimspax_core.errors import SettingsError
from aimspax_core.reference.registry import kind_of, make_reference
from aimspax_core.run_directory import RunDir
from aimspax_core.safe_files import sha256, write_text
from aimspax_core.settings.frozen import _METHOD, FREE_WITHIN, FROZEN
from aimspax_core.settings.known_engines import EngineSettings
from aimspax_core.settings.reading.mistakes import shown
from aimspax_core.settings.settings import Settings
from aimspax_core.settings.values import leaves
from aimspax_core.structures import digest, encode
from aimspax_core.versions import versions

_IDG, _AL = "INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"


def write_provenance(
    run: RunDir, settings: Settings, geometries: list[Atoms], adopted: bool = False
) -> tuple[str, ...]:
    """Write `aimspax/settings.json`; return what has changed since the run was started, in words.

    Args:
        run: Where everything lies.
        settings: The settings in force.
        geometries: The start geometries.
        adopted: Whether the campaign begins from models that are there; once it does, it does.

    Raises:
        SettingsError: Something has changed that decides what the labels or the models are.
    """
    changes = changed(run, settings, geometries)
    now = _described(settings, geometries)
    now["adopted"] = adopted or _recorded(run).get("adopted") is True
    write_text(run.settings, json.dumps(now, indent=1, sort_keys=True) + "\n")
    return changes


def changed(run: RunDir, settings: Settings, geometries: list[Atoms]) -> tuple[str, ...]:
    """Return what has changed since the run was started, in words; nothing if it was not started.

    What an earlier version did not record yet has not changed.

    Raises:
        SettingsError: Something has changed that decides what the labels or the models are, or
            the record is damaged.
    """
    if not run.settings.exists():
        return ()
    before = _recorded(run)
    if not (isinstance(before.get("frozen"), dict) and isinstance(before.get("free"), dict)):
        raise SettingsError(
            f"{run.settings}: the record of the settings that the campaign was started with is "
            "damaged. Restore it, or remove it: the campaign then goes on with today's settings, "
            "whatever has changed"
        )
    now = _described(settings, geometries)
    refused = _refused(before, now)
    if refused:
        raise SettingsError(
            f"{run.output}: the campaign was started with other settings, which cannot change on "
            "the way:\n"
            + "\n".join(f"  {line}" for line in refused)
            + "\nRestore them, or begin anew with --fresh."
        )
    return tuple(_differences(before["free"], now["free"]))


def require_unchanged(run: RunDir, settings: Settings, geometries: list[Atoms]) -> None:
    """Refuse to take up a campaign whose labels or models other settings have decided.

    Raises:
        SettingsError: Something has changed that decides what the labels or the models are.
    """
    changed(run, settings, geometries)


def adopted(run: RunDir) -> bool | None:
    """Return whether the campaign began from models that were there; None if it was not recorded.

    A record that cannot be read tells nothing either.
    """
    known = _recorded(run).get("adopted")
    return known if isinstance(known, bool) else None


def _recorded(run: RunDir) -> dict[str, Any]:
    """Return what was written when the run was started; nothing if that cannot be read."""
    try:
        content = json.loads(run.settings.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _described(settings: Settings, geometries: list[Atoms]) -> dict[str, Any]:
    project = settings.project.model_dump(mode="json")
    model = settings.model.model_dump(mode="json")
    seeds = _trajectory_seeds(settings, project["MD"])
    frozen, free = {}, {}
    for file, content in (("aimsPAX.yaml", project), ("mace.yaml", model)):
        for key, value in _flat(content).items():
            if _is_frozen(file, key):
                frozen[key] = value
            else:
                free[f"{file}.{key}"] = value
    frozen |= seeds | dict(_contents(settings)) | _flat(_identity(settings, geometries), _METHOD)
    for index, atoms in enumerate(geometries):
        name = f"{atoms.get_chemical_formula()} {digest(encode(atoms))[:16]}"
        frozen[f"geometry.{index}"] = name
    return {"frozen": frozen, "free": free, "versions": versions()}


def _is_frozen(file: str, key: str) -> bool:
    return not any(fnmatchcase(key, pattern) for pattern in FREE_WITHIN) and any(
        file == name and fnmatchcase(key, pattern) for name, pattern, _ in FROZEN
    )


def _trajectory_seeds(settings: Settings, md: dict[str, Any]) -> dict[str, int]:
    """Take the seeds out of the section MD; one line if all geometries have the same."""
    if not isinstance(settings.project.MD, dict):
        return {"MD.MD_seed": md.pop("MD_seed")}
    seeds = {f"MD.{index}.MD_seed": one.pop("MD_seed") for index, one in md.items()}
    if len(set(seeds.values())) == 1:
        return {"MD.MD_seed": next(iter(seeds.values()))}
    return seeds


def _contents(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield what is in the files that decide labels and models: another file may have the name."""
    reference = settings.reference
    told = kind_of(reference).identity_has_files
    named = {
        "REFERENCE": {} if told else reference.model_dump(mode="json"),
        f"{_AL}.initial_train_dataset": settings.al.initial_train_dataset,
        f"{_AL}.initial_valid_dataset": settings.al.initial_valid_dataset,
    }
    for key, value in _flat(named).items():
        if not isinstance(value, str | Path) or not str(value) or key.endswith(".command"):
            continue
        path = settings.directory / value
        if path.is_file():
            yield f"{key} (content)", sha256(path)[:16]


def _identity(settings: Settings, geometries: list[Atoms]) -> dict[str, Any]:
    """Return what tells the method from others; its keys in the settings do not tell versions.

    An engine with settings for each geometry has an identity for each, by its index.
    """
    elements = frozenset(symbol for atoms in geometries for symbol in atoms.symbols)
    if not settings.reference.by_geometry():
        return _identity_of(settings.reference, settings.directory, elements)
    return {
        str(index): _identity_of(settings.reference_of(index), settings.directory, elements)
        for index in range(len(geometries))
    }


def _identity_of(
    reference: EngineSettings, directory: Path, elements: frozenset[str]
) -> dict[str, Any]:
    frozen = kind_of(reference).frozen
    if frozen is not None:
        return dict(frozen(reference, directory, elements))
    return make_reference(reference, directory).identity()


def _flat(content: Any, prefix: str = "") -> dict[str, Any]:
    """Turn nested keys into dotted ones, and infinity, which JSON does not have, into a text."""
    return {
        ".".join((*filter(None, [prefix]), *map(str, path))): "inf" if value == math.inf else value
        for path, value in leaves(content)
    }


def _refused(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return how what is frozen today differs from what a record says, which may be an older one.

    It may have keys on the other side, which is no change; of a subject that it does not have,
    such as a key that a later version has brought, it says nothing.
    """
    was = _by_key(before["free"]) | before["frozen"]
    known = {_subject(key) for key in was}
    today = {key: value for key, value in now["frozen"].items() if _subject(key) in known}
    gone = before["frozen"].keys() - _by_key(now["free"]).keys()
    told = _differences({key: was[key] for key in was if key in today or key in gone}, today)
    same = {line: line.replace(_METHOD, "REFERENCE", 1) for line in told}
    return [line for line in told if same[line] == line or same[line] not in told]


def _by_key(free: dict[str, Any]) -> dict[str, Any]:
    """Take the file's name off the keys, as frozen ones are written."""
    return {name.partition(".yaml.")[2]: value for name, value in free.items()}


def _subject(key: str) -> str:
    """Return what a record has at least one line on, if its version knew of it."""
    section, _, rest = key.partition(".")
    return section if section in ("geometry", "MD") else f"{section}.{rest.partition('.')[0]}"


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [
        f"{key}: was {_told(before, key, now)}, is {_told(now, key, before)}"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]


def _told(settings: dict[str, Any], key: str, other: dict[str, Any]) -> str:
    """Return a value in words; of a text of several lines, those that the other one does not have.

    Where the lines are the same, and their order is not, they are all told.
    """
    if key not in settings:
        return "not there"
    value, against = settings[key], other.get(key)
    if isinstance(value, str) and isinstance(against, str) and "\n" in value + against:
        lines, others = value.splitlines(), against.splitlines()
        own = [line.strip() for line in lines if line not in others]
        return shown(own) if set(lines) != set(others) else shown(lines)
    return shown(value)
