"""A settings file in which every key is there and explained, set or commented out at its default.

What is said of a key is the settings models' own description, so that it cannot differ from what
holds.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from aimspax_core.settings.derived.yaml_text import value_yaml

WIDTH, COLUMN = 99, 40
"""The longest line, and where the meaning of a key begins."""


@dataclass(frozen=True)
class Explained:
    """A section of a settings file.

    Attributes:
        schema: The section's model, whose keys these are.
        hint: What the section is about, in a few words.
        chosen: The keys that are set, in their order.
        left_out: Keys that are not written.
    """

    schema: type[BaseModel]
    hint: str
    chosen: Mapping[str, Any] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()


def explained_yaml(title: Sequence[str], sections: Mapping[str, Explained]) -> str:
    """Return the text of a settings file.

    Args:
        title: Paragraphs at its beginning.
        sections: By name; one that sets no key is commented out as a whole.
    """
    lines = [line for paragraph in title for line in _wrapped(paragraph)]
    for name, section in sections.items():
        head = f"{name}:" if section.chosen else f"# {name}:"
        lines += ["", *_explained(head, section.hint), *_keys(section)]
    return "\n".join(lines) + "\n"


def _keys(section: Explained) -> Iterator[str]:
    """Yield the keys that are set, in their own order, then the others at their defaults."""
    fields, chosen = section.schema.model_fields, section.chosen
    for key, value in chosen.items():
        yield from _key("  ", key, value, fields[key])
    for key, field_info in fields.items():
        if key not in chosen and key not in section.left_out:
            default = field_info.get_default(call_default_factory=True)
            yield from _key("  # " if chosen else "#   ", key, default, field_info)


def _key(indent: str, key: str, value: Any, field: FieldInfo) -> Iterator[str]:
    if not isinstance(value, BaseModel):
        yield from _explained(f"{indent}{key}: {value_yaml(value)}", _meaning(field))
        return
    yield from _explained(f"{indent}{key}:", _meaning(field))
    for inner, inner_field in type(value).model_fields.items():
        yield from _key(f"{indent}  ", inner, getattr(value, inner), inner_field)


def _meaning(field: FieldInfo) -> str:
    """The description, and what may be chosen if it does not say so itself."""
    text = (field.description or "").replace("`", "").rstrip(".")
    names = [str(choice) for choice in _choices(field.annotation)]
    choices = ", ".join(names)
    if not names or len(choices) > WIDTH - COLUMN or names[0].lower() in text.lower():
        return text
    return f"{text} ({choices})"


def _choices(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Literal:
        found = list(get_args(annotation))
        return found if len(found) > 1 else []
    return [choice for inner in get_args(annotation) for choice in _choices(inner)]


def _explained(line: str, text: str) -> Iterator[str]:
    """Yield a line with its meaning to the right, on as many lines as that takes."""
    first, *others = _lines(text, WIDTH - COLUMN - 2) or [""]
    if not first:
        yield line
    elif len(line) < COLUMN:
        yield f"{line:<{COLUMN}}# {first}"
    else:
        yield line
        others.insert(0, first)
    for other in others:
        yield f"{'':<{COLUMN}}# {other}"


def _wrapped(text: str) -> list[str]:
    return [f"# {line}" for line in _lines(text, WIDTH - 2)]


def _lines(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)
