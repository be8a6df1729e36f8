"""What CIFs leave open is refused or said: elements, disorder, symmetry, places."""

from __future__ import annotations

from pathlib import Path

import pytest

from aimspax_core.errors import StructureError
from aimspax_core.settings.geometries.files import Geometry, read_file

CELL = """data_x
_cell_length_a 4.0(1)
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha {angles[0]}
_cell_angle_beta {angles[1]}
_cell_angle_gamma {angles[2]}
{symmetry}
loop_
_atom_site_label
{columns}
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
{more}
"""
P1 = "_space_group_name_H-M_alt 'P 1'"
TYPE = "_atom_site_type_symbol"


def cif(
    *sites: str,
    symmetry: str = P1,
    columns: str = TYPE,
    more: str = "",
    angles: tuple[float, float, float] = (90, 90, 90),
) -> str:
    head = CELL.format(symmetry=symmetry, columns=columns, more=more, angles=angles)
    lines = (*head.splitlines(), *sites)
    return "\n".join(line for line in lines if line.strip()) + "\n"


def geometry(folder: Path, content: str) -> Geometry:
    (folder / "a.cif").write_text(content, encoding="utf-8")
    return read_file(folder / "a.cif")


def refused(folder: Path, content: str) -> str:
    with pytest.raises(StructureError) as found:
        geometry(folder, content)
    return str(found.value)


@pytest.mark.parametrize(
    ("symbol", "element"),
    [("CL", "Cl"), ("Cl1-", "Cl"), ("Fe3+", "Fe"), ("O2-", "O"), ("OH", None), ("H2O", None)],
)
def test_a_type_symbol_is_that_of_an_element(tmp_path: Path, symbol: str, element: str | None):
    content = cif(f"X1 {symbol} 0 0 0")
    if element is None:
        assert f"'{symbol}'" in refused(tmp_path, content)
    else:
        assert str(geometry(tmp_path, content).atoms.symbols) == element


@pytest.mark.parametrize(
    ("label", "element"),
    [
        ("Cl1", "Cl"),
        ("CL1", None),
        ("CA1", None),
        ("ca1", None),
        ("O1W", "O"),
        ("OW1", "O"),
        ("SiT1", "Si"),
        ("Wat", None),
        ("M1", None),
    ],
)
def test_a_label_is_no_element_that_may_be_another(tmp_path: Path, label: str, element: str | None):
    content = cif(f"{label} 0 0 0", columns="")
    if element is None:
        assert f"'{label}'" in refused(tmp_path, content)
    else:
        found = geometry(tmp_path, content)
        assert str(found.atoms.symbols) == element
        assert any("labels" in note for note in found.notes)


@pytest.mark.parametrize(
    ("groups", "clear"),
    [((".", "."), True), (("1", "1"), True), (("1", "2"), False), (("-1", "."), False)],
)
def test_groups_of_disorder_without_occupancies(
    tmp_path: Path, groups: tuple[str, str], clear: bool
):
    sites = (f"C1 C 0 0 0 {groups[0]}", f"C2 C .5 0 0 {groups[1]}")
    content = cif(*sites, more="_atom_site_disorder_group")
    if clear:
        assert len(geometry(tmp_path, content).atoms) == 2
    else:
        assert "disordered" in refused(tmp_path, content)


def test_groups_of_several_assemblies_may_be_there_at_once(tmp_path: Path):
    more = "_atom_site_disorder_assembly\n_atom_site_disorder_group"
    sites = ("C1 C 0 0 0 A 1", "C2 C .5 0 0 B 2")
    assert len(geometry(tmp_path, cif(*sites, more=more)).atoms) == 2


@pytest.mark.parametrize("place", [".", "?"])
def test_a_site_without_a_place_is_named(tmp_path: Path, place: str):
    text = refused(tmp_path, cif("Na1 Na 0 0 0", f"H1 H {place} {place} {place}"))
    assert "H1" in text


def test_no_symmetry_is_noted_and_hall_alone_refused(tmp_path: Path):
    site = "Na1 Na 0 0 0"
    assert geometry(tmp_path, cif(site)).notes == ()
    assert any("P 1" in note for note in geometry(tmp_path, cif(site, symmetry="")).notes)
    assert "Hall" in refused(tmp_path, cif(site, symmetry="_space_group_name_Hall '-F 4 2 3'"))
    hall = cif(site, symmetry="_space_group_name_Hall 'P 1'")
    assert len(geometry(tmp_path, hall).atoms) == 1


def test_symmetry_of_moments_is_not_read(tmp_path: Path):
    magnetic = "loop_\n_space_group_symop_magn_operation.xyz\n'x,y,z,+1'\n'-x,-y,-z,+1'\n"
    site = "Fe1 Fe .1 .2 .3"
    assert "magnetic" in refused(tmp_path, cif(site, symmetry="") + magnetic)
    (tmp_path / "a.mcif").write_text(cif(site) + magnetic, encoding="utf-8")
    assert len(read_file(tmp_path / "a.mcif").atoms) == 1


@pytest.mark.parametrize(
    ("group", "angles", "clear"),
    [
        ("'P 21/c'", (90, 95, 90), True),
        ("'P 21/c'", (90, 90, 95), False),
        ("'R -3 m'\n_space_group_crystal_system trigonal", (90, 90, 120), False),
        ("'R -3 m'", (90, 90, 120), True),
    ],
)
def test_a_cell_has_the_axes_of_its_space_group(
    tmp_path: Path, group: str, angles: tuple[float, float, float], clear: bool
):
    symmetry = f"_space_group_name_H-M_alt {group}"
    content = cif("Na1 Na .1 .2 .3", symmetry=symmetry, angles=angles)
    if clear:
        assert len(geometry(tmp_path, content).atoms) > 1
    else:
        assert "space group" in refused(tmp_path, content)


@pytest.mark.parametrize(
    ("group", "place", "atoms"),
    [
        ("_space_group_name_H-M_alt 'F d -3 m'", ".125 .125 .125", None),  # C8 by origin 2
        ("_space_group_IT_number 227", "0 0 0", None),
        ("_space_group_IT_number 48", ".1 .2 .3", None),
        ("_space_group_IT_number 227\n_symmetry_space_group_setting 2", ".125 .125 .125", 8),
        ("_space_group_IT_number 227\n_space_group_IT_coordinate_system_code 1", "0 0 0", 8),
        ("_space_group_IT_number 227\n_space_group_IT_coordinate_system_code 2", "0 0 0", None),
        ("_space_group_IT_number 10", "0 0 .5", 1),
        ("_space_group_IT_number 225", "0 0 0", 4),
    ],
)
def test_which_of_two_settings_is_not_guessed(
    tmp_path: Path, group: str, place: str, atoms: int | None
):
    content = cif(f"C1 C {place}", symmetry=group)
    if atoms is None:
        assert "two settings" in refused(tmp_path, content)
    else:
        assert len(geometry(tmp_path, content).atoms) == atoms


def test_sites_that_do_not_make_the_formula_are_noted(tmp_path: Path):
    sites = ("C1 C 0 0 0", "O1 O .5 .5 .5")
    for formula, noted in (("C O", False), ("C2 O2", False), ("C H2 O", True)):
        found = geometry(tmp_path, cif(*sites) + f"_chemical_formula_sum '{formula}'\n")
        assert any(formula in note for note in found.notes) == noted
