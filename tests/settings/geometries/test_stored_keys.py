"""What the release before read keeps the keys of its labels: none is paid for twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from aimspax_core.labels.store import label_key
from aimspax_core.settings.geometries.files import read_file
from aimspax_core.structures import digest, encode

FILES = {
    "geometry.in": ("# relaxed\natom 0 0 0.119 O\natom 0 0.763 -0.477 H\natom 0 -0.763 -0.477 H\n"),
    "crystal.in": (
        "lattice_vector 5.43 0 0.1\n"
        "lattice_vector 0 5.43 0\n"
        "lattice_vector 0.3 0 5.43\n"
        "atom_frac 0 0 0 Fe\n"
        "  initial_moment 2.5\n"
        "atom_frac 0.3333333333 0.6667 0.2651 O\n"
        "  initial_charge -1\n"
        "  constrain_relaxation .true.\n"
    ),
    "parametric.in": (
        "lattice_vector 4.0 0 0\n"
        "lattice_vector -2.0 3.4641016151377544 0\n"
        "lattice_vector 0 0 6.0\n"
        "atom_frac 0 0 0 Pb\n"
        "atom_frac 0.6667 0.3333 0.75 I\n"
        "symmetry_n_params 3 2 1\n"
        "symmetry_params a c d0_z\n"
        "symmetry_lv a, 0, 0\n"
        "symmetry_lv -0.5*a, 0.8660254037844*a, 0\n"
        "symmetry_lv 0, 0, c\n"
        "symmetry_frac 0, 0, 0\n"
        "symmetry_frac 0.6666666666667, 0.3333333333333, 1.0-d0_z\n"
    ),
    "ion.xyz": (
        "5\n"
        "Properties=species:S:1:pos:R:3 charge=1 spin=1\n"
        "N 0 0 0\n"
        "H 0.6 0.6 0.6\n"
        "H -0.6 -0.6 0.6\n"
        "H -0.6 0.6 -0.6\n"
        "H 0.6 -0.6 -0.6\n"
    ),
    "POSCAR": (
        "Al\n"
        "1.0\n"
        "2.86 0 0\n"
        "0 2.86 0\n"
        "0 0 20\n"
        "Al\n"
        "2\n"
        "Selective dynamics\n"
        "Cartesian\n"
        "0 0 8 F F F\n"
        "1.43 1.43 10 T T T\n"
    ),
    "a.cif": (
        "data_a\n"
        "_cell_length_a 4.05\n"
        "_cell_length_b 4.05\n"
        "_cell_length_c 4.05\n"
        "_cell_angle_alpha 90\n"
        "_cell_angle_beta 90\n"
        "_cell_angle_gamma 90\n"
        "_symmetry_space_group_name_H-M 'F m -3 m'\n"
        "loop_\n"
        "_atom_site_label\n"
        "_atom_site_type_symbol\n"
        "_atom_site_fract_x\n"
        "_atom_site_fract_y\n"
        "_atom_site_fract_z\n"
        "Al1 Al 0 0 0\n"
    ),
    "frames.xyz": ("1\n\nHe 0 0 0\n2\n\nH 0 0 0\nH 0 0 0.74\n"),
}
KEYS = {
    "geometry.in": ("f81757b793c82394", "79ca211aad31e966"),
    "crystal.in": ("cfb8513232ed4b46", "345a0a06c085c011"),
    "parametric.in": ("9dde7022225bc62b", "d2b16089dd465510"),
    "ion.xyz": ("4db9d9b60b690054", "cd14076b33ad559c"),
    "POSCAR": ("e9b1b60809efd0de", "2f7e5e7222e8a651"),
    "a.cif": ("2d93265506d3a009", "186ef8e1de0ab25f"),
    "frames.xyz": ("bfaf10c87cb0ca97", "1ba7de6c4140e9f0"),
}
"""By commit 37aef08: of a label's key, and of the name of the geometry in `settings.json`."""


@pytest.mark.parametrize("name", FILES)
def test_keys_of_labels_and_what_is_frozen_stay(tmp_path: Path, name: str):
    (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    found = read_file(tmp_path / name)
    for atoms in (found.atoms, found.before):
        key = label_key(atoms, {"engine": "e"})
        assert (key[:16], digest(encode(atoms))[:16]) == KEYS[name]
