"""The settings of the tutorial with FHI-aims, written over those of `aimspax init`."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from aimspax_core.errors import SettingsError
from aimspax_core.settings.derived.template import write_inputs
from aimspax_core.settings.load import load
from aimspax_core.settings.reading.mistakes import MistakeKind
from tests.docs.blocks import ROOT, blocks_of

PAGE = ROOT / "docs" / "tutorials" / "own-molecule.md"


def test_the_blocks_go_into_the_files_that_init_has_written(tmp_path: Path) -> None:
    """All that may be wrong is that folders of FHI-aims are not here."""
    (tmp_path / "molecule.xyz").write_text("2\nhydrogen\nH 0 0 0\nH 0 0 0.74\n")
    run = tmp_path / "molecule"
    write_inputs(run, [tmp_path / "molecule.xyz"], None, "aims")
    yaml = YAML()
    content = yaml.load(run / "aimsPAX.yaml")
    for block in (one for one in blocks_of(PAGE) if one.language == "yaml"):
        for section, keys in YAML(typ="safe").load(block.text).items():
            content.setdefault(section, {}).update(keys)
    yaml.dump(content, run / "aimsPAX.yaml")
    with pytest.raises(SettingsError) as found:
        load(run)
    assert {one.kind for one in found.value.mistakes} == {MistakeKind.NOT_THERE}
