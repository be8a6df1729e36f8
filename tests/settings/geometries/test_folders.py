"""Folders of geometries: files that count, and files that are something else."""

from __future__ import annotations

from pathlib import Path

import ase.io
import pytest
from ase.build import molecule

from aimspax_core.errors import StructureError
from aimspax_core.settings.geometries.folders import geometry_files, other_files


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    for name, formula in (("b.xyz", "CO2"), ("a.xyz", "H2O"), ("c.xyz", "CH4")):
        ase.io.write(tmp_path / name, molecule(formula))
    (tmp_path / ".hidden.xyz").write_text("not a geometry", encoding="utf-8")
    (tmp_path / "subfolder").mkdir()
    assert [path.name for path in geometry_files(tmp_path)] == ["a.xyz", "b.xyz", "c.xyz"]


def test_a_file_is_its_own_only_geometry_file(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").touch()
    assert geometry_files(tmp_path / "a.xyz") == [tmp_path / "a.xyz"]


def test_an_empty_folder_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match="holds no geometry files"):
        geometry_files(tmp_path)


def test_a_path_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match="no such file or folder"):
        geometry_files(tmp_path / "missing.xyz")


OTHERS = ["README.md", "README", "a.xyz~", "#a.xyz#", "a.xyz.bak", "plot.png", "control.in"]


def test_a_folder_may_hold_what_is_no_geometry_by_its_name(tmp_path: Path) -> None:
    mine = ["a.xyz", "b@300K.cif", "geometry.in.0300K", "POSCAR"]
    for name in (*OTHERS, *mine):
        (tmp_path / name).touch()
    assert {path.name for path in geometry_files(tmp_path)} == set(mine)
    assert {path.name for path in other_files(tmp_path)} == set(OTHERS)


def test_a_folder_of_other_files_alone_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "README.md").touch()
    with pytest.raises(StructureError, match=r"holds no geometry files.*README\.md"):
        geometry_files(tmp_path)


@pytest.mark.parametrize("name", ["POSCAR.orig", "POSCAR.bak", "CONTCAR.tmp"])
def test_a_copy_that_is_a_geometry_by_its_name_counts(tmp_path: Path, name: str) -> None:
    """Campaigns of releases before have it among their geometries."""
    for one in (name, "a.xyz.orig", "geometry.in.bak"):
        (tmp_path / one).touch()
    assert [path.name for path in geometry_files(tmp_path)] == [name]
