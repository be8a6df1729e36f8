"""A structure's charge and multiplicity, under whichever name a file has them."""

from __future__ import annotations

from pathlib import Path

import ase.io
import pytest
from ase.build import molecule

from aimspax_core.errors import CampaignError, StructureError
from aimspax_core.labels.dataset import DataKeys, labelled, read_labels, write
from aimspax_core.labels.label import Label
from aimspax_core.labels.relabelling import read_frames
from aimspax_core.labels.store import StoredLabel, label_key
from aimspax_core.settings.geometries.files import read_file, structure_of
from aimspax_core.settings.geometries.own_electrons import own_electrons
from aimspax_core.structures import encode


@pytest.mark.parametrize(
    ("info", "found"),
    [
        ({}, {}),
        ({"charge": 1}, {"charge": 1.0}),
        ({"total_charge": -1.0}, {"charge": -1.0}),
        ({"charge": 1, "total_charge": 1.0}, {"charge": 1.0}),
        ({"total_spin": "3", "other": 7}, {"spin": 3.0}),
    ],
)
def test_one_rule_for_both_names(info: dict[str, object], found: dict[str, float]):
    assert own_electrons(info) == found


@pytest.mark.parametrize(
    "info", [{"charge": 1, "total_charge": 0}, {"spin": "up"}, {"charge": [1, 2]}]
)
def test_what_is_no_number_or_two_is_refused(info: dict[str, object]):
    with pytest.raises(StructureError, match=next(iter(info))):
        own_electrons(info)


@pytest.mark.parametrize("unsaid", [None, "None", ""])
def test_none_is_not_given(tmp_path: Path, unsaid: str | None):
    assert own_electrons({"spin": unsaid, "total_charge": unsaid, "charge": 1}) == {"charge": 1.0}
    atoms = molecule("H2O")
    atoms.info |= {"spin": unsaid, "total_charge": unsaid}
    assert encode(structure_of(atoms)) == encode(molecule("H2O"))


def test_a_spin_is_told_to_be_a_multiplicity():
    with pytest.raises(StructureError, match=r"spin: found 'singlet'; allowed: the multiplicity"):
        own_electrons({"spin": "singlet"})


def test_names_of_the_settings_hold():
    names = {"charge": "Q", "spin": "M"}
    assert own_electrons({"Q": 2, "M": 3, "total_charge": 5}, names) == {"charge": 2, "spin": 3}


def test_a_frame_of_a_dataset_is_the_same_structure_as_the_start_geometry_it_came_from(
    tmp_path: Path,
):
    """As start geometry, in `label`, and among given labels: one key."""
    ion = molecule("OH")
    ion.set_initial_magnetic_moments(None)
    ion.info["charge"] = -1.0
    forces = ion.positions * 0.1
    write(tmp_path / "set.xyz", [labelled(StoredLabel("", ion, Label(-1.0, forces, None, {})))])
    assert "total_charge=-1.0" in (tmp_path / "set.xyz").read_text()
    keys = {
        label_key(read_file(tmp_path / "set.xyz").atoms, {}),
        label_key(read_frames(tmp_path / "set.xyz", DataKeys())[0][0].structure(DataKeys()), {}),
        label_key(read_labels(tmp_path / "set.xyz")[0][0], {}),
    }
    assert keys == {label_key(ion, {})}


def test_a_file_without_says_nothing_and_keeps_its_key(tmp_path: Path):
    ase.io.write(tmp_path / "a.xyz", molecule("H2O"))
    found = read_file(tmp_path / "a.xyz")
    assert encode(found.atoms) == encode(molecule("H2O")) == encode(found.before)


def test_what_releases_before_took_is_known(tmp_path: Path):
    for name, before in (("charge", {"charge": 1.0}), ("total_charge", {})):
        atoms = molecule("H2O")
        atoms.info[name] = 1
        ase.io.write(tmp_path / "a.xyz", atoms)
        found = read_file(tmp_path / "a.xyz")
        assert (found.atoms.info, found.before.info) == ({"charge": 1.0}, before)


def test_a_set_that_contradicts_itself_is_told_with_its_frame(tmp_path: Path):
    atoms = molecule("H2O")
    atoms.info |= {"charge": 1, "total_charge": 0, "REF_energy": 1.0}
    atoms.arrays["REF_forces"] = atoms.positions
    ase.io.write(tmp_path / "set.xyz", atoms, format="extxyz")
    with pytest.raises(CampaignError, match=r"frame 0.*charge 1, total_charge 0"):
        read_labels(tmp_path / "set.xyz")
