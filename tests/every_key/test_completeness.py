"""Keys and what changes with them: no key is forgotten.

The test that shows what a key does says so itself, by the name of the section's class and the key:
`@pytest.mark.key("MD", "friction")`.
"""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from aimspax_core.settings import cluster, md, project
from aimspax_core.settings.known_engines import SECTIONS
from tests.conftest import KEYS
from tests.model.test_keys import NOT_OF_THE_MODEL

OF_THE_MODELS = "ModelSettings"
"""The section under which tests name keys of mace.yaml that tests/model/test_keys.py leaves out."""


def sections(schema: Any) -> set[type[BaseModel]]:
    """The models of a settings file, one inside the other, without the file's own."""
    found: set[type[BaseModel]] = set()
    for part_of in [schema, *get_args(schema)]:
        if isinstance(part_of, type) and issubclass(part_of, BaseModel):
            found |= {part_of}
            for field in part_of.model_fields.values():
                found |= sections(field.annotation)
        elif part_of is not schema:
            found |= sections(part_of)
    return found - {project.ProjectSettings}


@pytest.fixture
def shown(pytestconfig: pytest.Config) -> dict[str, set[str]]:
    """Keys that tests show, by section; only the whole suite has them all."""
    if pytestconfig.args != pytestconfig.getini("testpaths"):
        pytest.skip("only where all tests are collected")
    return pytestconfig.stash[KEYS]


@pytest.mark.parametrize(
    "section", sorted(sections(project.ProjectSettings), key=lambda s: s.__name__)
)
def test_every_key_has_a_test_that_shows_what_it_does(
    section: type[BaseModel], shown: dict[str, set[str]]
) -> None:
    assert shown.get(section.__name__, set()) == set(section.model_fields)


def test_every_key_of_the_models_has_a_test_that_shows_what_it_does(
    shown: dict[str, set[str]],
) -> None:
    assert shown[OF_THE_MODELS] == NOT_OF_THE_MODEL


def test_no_test_shows_keys_of_a_section_that_is_not_there(shown: dict[str, set[str]]) -> None:
    known = {section.__name__ for section in sections(project.ProjectSettings)}
    assert set(shown) == known | {OF_THE_MODELS}


@pytest.mark.key("MD", "thermostat")
@pytest.mark.key("MlBlocks", "nodes_per_block")
@pytest.mark.parametrize(("section", "key", "refused"), [
    (md.MD, "thermostat", "berendsen"),
    (cluster.MlBlocks, "nodes_per_block", 2),
    *((engine, "engine", "other") for engine in SECTIONS),
])  # fmt: skip
def test_keys_with_one_value_leave_no_choice(
    section: type[BaseModel], key: str, refused: object
) -> None:
    (only,) = get_args(section.model_fields[key].annotation)
    with pytest.raises(ValidationError) as caught:
        section.model_validate({key: refused})
    assert any(error["loc"] == (key,) for error in caught.value.errors())
    with pytest.raises(ValidationError) as caught:
        section.model_validate({key: only, "unknown": 1})
    assert not any(error["loc"] == (key,) for error in caught.value.errors())
