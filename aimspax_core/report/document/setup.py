"""What was run: settings that are not the defaults, seeds, structures, versions, machines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from aimspax_core.report.document import contents
from aimspax_core.report.document.source import Source
from aimspax_core.report.plan import plan
from aimspax_core.run_directory import RunDir
from aimspax_core.sampling.dynamics import describe
from aimspax_core.settings.derived.yaml_text import value_yaml
from aimspax_core.settings.geometries.held_atoms import held_text
from aimspax_core.settings.settings import Settings
from aimspax_core.structures import symbols_text

MANDATORY = "(no default)"


def setup(source: Source, machines: Mapping[str, int]) -> contents.Setup:
    """Return what was run.

    Args:
        source: The campaign.
        machines: Hosts that computed labels, and how many.
    """
    settings, rules = source.settings, source.state.rules
    numbers = {int(z) for atoms in source.geometries for z in atoms.numbers}
    md = settings.project.MD
    sections = list(md.values()) if isinstance(md, dict) else [md]
    return contents.Setup(
        reference=settings.reference.engine_text,
        family=settings.model.family.example.called or settings.model.family.name,
        members=dict(source.seeds),
        general_seed=settings.model.GENERAL.seed,
        md_seeds=sorted({one.MD_seed for one in sections}),
        elements=symbols_text(numbers).split(", "),
        geometries=[_geometry(source, index) for index in range(len(source.geometries))],
        plan=plan(settings, list(source.geometries), rules.tags),
        changed=list(changed(settings)),
        held_out_set=rules.assessed,
        versions=versions_of_run(source.run),
        machines=dict(machines),
        notes=list(settings.notes),
    )


def changed(settings: Settings) -> Iterator[contents.Change]:
    """Yield the settings whose values are not the defaults, in the order of the sections."""
    for file, path, value, default in _resolved(settings):
        if value != default:
            yield contents.Change(file=file, key=path, value=value, default=default)


def resolved(settings: Settings) -> dict[str, str]:
    """Return the values of all settings, defaults too, by key."""
    return {path: value for _, path, value, _ in _resolved(settings)}


def _resolved(settings: Settings) -> Iterator[tuple[str, str, str, str]]:
    """Yield file, key, value and default of each setting."""
    files = (
        (settings.project_places.file, settings.project),
        (settings.model_places.file, settings.model),
    )
    for file, sections in files:
        for path, value, default in _values(sections, ()):
            yield file, ".".join(path), value, default


def versions_of_run(run: RunDir) -> dict[str, str]:
    """Return the versions that a campaign was last run with; nothing if they cannot be read."""
    try:
        found = json.loads(run.settings.read_text(encoding="utf-8")).get("versions", {})
    except (OSError, ValueError, AttributeError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(name): str(version) for name, version in found.items()}


def _geometry(source: Source, index: int) -> contents.Geometry:
    atoms, settings = source.geometries[index], source.settings
    axes = "".join(axis for axis, is_so in zip("abc", atoms.pbc, strict=True) if is_so)
    held = settings.held_atoms(index)
    charge, multiplicity = source.electrons_of(index)
    return contents.Geometry(
        index=index,
        file=settings.geometry_files[index].name,
        formula=atoms.get_chemical_formula(),
        atoms=len(atoms),
        periodic=axes or "-",
        volume_A3=float(atoms.get_volume()) if atoms.pbc.all() else None,
        charge=charge,
        multiplicity=multiplicity,
        dynamics=describe(settings.md_section(index)),
        held=held_text(held) if held else "",
    )


def _values(
    section: BaseModel, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Yield key, value and default of each field, those of sections inside sections too."""
    known = dict(section)
    for name, field in type(section).model_fields.items():
        value, here = known[name], (*path, name)
        parts = _parts(value)
        if parts:
            for key, inner in parts:
                yield from _values(inner, (*here, *key))
        elif field.is_required():
            yield here, value_yaml(_plain(value)), MANDATORY
        else:
            default = _plain(_default(field, known))
            yield here, value_yaml(_plain(value)), value_yaml(default)


def _parts(value: Any) -> list[tuple[tuple[str, ...], BaseModel]]:
    """Return the sections that a value is made of, with the keys that lead to them."""
    if isinstance(value, BaseModel):
        return [((), value)]
    if isinstance(value, dict) and value and all(isinstance(v, BaseModel) for v in value.values()):
        return [((str(key),), inner) for key, inner in value.items()]
    return []


def _default(field: FieldInfo, known: dict[str, Any]) -> Any:
    return field.get_default(call_default_factory=True, validated_data=known)


def _plain(value: Any) -> Any:
    """Return a value as YAML has it."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list | set | frozenset):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)  # 8.0 and the default 8 are the same
    return value
