"""The page `docs/settings.md`: every key with type, default and meaning, from the models.

`python -m aimspax_core.settings.derived.reference_page > docs/settings.md` renews it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel

from aimspax_core.settings.cluster import Blocks, MlBlocks, MlPool
from aimspax_core.settings.derived.yaml_text import value_yaml
from aimspax_core.settings.engines import FoundationalModel, Teacher
from aimspax_core.settings.families.known_families import FAMILIES
from aimspax_core.settings.frozen import FREE_WITHIN, FROZEN
from aimspax_core.settings.known_engines import SECTIONS
from aimspax_core.settings.md import MD
from aimspax_core.settings.model import ModelSettings
from aimspax_core.settings.original import keys
from aimspax_core.settings.project import ProjectSettings
from aimspax_core.settings.reading.wording import allowed_text, resolved
from aimspax_core.settings.samples import Rattle
from aimspax_core.settings.values import Section
from aimspax_core.stopping.rule import Stage
from aimspax_core.stopping.table import rules_of
from aimspax_core.text import or_list

BEGIN = """\
# Settings

<!-- Generated: python -m aimspax_core.settings.derived.reference_page > docs/settings.md -->

A run directory holds two settings files, in the spelling of aims-PAX: `aimsPAX.yaml` (the campaign)
and `mace.yaml`, or `model.yaml` (the models). Files of both of its generations are read as they
are. `aimspax check` reads them, tells every mistake with its line, and what would run.

- Keys marked \\* are mandatory. So are the sections MD, REFERENCE (unless a phase names a teacher,
  or the species of FHI-aims) and one of the phases INITIAL_DATASET_GENERATION and ACTIVE_LEARNING
  of `aimsPAX.yaml`, and GENERAL of `mace.yaml`. A phase without a section is not run; active
  learning alone begins from
  the models in `model_dir` and their datasets.
- A phase needs an end. INITIAL_DATASET_GENERATION is ended by
  {initial}: at least one is needed.
  ACTIVE_LEARNING is ended by {active};
  without one of them it runs until it is stopped. Both are also ended by
  {campaign} of BUDGET.
- A key that is not on this page is a mistake.
- No limit is written `inf`, `np.inf` or `.inf`; nothing is `null`.
- Paths are relative to the run directory; `~` is the home folder.
- The case of a value does not matter where it is one of several names: `NVT` is `nvt`, except for
  names of the methods of an engine, of number formats and of MACE's classes.
"""

ELSEWHERE = """\
## Settings from the command line and the environment

`--set SECTION.key=value` (any number of them) replaces one value of either file for one call:

```console
$ aimspax run --set ACTIVE_LEARNING.c_x=-0.1 --set MISC.device=cuda
```

An environment variable `AIMSPAX_SECTION__KEY` (two underscores, any case) does so for every call,
as a site may want it:

```bash
export AIMSPAX_MISC__DEVICE=cuda
export AIMSPAX_MD__0__TEMPERATURE=400     # MD of geometry 0
```

Values are read as YAML. `--set` holds before the environment, the environment before the files.
Both reach keys inside keys (`CLUSTER.ml.max_workers`, `AIMSPAX_CLUSTER__ML__MAX_WORKERS`), and the
section MISC of either file: each key goes where it belongs. A mistake in one of them is told as
one of `override` or `environment`.
"""

RESTART = """\
## What may change between restarts

A campaign that is taken up again reads its settings anew. What decides its labels and models is
frozen: a change is refused, naming old and new. Frozen are the start geometries, and these (`*` is
any text):

{frozen}

The content of the files that REFERENCE and the datasets name is frozen too. {within}

