"""Structures: exact as JSON, and read with clear errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aimspax_core.errors import StructureError
from aimspax_core.labels.store import label_key
from aimspax_core.structures import decode, digest, encode, geometry_files, read_geometries

numbers = st.floats(-1e6, 1e6, allow_nan=False)


@given(
    positions=arrays(float, (3, 3), elements=numbers),
    cell=arrays(float, (3, 3), elements=numbers),
    magmoms=arrays(float, (3,), elements=numbers),
    charges=arrays(float, (3,), elements=numbers),
    pbc=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    info=st.fixed_dictionaries({}, optional={"charge": numbers, "spin": numbers}),
)
def test_structures_come_back_from_json_to_the_last_bit(
    positions: Any, cell: Any, magmoms: Any, charges: Any, pbc: Any, info: dict[str, float]
) -> None:
    atoms = Atoms("OH2", positions, cell=cell, pbc=pbc, info=info)
    atoms.set_initial_magnetic_moments(magmoms)
    atoms.set_initial_charges(charges)
    back = decode(json.loads(json.dumps(encode(atoms))))
    assert back.positions.tobytes() == atoms.positions.tobytes()
    assert back.cell.array.tobytes() == atoms.cell.array.tobytes()
    for name in ("initial_magmoms", "initial_charges", "numbers"):
        np.testing.assert_array_equal(back.arrays[name], atoms.arrays[name])
    assert (back.pbc == atoms.pbc).all()
    assert back.info == info
    assert encode(back) == encode(atoms)


def test_what_is_not_set_stays_unset() -> None:
    back = decode(encode(molecule("H2O")))
    assert set(back.arrays) == {"numbers", "positions"}
    assert back.info == {}


def test_momenta_tags_and_notes_make_no_structure() -> None:
    atoms = molecule("H2O")
    atoms.set_momenta(np.ones((3, 3)))
    atoms.set_tags([1, 2, 3])
    atoms.info["source"] = "a paper"
    assert encode(atoms) == encode(molecule("H2O"))


def test_digest_does_not_see_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [{"c": 2, "d": 3}]}) == digest({"b": [{"d": 3, "c": 2}], "a": 1})
    assert digest({"a": [1, 2]}) != digest({"a": [2, 1]})


def test_digest_refuses_nan() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        digest({"a": np.nan})


# ---- reading --------------------------------------------------------------------------------


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    for name, formula in (("b.xyz", "CO2"), ("a.xyz", "H2O"), ("c.xyz", "CH4")):
        ase.io.write(tmp_path / name, molecule(formula))
    (tmp_path / ".hidden.xyz").write_text("not a geometry", encoding="utf-8")
    (tmp_path / "subfolder").mkdir()
    assert [path.name for path in geometry_files(tmp_path)] == ["a.xyz", "b.xyz", "c.xyz"]


def test_a_file_is_its_own_only_geometry_file(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").touch()
    assert geometry_files(tmp_path / "a.xyz") == [tmp_path / "a.xyz"]


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
        ("missing.xyz", None, "cannot read this as a geometry"),
        ("empty.xyz", "", "cannot read this as a geometry"),
        ("text.xyz", "a shopping list", "cannot read this as a geometry"),
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


def test_an_empty_folder_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match="holds no geometry files"):
        geometry_files(tmp_path)


def test_a_path_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match="no such file or folder"):
        geometry_files(tmp_path / "missing.xyz")


def test_every_bad_file_is_named(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "a.xyz", molecule("H2O"))
    (tmp_path / "b.txt").write_text("notes", encoding="utf-8")
    (tmp_path / "c.xyz").write_text("0\n\n", encoding="utf-8")
    with pytest.raises(StructureError) as found:
        read_geometries(geometry_files(tmp_path))
    first, second = str(found.value).splitlines()
    assert first.startswith(f"{tmp_path / 'b.txt'}: ASE cannot read")
    assert second == f"{tmp_path / 'c.xyz'}: the geometry holds no atoms"


def test_masses_and_the_kind_of_a_structure_are_carried(tmp_path):
    atoms = Atoms("H2O", [(0, 0, 0), (0, 0, 1), (0, 1, 0)], masses=[2.014, 2.014, 15.999])
    atoms.info["config_type"] = "heavy"
    ase.io.write(tmp_path / "d2o.xyz", atoms)
    (found,) = read_geometries([tmp_path / "d2o.xyz"])
    assert found.get_masses().tolist() == [2.014, 2.014, 15.999]
    assert decode(encode(found)).info["config_type"] == "heavy"


def test_neither_masses_nor_the_kind_of_a_structure_change_its_label():
    plain = Atoms("H2", [(0, 0, 0), (0, 0, 0.74)])
    heavy = plain.copy()
    heavy.set_masses([2.014, 2.014])
    heavy.info["config_type"] = "heavy"
    assert label_key(plain, {}) == label_key(heavy, {})
