"""The page on all settings is told by the models, and complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from aimspax_core.settings.derived.reference_page import page
from aimspax_core.settings.frozen import FROZEN
from aimspax_core.settings.model import ModelSettings
from aimspax_core.settings.original import keys
from aimspax_core.settings.project import ProjectSettings
from aimspax_core.settings.reading.wording import fields_of

PAGE = Path(__file__).parents[3] / "docs" / "settings.md"


def test_the_page_in_docs_is_the_one_of_these_models():
    renew = "python -m aimspax_core.settings.derived.reference_page > docs/settings.md"
    assert PAGE.read_text(encoding="utf-8") == page(), f"renew it: {renew}"


@pytest.mark.parametrize(
    ("schema", "section"),
    [(schema, name) for schema in (ProjectSettings, ModelSettings) for name in schema.model_fields],
)
def test_every_key_is_on_the_page(schema, section):
    text = page()
    assert f"### {section}\n" in text
    for key in fields_of(schema.model_json_schema(), section):
        assert f"| `{key}` " in text, key


def test_every_key_has_its_meaning_as_a_sentence():
    rows = [line for line in page().splitlines() if line.startswith("| `") and "|" in line]
    for row in rows:
        key, *_, meaning = [cell.strip() for cell in row.strip("| ").split(" | ")]
        assert meaning, key
        assert meaning.endswith("."), row


@pytest.mark.parametrize("others", [keys.PROJECT, keys.MODEL], ids=["project", "model"])
def test_keys_that_are_not_honoured_are_on_the_page(others):
    text = page()
    for section, key in (*others.renamed, *others.moved, *others.ignored):
        assert f"`{section}.{key}`" in text
    for pattern in (*others.refused, *others.refused_sections):
        assert f"`{pattern}`" in text


def test_what_is_frozen_is_on_the_page():
    text = page()
    assert all(f"`{pattern}`" in text for _, pattern, _ in FROZEN)


def test_mandatory_keys_are_marked():
    assert "| `num_trajectories` \\* | a whole number of at least 1 | mandatory |" in page()