Everything else is free, and a change is noted in the journal: stopping rules, `c_x`, epochs,
patience, the temperature and all else of MD, logging, CLUSTER, the device. To change what is
frozen, begin anew with `--fresh`; the earlier campaign is kept, and labels of the same structures
by the same reference are used again.
"""

_CASES: dict[str, Mapping[str, type[Section]]] = {
    "REFERENCE": {f"`engine: {section.engine_name()}`": section for section in SECTIONS},
    "MD": {"": MD},
    "ARCHITECTURE": {f"`model_choice: {row.name}`": row.architecture for row in FAMILIES},
}
"""Sections that follow one of several models."""

_INSIDE: dict[str, Mapping[str, type[Section]]] = {
    "INITIAL_DATASET_GENERATION": {
        "`foundational_model_settings`, here and in ACTIVE_LEARNING": FoundationalModel,
        "`teacher_reference_settings`, here and in ACTIVE_LEARNING": Teacher,
        "`rattle`, here and in ACTIVE_LEARNING": Rattle,
    },
    "CLUSTER": {"`blocks`": Blocks, "`ml`": MlPool, "`ml.blocks`": MlBlocks},
}
"""Sections inside a section."""

_PROJECT_ORDER = (
    *("REFERENCE", "INITIAL_DATASET_GENERATION", "ACTIVE_LEARNING", "MD", "CLUSTER"),
    *("GATE", "BUDGET", "MISC"),
)


class _File(NamedTuple):
    name: str
    schema: type[BaseModel]
    others: keys.OtherKeys
    sections: tuple[str, ...]


_FILES = (
    _File("aimsPAX.yaml", ProjectSettings, keys.PROJECT, _PROJECT_ORDER),
    _File("mace.yaml", ModelSettings, keys.MODEL, tuple(ModelSettings.model_fields)),
)


def page() -> str:
    """Return the whole page as Markdown."""
    ends: dict[Stage, str] = {
        stage: or_list(f"`{rule.key.name}`" for rule in rules_of(stage))
        for stage in ("initial", "active", "campaign")
    }
    parts = [BEGIN.format(**ends)]
    for file in _FILES:
        parts.append(f"## {file.name}\n")
        parts += [part for section in file.sections for part in _section(file, section)]
    parts += [*_other_keys(), ELSEWHERE, _restart()]
    return "\n".join(parts)


def _section(file: _File, name: str) -> Iterator[str]:
    yield f"### {name}\n"
    if name in _CASES:
        models = _CASES[name]
    else:
        annotation = file.schema.model_fields[name].annotation
        models = {"": next(m for m in _models(annotation))}
    for title, model in models.items():
        yield from _table(title, model)
    for title, model in _INSIDE.get(name, {}).items():
        yield from _table(title, model)


def _models(annotation: Any) -> Iterator[type[Section]]:
    """Yield the models in a type such as `Cluster | None`."""
    parts = getattr(annotation, "__args__", (annotation,))
    yield from (part for part in parts if isinstance(part, type) and issubclass(part, Section))


def _table(title: str, model: type[Section]) -> Iterator[str]:
    if title:
        yield f"#### {title}\n"
    yield _manual(model)
    schema = model.model_json_schema()
    rows = []
    for key, node in schema["properties"].items():
        needed = key in schema.get("required", ())
        default = "mandatory" if needed else _default(model, key)
        rows.append((not needed, (_key(key, needed), _type(node, schema), default, _about(node))))
    yield _markdown(
        ("Key", "Type or values", "Default", "Meaning"),
        (row for _, row in sorted(rows, key=lambda row: row[0])),
    )


def _key(key: str, needed: bool) -> str:
    return f"`{key}` \\*" if needed else f"`{key}`"


def _manual(model: type[Section]) -> str:
    """Return the docstring of a model; what it begins with is the heading already."""
    text = " ".join((model.__doc__ or "").split())
    heading = re.match(r"\w+( with)?( `[^`]*`)?: |`[^`]*`: ", text)
    if heading:
        text = text[heading.end() :]
    return text[0].upper() + text[1:] + "\n"


def _type(node: dict[str, Any], schema: dict[str, Any]) -> str:
    inner = resolved(node, schema)
    if "discriminator" in inner:
        return "a section like REFERENCE"
    if "properties" in inner:
        return "a section, see below"
    if "enum" in inner and "allowed" not in inner:
        return or_list(f"`{name}`" for name in inner["enum"])
    if "const" in inner:
        return f"`{inner['const']}`"
    return allowed_text(node, schema, quotes=False)


def _default(model: type[Section], key: str) -> str:
    value = model.model_fields[key].get_default(call_default_factory=True, validated_data={})
    if value is None or value in ("", {}):
        return "—"
    if isinstance(value, Section):
        return "its defaults"
    return f"`{value_yaml(value)}`"


def _about(node: dict[str, Any]) -> str:
    return str(node.get("description", ""))


def _other_keys() -> Iterator[str]:
    yield "## Keys with another effect, or none\n"
    renamed = [
        (file.name, f"`{section}.{old}`", f"`{new}`")
        for file in _FILES
        for (section, old), new in file.others.renamed.items()
    ]
    yield "### Second names\n"
    yield _markdown(("File", "Key", "Is read as"), renamed)
    moved = [
        (file.name, f"`{section}.{old}`", f"`REFERENCE.{new.key}`", _engines(new.engines))
        for file in _FILES
        for (section, old), new in file.others.moved.items()
    ]
    yield "### The original's places of keys of REFERENCE\n"
    yield "With another engine than these they have no effect, and get a note.\n"
    yield _markdown(("File", "Key", "Is read as", "Of"), moved)
    yield "### Accepted, without effect\n"
    yield "Each gets one note.\n"
    within = {("CLUSTER.blocks", key): keys.NO_PARSL for key in keys.PARSL_OPTIONS}
    ignored = _grouped(
        ((file.name, why), f"`{section}.{key}`")
        for file, inner in zip(_FILES, (within, {}), strict=True)
        for (section, key), why in (inner | dict(file.others.ignored)).items()
    )
    yield _markdown(("File", "Key", "Because"), ((f, k, why) for (f, why), k in ignored))
    yield "### Refused\n"
    yield "Switched off (`False` or `null`) a key is accepted with a note. `*` is any text.\n"
    refused = _grouped(_refused())
    yield _markdown(("File", "Key or value", "Because"), ((f, k, why) for (f, why), k in refused))


def _engines(names: tuple[str, ...]) -> str:
    return or_list(f"`engine: {name}`" for name in names)


def _refused() -> Iterator[tuple[tuple[str, str], str]]:
    for file in _FILES:
        for name, why in (*file.others.refused_sections.items(), *file.others.refused.items()):
            yield (file.name, why), f"`{name}`"
        for (section, key), values in file.others.refused_values.items():
            for value, why in values.items():
                yield (file.name, why), f"`{section}.{key}: {value}`"


def _restart() -> str:
    frozen = _grouped(((file, why), f"`{pattern}`") for file, pattern, why in FROZEN)
    table = _markdown(("File", "Keys", "Because"), ((f, k, why) for (f, why), k in frozen))
    free = or_list(f"`{key}`" for key in FREE_WITHIN)
    return RESTART.format(frozen=table.rstrip(), within=f"Of these keys, {free} is free.")


def _grouped(
    rows: Iterable[tuple[tuple[str, str], str]],
) -> list[tuple[tuple[str, str], str]]:
    """Join the keys that have the same reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for reason, key in rows:
        found.setdefault(reason, []).append(key)
    return [(reason, ", ".join(names)) for reason, names in found.items()]


def _markdown(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    cells = (tuple(cell.replace("|", "\\|") for cell in line) for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


if __name__ == "__main__":
    sys.stdout.write(page())
