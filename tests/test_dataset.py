"""Datasets, read back by MACE's own reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from aimspax_core.campaign.labels import StoredLabel
from aimspax_core.dataset import labelled, read, write
from aimspax_core.model.mace import KEYS
from aimspax_core.reference.base import Label

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
