"""Structures: exact as JSON, and read with clear errors."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aimspax_core.labels.store import label_key
from aimspax_core.structures import decode, digest, encode

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


def test_neither_masses_nor_the_kind_of_a_structure_change_its_label():
    plain = Atoms("H2", [(0, 0, 0), (0, 0, 0.74)])
    heavy = plain.copy()
    heavy.set_masses([2.014, 2.014])
    heavy.info["config_type"] = "heavy"
    assert label_key(plain, {}) == label_key(heavy, {})


# ---- folders -----------------------------------------------------------------------------------
