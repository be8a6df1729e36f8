"""Fixed atoms tell a model how a structure stands in a field, or labels contradict each other."""

import pytest
from ase import Atoms
from ase.build import add_adsorbate, fcc111, molecule

from aimspax_core.settings.geometries.orientation import Field, Sight, not_told

UP = "homogeneous_field 0.0 0.0 0.5"
ASIDE = "homogeneous_field 0.5 0.0 0.0"
SIGHT = Sight(5.0, 2)

TRIANGLE = [[0, 0, 0], [2.5, 0, 0], [1.25, 2.2, 0]]


def why(atoms, fixed, lines=UP, sight=SIGHT):
    return not_told(atoms, tuple(fixed), Field.of(lines), sight)


def over_three(*free):
    return Atoms(["Cu"] * 3 + ["O"] * len(free), [*TRIANGLE, *free])


def slab(*elements, layers=3):
    atoms = fcc111("Cu", (2, 2, layers), vacuum=8.0, periodic=True)
    add_adsorbate(atoms, "O", 1.2, "fcc")
    for index, element in enumerate(elements):
        atoms.symbols[index] = element
    return atoms


def test_above_and_below_a_plane_are_the_same_to_a_model():
    above, below = [1.25, 0.8, 1.5], [1.25, 0.8, -1.5]
    assert not why(over_three(above), range(3))
    assert "one side" in why(over_three(above, below), range(3))
    assert "one side" in why(over_three([1.25, 0.8, 0.05]), range(3))
    # a field in the plane is the same above and below, not so at the three corners
    assert "rotation or reflection" in why(over_three(above), range(3), ASIDE)


def test_atoms_that_are_fixed_and_no_image_of_themselves_tell_a_field_by_themselves():
    atoms = Atoms("CuAgAuPtO2", [*TRIANGLE, [0.3, 1.1, 2.2], [1.25, 0.8, 4], [1.25, 0.8, -1.5]])
    for lines in (UP, ASIDE, "multipole 5.0 0.0 0.0 0 1.0"):
        assert not why(atoms, range(4), lines)


@pytest.mark.parametrize("layers_fixed", [1, 2])
def test_what_is_above_fixed_layers_is_told_from_what_would_be_below(layers_fixed):
    atoms = slab()
    assert not why(atoms, range(4 * layers_fixed))
    assert why(atoms, range(4 * layers_fixed), ASIDE)


def test_both_sides_of_a_symmetric_slab_are_the_same_to_a_model():
    assert "one side" in why(slab(), range(4, 8))
    assert "one side" in why(slab(layers=4), range(4, 12))


def test_charges_have_to_stay_where_they_are():
    assert why(slab(), range(8), "multipole 0.0 0.0 30.0 0 1.0")  # other places of the layer
    triangle = over_three([1.25, 0.8, 1.5])
    assert not why(triangle, range(3), "multipole 1.25 0.733 9.0 0 1.0")  # on its axis
    assert why(triangle, range(3), "multipole 0.0 0.0 9.0 0 1.0")


def test_images_count_as_far_as_a_model_sees():
    atoms = molecule("CH3OH", cell=[25] * 3, pbc=True)
    assert "on one line" in why(atoms, [0])
    assert "on one line" in why(atoms, [0, 1])


def test_one_atom_and_its_images_do_not_tell_one_axis_from_another():
    atoms = molecule("H2O", cell=[7.0] * 3, pbc=True)
    assert "rotation or reflection" in why(atoms, [0])


def test_no_atom_may_be_farther_from_fixed_ones_than_a_model_sees():
    near, far = [1.25, 0.8, 9.0], [1.25, 0.8, 12.0]
    assert "atom 4 is farther" in why(over_three(near), range(3))  # nothing hands it on
    assert not why(over_three(near, [1.25, 0.8, 4.5]), range(3))
    assert "atom 5 is farther" in why(over_three(near, far, [1.25, 0.8, 4.5]), range(3))


def test_on_a_line_all_turns():
    line = Atoms("O4", [[0, 0, 2.0 * i] for i in range(3)] + [[0, 2, 2]])
    assert "on one line" in why(line, range(3))
    assert "no atom" in why(line, [])
