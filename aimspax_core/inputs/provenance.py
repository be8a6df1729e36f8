"""What a run was started with, and what may not change when it is taken up again."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ase import Atoms

from aimspax_core.campaign.journal import load as load_journal
from aimspax_core.errors import SettingsError
from aimspax_core.reference.registry import kind_of, make_reference
from aimspax_core.run_directory import RunDir
from aimspax_core.safe_files import sha256, write_text
from aimspax_core.settings.frozen import METHOD, why_frozen
from aimspax_core.settings.geometries.held_atoms import HeldAtoms
from aimspax_core.settings.known_engines import EngineSettings
from aimspax_core.settings.reading.mistakes import value_text
from aimspax_core.settings.reading.nested import leaves
from aimspax_core.settings.settings import Settings
from aimspax_core.structures import digest, encode, without_electrons
from aimspax_core.versions import versions_here

_IDG, _AL = "INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING"

_MEANT = {
    "ARCHITECTURE.use_reduced_cg": False,
    "TRAINING.perform_finetuning": False,
    f"{_AL}.uncertainty_of": "all",
}
"""What a record means that does not have a key of a later version."""

_LORA = "TRAINING.convert_to_lora"


def write_provenance(
    run: RunDir, settings: Settings, geometries: list[Atoms], adopted: bool = False
) -> tuple[str, ...]:
    """Write `aimspax/settings.json`; return how settings have changed since the start.

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
    held = settings.held or {}
    now["held"] = {str(index): atoms.data() for index, atoms in held.items() if atoms}
    now["checksum"] = digest(now)
    write_text(run.settings, json.dumps(now, indent=1, sort_keys=True) + "\n")
    return changes


def begun_with(
    run: RunDir, index: int, atoms: Atoms, told: Mapping[str, float] | None = None
) -> bool:
    """Whether the campaign is recorded to have begun with a structure as its start geometry.

    Args:
        run: Where everything lies.
        index: Of the geometry.
        atoms: The structure.
        told: Charge and multiplicity that structures of it are told; the record is without.
    """
    frozen = _recorded(run).get("frozen")
    begun = frozen.get(f"geometry.{index}") if isinstance(frozen, dict) else None
    bare = without_electrons(atoms, told or {})
    return begun in (_structure_text(atoms), _structure_text(bare))


def begun_holding(run: RunDir) -> dict[int, HeldAtoms] | None:
    """Return which atoms of which geometry the campaign was begun to hold; None if it is not known.

    A record of a release that held none has nothing on it. It is apart from what may not change:
    a campaign goes on as it began whatever its geometry files say of it today.
    """
    recorded = _recorded(run)
    if not isinstance(recorded.get("frozen"), dict):
        return None
    held = recorded.get("held", {})
    return {int(index): HeldAtoms.from_data(data) for index, data in held.items()}


def _structure_text(atoms: Atoms) -> str:
    return f"{atoms.get_chemical_formula()} {digest(encode(atoms))[:16]}"


def frozen_digest(run: RunDir) -> str:
    """Return the digest of the settings that may not change, as recorded; empty if they are not.

    The journal keeps it, so that a damaged record costs nothing while nothing has changed.
    """
    frozen = _recorded(run).get("frozen")
    return digest(frozen) if isinstance(frozen, dict) else ""


def changed(run: RunDir, settings: Settings, geometries: list[Atoms]) -> tuple[str, ...]:
    """Return a sentence on each setting that has changed since the campaign was started.

    What an earlier version did not record yet has not changed.

    Raises:
        SettingsError: Something has changed that decides what the labels or the models are, or
            the record is damaged and something may have.
    """
    if not run.settings.exists():
        return ()
    before, now = _recorded(run), _described(settings, geometries)
    if not (isinstance(before.get("frozen"), dict) and isinstance(before.get("free"), dict)):
        return (_without_record(run, digest(now["frozen"])),)
    refused = _refused(before, now)
    if refused:
        raise SettingsError(
            f"{run.output}: the campaign was started with other settings, which cannot change on "
            "the way:\n"
            + "\n".join(f"  {line}" for line in refused)
            + "\nRestore them, or begin anew with --fresh."
        )
    return tuple(str(one) for one in _differences(before["free"], now["free"]))


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


