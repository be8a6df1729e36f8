"""Energies of graphs, forces, virials and stress from the network's derivatives by pairs.

Signs and limits are those of `mace.modules.utils`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from aimspax_core.model.mace.lean.neighbours import Table

_UNREAL_STRESS = 1e10
"""MACE sets stress (eV/Å³) beyond this to zero: that of cells without a volume."""


class Graphs(NamedTuple):
    """Which atoms belong to which of G graphs.

    Attributes:
        graph: Of each atom, shape (N,).
        cells: Shape (G, 3, 3), in Å.
    """

    graph: Tensor
    cells: Tensor

    def total(self, of_atoms: Tensor) -> Tensor:
        """Return the sums (M, G) over the atoms of each graph."""
        return of_atoms.new_zeros(len(of_atoms), len(self.cells)).index_add(1, self.graph, of_atoms)


def forces(by_vectors: Tensor, neighbours: Table, n_atoms: int) -> Tensor:
    """Return -dE/d(positions), shape (M, N, 3), of dE/d(pair vectors), shape (M, P, 3)."""
    none = by_vectors.new_zeros(len(by_vectors), n_atoms, 3)
    pulled = none.index_add(1, neighbours.senders, by_vectors)
    return pulled.index_add(1, neighbours.receivers, -by_vectors)


def virials(by_vectors: Tensor, vectors: Tensor, neighbours: Table, graphs: Graphs) -> Tensor:
    """Return -dE/d(strain), symmetric, shape (M, G, 3, 3), in eV.

    Args:
        by_vectors: dE/d(pair vectors), shape (M, P, 3), in eV/Å.
        vectors: Shape (P, 3), in Å.
        neighbours: For the pairs' atoms.
        graphs: Where those belong.
    """
    outer = by_vectors.unsqueeze(-1) * vectors.unsqueeze(-2)
    symmetric = -0.5 * (outer + outer.transpose(-1, -2))
    none = by_vectors.new_zeros(len(by_vectors), len(graphs.cells), 3, 3)
    return none.index_add(1, graphs.graph.index_select(0, neighbours.senders), symmetric)


def stress(virials: Tensor, cells: Tensor) -> Tensor:
    """Return dE/d(strain) / volume, shape (M, G, 3, 3), in eV/Å³."""
    volume = torch.linalg.det(cells).abs().view(-1, 1, 1)
    found = -virials / volume
    return torch.where(found.abs() < _UNREAL_STRESS, found, torch.zeros_like(found))
