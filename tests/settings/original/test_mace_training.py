"""Keys of MACE's own training files are refused with what takes their place here."""

from __future__ import annotations

import importlib.util
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from aimspax_core.settings.model import ModelSettings
from aimspax_core.settings.original.mace_training import REPLACED, replaced_by
from aimspax_core.settings.project import ProjectSettings
from aimspax_core.settings.reading.mistakes import MistakeKind
from aimspax_core.settings.reading.wording import fields_of, schema_of
from tests.settings_files import SettingsFiles

SCHEMAS = [schema_of(ProjectSettings), schema_of(ModelSettings)]
OURS = {
    (section, key)
    for schema in SCHEMAS
    for section in schema["properties"]
    for key in fields_of(schema, section)
}


def maces() -> set[str]:
    """The keys of a file for `mace_run_train`, by its source: to import it takes torch."""
    spec = importlib.util.find_spec("mace")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    source = Path(spec.submodule_search_locations[0]) / "tools" / "arg_parser.py"
    return set(re.findall(r'"--(\w+)"', source.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", REPLACED)
def test_the_table_is_of_keys_of_mace_that_have_another_name_here(name: str) -> None:
    of_mace = {key for key in maces() if fnmatchcase(key, name)}
    assert of_mace
    assert not of_mace & {key for _, key in OURS}


@pytest.mark.parametrize("name", REPLACED)
def test_what_takes_their_place_exists(name: str) -> None:
    named = re.findall(r"\b([A-Z_]{4,})\.(\w+)", REPLACED[name])
    assert set(named) <= OURS


@pytest.mark.parametrize("section", ["TRAINING", "ARCHITECTURE", "GENERAL"])
@pytest.mark.parametrize("key", ["E0s", "hidden_irreps", "max_num_epochs", "stage_two_lr"])
def test_such_a_key_is_told_with_what_takes_its_place(
    inputs: SettingsFiles, section: str, key: str
) -> None:
    inputs.plant("mace.yaml", section, key, "7")
    (mistake,) = inputs.found()
    assert (mistake.kind, mistake.key) == (MistakeKind.UNKNOWN_KEY, f"{section}.{key}")
    assert str(replaced_by(key)) in mistake.text


def test_a_file_of_maces_own_without_sections_is_told_key_by_key(inputs: SettingsFiles) -> None:
    inputs.model |= {"E0s": "average", "r_max": "5.0", "energy_key": "energy"}  # type: ignore[dict-item]
    found = {mistake.key: mistake for mistake in inputs.found()}
    assert str(replaced_by("E0s")) in found["E0s"].text
    assert (found["r_max"].kind, found["energy_key"].kind) == (MistakeKind.MISPLACED,) * 2
    assert found["r_max"].why == "it belongs in ARCHITECTURE"
    assert found["energy_key"].why == "it belongs in MISC of aimsPAX.yaml"


def test_a_key_of_the_other_file_is_told_with_its_section(inputs: SettingsFiles) -> None:
    inputs.plant("aimsPAX.yaml", "ACTIVE_LEARNING", "lr", "0.01")
    (mistake,) = inputs.found()
    assert (mistake.kind, mistake.why) == (
        MistakeKind.MISPLACED,
        "it belongs in TRAINING of mace.yaml",
    )