def recorded_otherwise(run: RunDir, settings: Settings) -> dict[str, Any]:
    """Return the settings that a campaign was last run with and that are others now, by key.

    They are values as overrides have them. Files may have changed since, and what was given beside
    them, on the command line or in the environment, need not be given now.

    Args:
        run: Where everything lies.
        settings: Those in force now; sections that they do not have are left out.
    """
    recorded = _recorded(run)
    if not (isinstance(recorded.get("frozen"), dict) and isinstance(recorded.get("free"), dict)):
        return {}
    was = _by_key(recorded["free"]) | recorded["frozen"]
    now: dict[str, Any] = {}
    for sections in (settings.project, settings.model):
        content = sections.model_dump(mode="json")
        now |= _flat({name: keys for name, keys in content.items() if keys is not None})
    return {
        key: was[key]
        for key, value in now.items()
        if was.get(key) is not None and was[key] != value
    }


def _without_record(run: RunDir, frozen: str) -> str:
    """Say what is lost with a damaged record, whose digest the journal has.

    Args:
        run: Where everything lies.
        frozen: Digest of today's settings that may not change.

    Raises:
        SettingsError: They are others, or the journal is of an earlier release.
    """
    _, state = load_journal(run)
    known = "" if state is None else state.settings
    if known == frozen:
        return (
            f"{run.settings} is damaged, and is written anew: what may not change has not changed; "
            "what else may have is not known"
        )
    which = "settings that may not change have changed since; undo that, or " if known else ""
    raise SettingsError(
        f"{run.settings}: the record of the settings that the campaign was started with is "
        f"damaged; {which}restore it; or remove it: the campaign then goes on with today's "
        "settings, whatever has changed"
    )


