"""The network with its first derivatives, as training and compilers see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from aimspax_core.model.mace.lean.neighbours import Table
from aimspax_core.model.mace.lean.network import node_energies
from aimspax_core.model.mace.lean.radial import along_lengths, path_weights
from aimspax_core.model.mace.lean.shape import LayerTables, Shape
from aimspax_core.model.mace.lean.weights import Weights


class Inputs(NamedTuple):
    """What the network is told of P pairs of N atoms; parts of `Geometry` and `Table`.

    Attributes:
        harmonics: Shape (P, S).
        radial: Radial basis times cutoff, shape (P, B).
        radial_slope: By the length, shape (P, B), in 1/Å.
        neighbours: Of the atoms.
        kinds: Index of each atom's element, shape (N,).
    """

    harmonics: Tensor
    radial: Tensor
    radial_slope: Tensor
    neighbours: Table
    kinds: Tensor


class Derived(NamedTuple):
    """Energies of N atoms and their sum's derivatives by what is known of P pairs.

    Attributes:
        atoms: Interaction energy of each atom, shape (M, N), in eV.
        by_harmonics: Shape (M, P, S), in eV.
        by_length: At constant harmonics, shape (M, P, 1), in eV/Å.
    """

    atoms: Tensor
    by_harmonics: Tensor
    by_length: Tensor


def derived(
    shape: Shape,
    tables: Sequence[LayerTables],
    own: Weights,
    inputs: Inputs,
    *,
    trained: bool,
    plain: bool = False,
) -> Derived:
    """Return energies and derivatives.

    Args:
        shape: The network's.
        tables: Its constants.
        own: Weights of M models.
        inputs: The same for all models.
        trained: Keep what `backward` needs to reach the weights from the derivatives.
        plain: With operations that a compiler sees through.
    """
    harmonics = inputs.harmonics.unsqueeze(0).requires_grad_()
    both = [path_weights(layer, inputs.radial, inputs.radial_slope) for layer in own.layers]
    # Also in validation, where MACE has the weights ask for no gradients.
    strengths = [strength.requires_grad_() for strength, _ in both]
    atoms = node_energies(
        shape, tables, own, harmonics, strengths, inputs.neighbours, inputs.kinds, plain
    )
    by_harmonics, *by_strengths = torch.autograd.grad(
        atoms.sum(), [harmonics, *strengths], retain_graph=trained, create_graph=trained
    )
    return Derived(atoms, by_harmonics, along_lengths(by_strengths, [slope for _, slope in both]))


def energies(shape: Shape, tables: Sequence[LayerTables], own: Weights, inputs: Inputs) -> Tensor:
    """Return the energies of `derived` alone; arguments as there."""
    harmonics = inputs.harmonics.unsqueeze(0)
    strengths = [path_weights(layer, inputs.radial, inputs.radial_slope)[0] for layer in own.layers]
    neighbours, kinds = inputs.neighbours, inputs.kinds
    return node_energies(shape, tables, own, harmonics, strengths, neighbours, kinds)
