"""Every YAML block of README and docs is read by the settings' own parser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from aimspax_core.errors import SettingsError
from aimspax_core.settings.load import load
from aimspax_core.settings.model import ModelSettings
from aimspax_core.settings.project import ProjectSettings
from aimspax_core.settings.reading.mistakes import MistakeKind
from aimspax_core.settings.settings import Settings
from tests.docs.blocks import Block, blocks

BLOCKS = [one for one in blocks("yaml") if not one.for_a_copy and one.run_by is None]

BESIDE: dict[str, dict[str, Any]] = {
    "REFERENCE": {"engine": "tblite"},
    "INITIAL_DATASET_GENERATION": {"n_points_per_sampling_step_idg": 5, "desired_acc": 0.1},
    "ACTIVE_LEARNING": {"num_trajectories": 8, "desired_acc": 0.1},
    "MD": {"stat_ensemble": "NVT"},
    "GENERAL": {"name_exp": "mine"},
}
"""What surrounds a block in a run directory: sections and keys that are mandatory."""


def read(text: str, directory: Path) -> Settings:
    """Read a block as the part of a run directory's settings that it is."""
    content = YAML(typ="safe").load(text)
    project, model = ({*file.model_fields} for file in (ProjectSettings, ModelSettings))
    names = ("mace.yaml", "aimsPAX.yaml")
    mine = content.keys() <= model and not content.keys() <= project
    (directory / names[not mine]).write_text(text)
    (directory / names[mine]).write_text("")
    return load(directory, dict(_what_is_missing(content)))


def _what_is_missing(content: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    first, cluster = (content.get(name) or {} for name in ("INITIAL_DATASET_GENERATION", "CLUSTER"))
    aims = "launch_str" in cluster and "REFERENCE" not in content
    for section, keys in BESIDE.items():
        said = content.get(section) or {}
        if section == "REFERENCE" and (said or aims):
            continue  # it is whole
        if section == "MD" and any(isinstance(key, int) for key in said):
            continue  # by geometry
        yield from ((f"{section}.{key}", value) for key, value in keys.items() if key not in said)
    if aims and "species_dir" not in first:
        yield "INITIAL_DATASET_GENERATION.species_dir", "species"


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_the_block_is_understood(block: Block, tmp_path: Path) -> None:
    """Files that it names are the reader's: that they are not here is all that may be wrong."""
    try:
        read(block.text, tmp_path)
    except SettingsError as error:
        assert {one.kind for one in error.mistakes} <= {MistakeKind.NOT_THERE}, error


@pytest.mark.parametrize("block", BLOCKS[:1], ids=lambda block: block.place)
def test_a_misspelt_key_in_a_block_would_be_found(block: Block, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="unknown key"):
        read(block.text.rstrip() + "\n  misspelt: 1\n", tmp_path)
