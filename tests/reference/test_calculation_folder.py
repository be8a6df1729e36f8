"""Folders of calculations: what was computed stays until it is stored."""

from __future__ import annotations

from pathlib import Path

import pytest
from ase.build import molecule

from aimspax_core.errors import LabelError
from aimspax_core.reference.calculation_folder import FAILED, calculation_folder, held


def compute(parent: Path, clean: bool = True) -> Path:
    with calculation_folder(parent, molecule("H2O"), clean) as folder:
        (folder / "output").write_text("forces")
    return folder


def test_the_folder_of_a_good_calculation_goes_with_the_calculation(tmp_path: Path) -> None:
    assert not compute(tmp_path).exists()
    assert compute(tmp_path, clean=False).exists()


def test_it_stays_until_what_it_is_needed_for_has_ended_well(tmp_path: Path) -> None:
    with held():
        folder = compute(tmp_path)
        assert (folder / "output").exists()
    assert not folder.exists()


def test_it_stays_with_the_reason_if_that_fails(tmp_path: Path) -> None:
    with pytest.raises(LabelError) as found, held():
        folder = compute(tmp_path)
        raise LabelError("refused by the gate")
    assert "refused by the gate" in (folder / FAILED).read_text()
    assert str(folder) in found.value.__notes__[0]


def test_after_that_folders_go_at_once_again(tmp_path: Path) -> None:
    with pytest.raises(LabelError), held():
        raise LabelError("no")
    assert not compute(tmp_path).exists()