def _recorded(run: RunDir) -> dict[str, Any]:
    """Return what was written when the run was started; nothing if that cannot be read.

    What has another checksum than its own was changed since; earlier releases wrote none.
    """
    try:
        content = json.loads(run.settings.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    checksum = content.pop("checksum", None)
    if checksum not in (None, digest(content)):
        return {}
    if isinstance(frozen := content.get("frozen"), dict):
        content["frozen"] = _in_one_spelling(frozen)
    return content


def _described(settings: Settings, geometries: list[Atoms]) -> dict[str, Any]:
    project = settings.project.model_dump(mode="json")
    project[_IDG] = settings.idg.model_dump(mode="json")  # also of a phase that is not run
    project[_AL] = settings.al.model_dump(mode="json")
    model = settings.model.model_dump(mode="json")
    frozen, free = {}, {}
    for file, content in (("aimsPAX.yaml", project), ("mace.yaml", model)):
        for key, value in _flat(content).items():
            if key.startswith("MD.") and key.endswith(".MD_seed"):
                continue  # see `_trajectory_seeds`
            if why_frozen(file, key) is not None:
                frozen[key] = value
            else:
                free[f"{file}.{key}"] = value
    frozen = _in_one_spelling(frozen)
    frozen |= _trajectory_seeds(settings) | dict(_contents(settings))
    frozen |= _flat(_identity(settings, geometries), METHOD)
    for index, atoms in enumerate(geometries):  # as their files say them
        bare = without_electrons(atoms, settings.electrons.get(index, {}))
        frozen[f"geometry.{index}"] = _structure_text(bare)
    return {"frozen": frozen, "free": free, "versions": versions_here()}


def _in_one_spelling(frozen: dict[str, Any]) -> dict[str, Any]:
    """Return what may not change with one of the two keys that ask for LoRA; both mean the same."""
    if frozen.get(_LORA) is not True:
        return frozen
    return {**frozen, _LORA: False, "TRAINING.finetuning_choice": "lora"}


def _trajectory_seeds(settings: Settings) -> dict[str, int]:
    """Return the seeds in the section MD by key; one key if all geometries have the same seed."""
    md = settings.project.MD
    if not isinstance(md, dict):
        return {"MD.MD_seed": md.MD_seed}
    seeds = {f"MD.{index}.MD_seed": one.MD_seed for index, one in md.items()}
    if len(set(seeds.values())) == 1:
        return {"MD.MD_seed": next(iter(seeds.values()))}
    return seeds


def _contents(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield key and digest of each file that decides labels or models: its name may stay."""
    reference = settings.reference
    known = kind_of(reference).identity_has_files
    named = {
        "REFERENCE": {} if known else reference.model_dump(mode="json"),
        f"{_AL}.initial_train_dataset": settings.al.initial_train_dataset,
        f"{_AL}.initial_valid_dataset": settings.al.initial_valid_dataset,
        "TRAINING.pretrained_model": settings.model.TRAINING.pretrained_model,
        "TRAINING.pretrained_weights": settings.model.TRAINING.pretrained_weights,
        "TRAINING.pt_train_file": settings.model.TRAINING.pt_train_file,
    }
    for key, value in _flat(named).items():
        if not isinstance(value, str | Path) or not str(value) or key.endswith(".command"):
            continue
        path = settings.directory / value
        if path.is_file():
            yield f"{key} (content)", sha256(path)[:16]


def _identity(settings: Settings, geometries: list[Atoms]) -> dict[str, Any]:
    """Return what identifies the method beside its keys in the settings, such as versions.

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
    """Return how frozen values differ from a record, which an older version may have written.

    A key that was free in the older version is compared too. A subject that the record does not
    have, such as a key of a later version, has not changed.
    """
    meant = {key: value for key, value in _MEANT.items() if key in now["frozen"]}
    was = meant | _by_key(before["free"]) | before["frozen"]
    known = {_subject(key) for key in was}
    today = {key: value for key, value in now["frozen"].items() if _subject(key) in known}
    gone = before["frozen"].keys() - _by_key(now["free"]).keys()
    found = _differences({key: was[key] for key in was if key in today or key in gone}, today)
    return [str(one) for one in found if not _is_of_a_key(one, found)]


def _is_of_a_key(one: _Difference, found: list[_Difference]) -> bool:
    """Whether a difference in what the engine says of itself is that of a key of REFERENCE too."""
    same = one._replace(key=one.key.replace(METHOD, "REFERENCE", 1))
    return one.key.startswith(METHOD) and same in found


def _by_key(free: dict[str, Any]) -> dict[str, Any]:
    """Take the file's name off the keys, as frozen ones are written."""
    return {name.partition(".yaml.")[2]: value for name, value in free.items()}


def _subject(key: str) -> str:
    """Return the subject of a key: a record has all keys of a subject, or its version had none."""
    section, _, rest = key.partition(".")
    return section if section in ("geometry", "MD") else f"{section}.{rest.partition('.')[0]}"


class _Difference(NamedTuple):
    """A key that has another value than before; the values as a reader sees them."""

    key: str
    was: str
    now: str

    def __str__(self) -> str:
        return f"{self.key}: was {self.was}, is {self.now}"


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[_Difference]:
    return [
        _Difference(key, _value_text(before, key, now), _value_text(now, key, before))
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]


def _value_text(settings: dict[str, Any], key: str, other: dict[str, Any]) -> str:
    """Return a value for a reader; of a text of several lines, the lines that the other has not.

    Where both have the same lines in another order, all lines are returned.
    """
    if key not in settings:
        return "not there"
    value, against = settings[key], other.get(key)
    if isinstance(value, str) and isinstance(against, str) and "\n" in value + against:
        lines, others = value.splitlines(), against.splitlines()
        own = [line.strip() for line in lines if line not in others]
        return value_text(own) if set(lines) != set(others) else value_text(lines)
    if isinstance(value, float) and value.is_integer():  # counts that may be infinite are floats
        return value_text(int(value))
    return value_text(value)
