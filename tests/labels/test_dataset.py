"""Datasets, read back by MACE's own reader."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.constraints import FixAtoms

from aimspax_core.errors import CampaignError
from aimspax_core.labels.dataset import DataKeys, labelled, read, read_labels, write
from aimspax_core.labels.label import BESIDE, Label
from aimspax_core.labels.store import StoredLabel
from aimspax_core.model.mace.graphs import KEYS
from aimspax_core.settings.misc import Misc

RNG = np.random.default_rng(0)


def stored(atoms: Atoms, stress: bool = False) -> StoredLabel:
    made = RNG.normal(size=(3, 3))
    label = Label(
        energy=float(RNG.normal()) * 1000,
        forces=RNG.normal(size=(len(atoms), 3)),
        stress=(made + made.T) / 100 if stress else None,
    )
    return StoredLabel("key", atoms, label)


def test_labels_are_in_the_keys_of_the_original() -> None:
    one = stored(bulk("Cu"), stress=True)
    atoms = labelled(one)
    assert atoms.info["REF_energy"] == one.label.energy
    np.testing.assert_array_equal(atoms.arrays["REF_forces"], one.label.forces)
    np.testing.assert_array_equal(atoms.info["REF_stress"], one.label.stress)
    assert "REF_stress" not in labelled(stored(molecule("H2O"))).info


def test_the_stored_structure_is_not_touched() -> None:
    one = stored(molecule("H2O"))
    labelled(one).arrays["REF_forces"] += 1.0
    assert one.atoms.info == {}
    assert set(one.atoms.arrays) == {"numbers", "positions"}


def test_mace_reads_the_same_energies_forces_and_stresses(tmp_path: Path) -> None:
    from mace.data import KeySpecification, config_from_atoms, load_from_xyz

    everything = KeySpecification.from_defaults()
    kept = [stored(molecule("H2O")), stored(bulk("Cu", cubic=True), stress=True)]
    write(tmp_path / "set.xyz", [labelled(one) for one in kept])
    # MACE's loader also looks for isolated atoms and renames keys: what a user would train on.
    _, configs = load_from_xyz(str(tmp_path / "set.xyz"), everything, keep_isolated_atoms=True)
    assert len(configs) == 2
    ours = [config_from_atoms(atoms, KEYS) for atoms in read(tmp_path / "set.xyz")]
    for one, config, own in zip(kept, configs, ours, strict=True):
        for found in (config, own):
            assert found.properties["energy"] == one.label.energy
            np.testing.assert_allclose(found.properties["forces"], one.label.forces, atol=1e-8)
            np.testing.assert_allclose(found.positions, one.atoms.positions, atol=1e-8)
            assert found.property_weights["energy"] == 1.0
    theirs = np.asarray(configs[1].properties["stress"])
    assert kept[1].label.stress is not None
    if theirs.shape == (6,):
        from ase.stress import voigt_6_to_full_3x3_stress

        theirs = voigt_6_to_full_3x3_stress(theirs)
    np.testing.assert_allclose(theirs, kept[1].label.stress, rtol=1e-7)
    assert configs[0].property_weights["stress"] == 0.0


def test_moments_and_charges_stay_in_the_dataset(tmp_path: Path) -> None:
    atoms = molecule("O2")
    atoms.set_initial_magnetic_moments([1.0, 1.0])
    atoms.info["charge"] = 1.0
    write(tmp_path / "set.xyz", [labelled(stored(atoms))])
    (back,) = read(tmp_path / "set.xyz")
    assert back.get_initial_magnetic_moments().tolist() == [1.0, 1.0]
    assert back.info["charge"] == 1.0
    assert "total_charge=1.0" in (tmp_path / "set.xyz").read_text()


def test_an_empty_set_is_an_empty_file(tmp_path: Path) -> None:
    write(tmp_path / "set.xyz", [])
    assert (tmp_path / "set.xyz").read_bytes() == b""
    assert read(tmp_path / "set.xyz") == []


@pytest.mark.parametrize("count", [1, 3])
def test_structures_keep_their_order(tmp_path: Path, count: int) -> None:
    names = ["H2O", "CO2", "CH4"][:count]
    write(tmp_path / "set.xyz", [labelled(stored(molecule(name))) for name in names])
    formulas = [atoms.get_chemical_formula() for atoms in read(tmp_path / "set.xyz")]
    assert formulas == names


# ---- names of one's own -------------------------------------------------------------------------

OWN = DataKeys(
    energy="dft_energy",
    forces="dft_forces",
    stress="dft_stress",
    total_charge="q",
    total_spin="multiplicity",
)
ASE_KEYS = DataKeys(energy="energy", forces="forces", stress="stress")


def test_the_names_are_those_of_the_settings() -> None:
    assert DataKeys.of(Misc()) == DataKeys()
    misc = Misc(**{f"{field.name}_key": f"my_{field.name}" for field in fields(DataKeys)})
    assert DataKeys.of(misc) == DataKeys(**{f.name: f"my_{f.name}" for f in fields(DataKeys)})


@pytest.mark.parametrize("keys", [DataKeys(), OWN, ASE_KEYS])
def test_what_is_written_is_read_under_any_names(keys: DataKeys, tmp_path: Path) -> None:
    water = molecule("H2O")
    water.info |= {"charge": 1.0, "spin": 2.0}
    kept = [stored(water), stored(bulk("Cu", cubic=True), stress=True)]
    write(tmp_path / "set.xyz", [labelled(one, keys) for one in kept])
    found = read_labels(tmp_path / "set.xyz", keys)
    assert [atoms.calc for atoms, _ in found] == [None, None]
    for one, (atoms, label) in zip(kept, found, strict=True):
        assert label.energy == one.label.energy
        np.testing.assert_allclose(label.forces, one.label.forces, atol=1e-8)
        assert atoms.get_chemical_formula() == one.atoms.get_chemical_formula()
        assert not {keys.energy, keys.forces, keys.stress} & (set(atoms.info) | set(atoms.arrays))
    assert found[0][0].info == {"charge": 1.0, "spin": 2.0}
    assert found[0][1].stress is None
    np.testing.assert_allclose(found[1][1].stress, kept[1].label.stress, atol=1e-8)


COPPER = """1
Lattice="2 0 0 0 3 0 0 0 4" Properties=species:S:1:pos:R:3:REF_forces:R:3 REF_energy=-3 {} pbc="{}"
Cu 0 0 0 0.5 0.25 0
"""
STRESS = np.array([[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]])


@pytest.mark.parametrize(
    "text",
    [
        'REF_stress="1 2 3 4 5 6"',
        'REF_stress="1 6 5 6 2 4 5 4 3"',
        'REF_stress="_JSON [[1, 6, 5], [6, 2, 4], [5, 4, 3]]"',
        'REF_virials="-24 -144 -120 -144 -48 -96 -120 -96 -72"',
    ],
)
def test_stress_in_any_form(text: str, tmp_path: Path) -> None:
    (tmp_path / "set.xyz").write_text(COPPER.format(text, "T T T"))
    ((_, label),) = read_labels(tmp_path / "set.xyz")
    np.testing.assert_allclose(label.stress, STRESS)
    assert label.energy == -3.0
    assert label.forces.tolist() == [[0.5, 0.25, 0.0]]


def test_without_a_volume_there_is_no_stress(tmp_path: Path) -> None:
    (tmp_path / "set.xyz").write_text(COPPER.format('REF_stress="1 2 3 4 5 6"', "T T F"))
    ((_, label),) = read_labels(tmp_path / "set.xyz")
    assert label.stress is None


def test_what_is_only_carried_along_is_written_again(tmp_path: Path) -> None:
    (tmp_path / "set.xyz").write_text(
        "1\nProperties=species:S:1:pos:R:3:REF_forces:R:3:REF_charges:R:1:charges:R:1 "
        'REF_energy=-3.0 REF_dipole="1.0 2.0 3.0" dipole="4.0 5.0 6.0" config_type=rare '
        "head=mine\nCu 0 0 0 0.5 0.25 0 0.125 0.75\n"
    )
    ((atoms, label),) = read_labels(tmp_path / "set.xyz")
    assert atoms.info["config_type"] == "rare"
    write(tmp_path / "again.xyz", [labelled(StoredLabel("key", atoms, label))])
    (again,) = read(tmp_path / "again.xyz")
    assert again.info["REF_dipole"].tolist() == [1.0, 2.0, 3.0]
    assert again.info["dipole"].tolist() == [4.0, 5.0, 6.0]
    assert (again.info["head"], again.info["config_type"]) == ("mine", "rare")
    assert again.arrays["REF_charges"].tolist() == [0.125]
    assert again.arrays["charges"].tolist() == [0.75]
    assert again.info["REF_energy"] == -3.0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"energy": "REF_energ"}, "no energy under 'REF_energ', .* 'REF_energy' .MISC.energy_key"),
        ({"forces": "dft_forces"}, "no forces under 'dft_forces', .* 'REF_forces'"),
        ({"forces": "REF_charges"}, r"forces under 'REF_charges' has shape \(3,\)"),
        ({"energy": "comment"}, "energy under 'comment' is no number"),
    ],
)
def test_a_missing_label_names_file_frame_and_key(
    change: dict[str, Any], text: str, tmp_path: Path
) -> None:
    first, second = (labelled(stored(molecule(name))) for name in ("CH4", "H2O"))
    for key, value in change.items():  # the first frame has it
        place = first.info if key == "energy" else first.arrays
        place[value] = place[f"REF_{key}"]
    second.info["comment"] = "said"
    second.arrays["REF_charges"] = np.zeros(3)
    write(tmp_path / "set.xyz", [first, second])
    with pytest.raises(CampaignError, match=rf"set\.xyz, frame 1 \(H2O\): .*{text}"):
        read_labels(tmp_path / "set.xyz", replace(DataKeys(), **change))


def test_a_label_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    atoms = labelled(stored(molecule("H2O")))
    atoms.info["REF_energy"] = float("nan")
    write(tmp_path / "set.xyz", [atoms])
    with pytest.raises(CampaignError, match=r"frame 0 .*energy under 'REF_energy' is not finite"):
        read_labels(tmp_path / "set.xyz")


def test_what_is_no_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(CampaignError, match=r"no dataset .*none\.xyz"):
        read_labels(tmp_path / "none.xyz")
    (tmp_path / "text.xyz").write_text("not a dataset")
    with pytest.raises(CampaignError, match=r"text\.xyz: ASE cannot read this"):
        read_labels(tmp_path / "text.xyz")


@pytest.mark.parametrize("text", ["many", "nan", '"1 2"'])
@pytest.mark.parametrize("key", ["total_charge", "total_spin"])
def test_a_charge_that_is_no_number_is_told_with_file_and_frame(
    tmp_path: Path, key: str, text: str
) -> None:
    frame = "1\nProperties=species:S:1:pos:R:3{}\nH 0 0 0\n"
    (tmp_path / "a.xyz").write_text(frame.format("") + frame.format(f" {key}={text}"))
    with pytest.raises(CampaignError, match=rf"a\.xyz, frame 1 \(H\): {key}: found "):
        read(tmp_path / "a.xyz")


@pytest.mark.parametrize("key", ["REF_forces", "forces"])
def test_forces_on_held_atoms_are_in_datasets(tmp_path: Path, key: str) -> None:
    """ASE reads and writes `move_mask` as constraints, which take forces out where it asks."""
    keys = DataKeys(energy="REF_energy", forces=key)
    kept = stored(molecule("H2O"))
    kept.atoms.set_constraint(FixAtoms([0, 1]))
    made = labelled(kept, keys)
    write(tmp_path / "set.xyz", [made])
    assert "move_mask" in (tmp_path / "set.xyz").read_text()
    ((atoms, label),) = read_labels(tmp_path / "set.xyz", keys)
    np.testing.assert_allclose(label.forces, kept.label.forces, atol=1e-7)
    again = labelled(StoredLabel("key", atoms, label), keys)
    write(tmp_path / "again.xyz", [again])
    ((_, label),) = read_labels(tmp_path / "again.xyz", keys)
    np.testing.assert_allclose(label.forces, kept.label.forces, atol=1e-7)


def test_what_is_carried_does_not_take_the_place_of_what_a_label_has() -> None:
    given = {"carried": {"dipole": [0.0, 1.0], "polarizability": 4.0}}
    label = Label(-1.0, np.zeros((3, 3)), provenance=given, dipole=np.array([0.1, 0.2, 0.3]))
    atoms = labelled(StoredLabel("", molecule("H2O"), label))
    assert atoms.info["REF_dipole"].tolist() == [0.1, 0.2, 0.3]
    assert atoms.info["REF_polarizability"] == 4.0


def test_dipoles_and_ratios_are_taken_where_they_are_looked_at(tmp_path: Path) -> None:
    water = molecule("H2O")
    water.info |= {"REF_energy": -1.0, "mu": np.array([0.1, 0.2, 0.3])}
    water.arrays |= {"REF_forces": np.zeros((3, 3)), "ratios": np.array([0.8, 0.6, 0.6])}
    bare = molecule("H2O")
    bare.info["REF_energy"], bare.arrays["REF_forces"] = -1.0, np.zeros((3, 3))
    names = DataKeys(dipole="mu", hirshfeld_ratios="ratios")
    write(tmp_path / "set.xyz", [water, bare])
    (_, first), (_, second) = read_labels(tmp_path / "set.xyz", names, beside=BESIDE)
    assert first.dipole is not None
    assert first.hirshfeld_ratios is not None
    assert first.dipole.tolist() == [0.1, 0.2, 0.3]
    assert first.hirshfeld_ratios.tolist() == [0.8, 0.6, 0.6]
    assert (second.dipole, second.hirshfeld_ratios) == (None, None)
    again = labelled(StoredLabel("", water, first), names)
    assert again.info["mu"].tolist() == [0.1, 0.2, 0.3]
    assert again.arrays["ratios"].tolist() == [0.8, 0.6, 0.6]


def test_one_of_another_shape_is_refused_where_it_is_looked_at(tmp_path: Path) -> None:
    water = molecule("H2O")
    water.info |= {"REF_energy": -1.0, "REF_dipole": np.array([0.1, 0.2])}
    water.arrays["REF_forces"] = np.zeros((3, 3))
    write(tmp_path / "set.xyz", [water])
    read_labels(tmp_path / "set.xyz")
    with pytest.raises(CampaignError, match=r"dipole under 'REF_dipole' has shape \(2,\)"):
        read_labels(tmp_path / "set.xyz", beside=("dipole",))
