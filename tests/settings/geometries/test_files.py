"""Geometry files: read in any format, with clear errors."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from aimspax_core.errors import StructureError
from aimspax_core.settings.geometries.files import read_geometries
from aimspax_core.settings.geometries.folders import geometry_files
from aimspax_core.structures import decode, encode

# ---- reading --------------------------------------------------------------------------------


def test_geometries_come_in_the_order_of_the_files_named(tmp_path: Path) -> None:
    for name, formula in (("b.xyz", "CO2"), ("a.xyz", "H2O")):
        ase.io.write(tmp_path / name, molecule(formula))
    found = read_geometries([tmp_path / "b.xyz", tmp_path / "a.xyz"])
    assert [atoms.get_chemical_formula() for atoms in found] == ["CO2", "H2O"]


def test_the_last_frame_of_a_file_counts(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "all.xyz", [molecule("H2O"), molecule("CO2")])
    (atoms,) = read_geometries([tmp_path / "all.xyz"])
    assert atoms.get_chemical_formula() == "CO2"


def test_moments_and_charges_of_an_aims_geometry_stay(tmp_path: Path) -> None:
    (tmp_path / "geometry.in").write_text(
        "lattice_vector 4.0 0 0\nlattice_vector 0 4.0 0\nlattice_vector 0 0 4.0\n"
        "atom 0 0 0 Fe\n  initial_moment 2.5\natom 2 2 2 O\n  initial_charge -1.0\n",
        encoding="utf-8",
    )
    (atoms,) = read_geometries([tmp_path / "geometry.in"])
    assert atoms.pbc.all()
    assert atoms.get_initial_magnetic_moments().tolist() == [2.5, 0.0]
    assert atoms.get_initial_charges().tolist() == [0.0, -1.0]
    assert encode(atoms)["initial_magmoms"] == [2.5, 0.0]


def test_labels_in_a_geometry_file_are_left_behind(tmp_path: Path) -> None:
    atoms = bulk("Cu")
    atoms.info["energy"] = -1.0
    atoms.arrays["forces"] = np.ones((1, 3))
    ase.io.write(tmp_path / "cu.xyz", atoms)
    (found,) = read_geometries([tmp_path / "cu.xyz"])
    assert found.calc is None
    assert encode(found) == encode(bulk("Cu"))


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("missing.xyz", None, "no such file"),
        ("empty.xyz", "", "the file is empty"),
        ("text.xyz", "a shopping list", "first line is not the number of atoms"),
        ("geometry.in", "lattice_vector 1 0 0\n", "geometry"),
        ("none.xyz", "0\n\n", "no atoms"),
        ("nan.xyz", "1\n\nH 0 0 nan\n", "not a finite number"),
        ("unknown.xyz", "1\n\nX 0 0 0\n", "no chemical element"),
    ],
)
def test_what_is_no_geometry_is_named(
    tmp_path: Path, name: str, content: str | None, text: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(StructureError, match=text) as found:
        read_geometries([tmp_path / name])
    assert str(tmp_path / name) in str(found.value)


def test_every_bad_file_is_named(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "a.xyz", molecule("H2O"))
    (tmp_path / "b.txt").write_text("notes", encoding="utf-8")
    (tmp_path / "c.xyz").write_text("0\n\n", encoding="utf-8")
    with pytest.raises(StructureError) as found:
        read_geometries(geometry_files(tmp_path))
    first, second = str(found.value).splitlines()
    assert first.startswith(f"{tmp_path / 'b.txt'}: cannot be read as a geometry")
    assert second == f"{tmp_path / 'c.xyz'}: the geometry holds no atoms"


def test_masses_and_the_kind_of_a_structure_are_carried(tmp_path):
    atoms = Atoms("H2O", [(0, 0, 0), (0, 0, 1), (0, 1, 0)], masses=[2.014, 2.014, 15.999])
    atoms.info["config_type"] = "heavy"
    ase.io.write(tmp_path / "d2o.xyz", atoms)
    (found,) = read_geometries([tmp_path / "d2o.xyz"])
    assert found.get_masses().tolist() == [2.014, 2.014, 15.999]
    assert decode(encode(found)).info["config_type"] == "heavy"
