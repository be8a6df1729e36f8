"""MACE models side by side on one geometry, computed by the lean network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase import Atoms
from mace.data.neighborhood import get_neighborhood
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from aimspax_core.errors import ModelError
from aimspax_core.model.committee import Array, Outputs
from aimspax_core.model.mace.evaluator import MaceEvaluator
from aimspax_core.model.mace.lean import outputs
from aimspax_core.model.mace.lean.applicable import why_not
from aimspax_core.model.mace.lean.geometry import Geometry, geometry, no_geometry
from aimspax_core.model.mace.lean.neighbours import Table, half, no_table, table
from aimspax_core.model.mace.lean.network import node_energies
from aimspax_core.model.mace.lean.radial import along_lengths, path_weights
from aimspax_core.model.mace.lean.shape import shape, tables
from aimspax_core.model.mace.lean.weights import Weights, weights

STACKED = 2**15
"""Pairs times channels up to which members in one go are faster than one after another."""


@dataclass(frozen=True)
class HalfGraph:
    """A structure with one edge of each pair of neighbours.

    Attributes:
        atoms: The structure.
        pairs: Senders and receivers, shape (2, P).
        shifts: By cells, shape (P, 3), in Å.
    """

    atoms: Atoms
    pairs: NDArray[np.integer]
    shifts: NDArray[Any]


class LeanEvaluator(MaceEvaluator):
    """MACE models of one shape; see `aimspax_core.model.committee.Evaluator`.

    Geometry is computed once for all members. Weights are read when the evaluator is made.

    Args:
        models: M models of MACE, each with a lean form; they are taken over.
        device: Where to evaluate: `cpu`, `cuda`, `cuda:1`…
        dtype: `float32` or `float64`; None keeps the first model's.
        max_edges: Most edges in one batch; None: as many as is fast on a CPU, all elsewhere.

    Raises:
        ModelError: No model, models that do not fit together, or one without a lean form.
    """

    def __init__(
        self,
        models: Sequence[torch.nn.Module],
        device: str | torch.device = "cpu",
        dtype: str | None = None,
        max_edges: int | None = None,
    ) -> None:
        super().__init__(models, device, dtype, max_edges)
        reasons = [why_not(model) for model in models]
        if any(reasons):
            raise ModelError(f"no lean form: {next(filter(None, reasons))}")
        shapes = [shape(model) for model in models]
        if any(one != shapes[0] for one in shapes):
            raise ModelError("the models of a committee differ in their architecture")
        self._shape, self._tables = shapes[0], tables(self._models[0])
        self._together = weights(self._shape, self._models)
        self._single = [weights(self._shape, [model]) for model in self._models]

    def graph(self, atoms: Atoms) -> Any:
        """Return a structure with its pairs up to the cutoff."""
        if not atoms.pbc.any():
            # MACE's search makes up a box, and is slow through a big one; a tree does not mind.
            pairs = cKDTree(atoms.positions).query_pairs(self.r_max, output_type="ndarray").T
            return HalfGraph(atoms, pairs, np.zeros((pairs.shape[1], 3)))
        edges, shifts, unit_shifts, _ = get_neighborhood(
            atoms.positions, self.r_max, pbc=tuple(atoms.pbc), cell=atoms.cell.array.copy()
        )
        one = half(torch.from_numpy(edges), torch.from_numpy(unit_shifts).double()).numpy()
        return HalfGraph(atoms, edges[:, one], shifts[one])

    def edges(self, graph: Any) -> int:
        """Return the number of a graph's edges, there and back."""
        return 2 * int(graph.pairs.shape[1])

    def evaluate(self, batch: Sequence[Any], stress: bool) -> Outputs:
        """Predict the structures of one batch.

        Raises:
            ModelError: A structure has an element that the models were not made for.
        """
        kinds = self._kinds(batch)
        here, neighbours = self._read(batch, kinds)
        graphs = self._graphs(batch)
        groups = [self._together] if self._stacks(here) else self._single
        found = [self._predict(own, here, neighbours, graphs, kinds, stress) for own in groups]
        energies, forces, stresses = zip(*found, strict=True)
        return Outputs(_numbers(energies), _numbers(forces), _numbers(stresses) if stress else None)

    def _predict(
        self,
        own: Weights,
        here: Geometry,
        neighbours: Table,
        graphs: outputs.Graphs,
        kinds: Tensor,
        stress: bool,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return energies (M, G), forces (M, N, 3) and stress (M, G, 3, 3) of M models."""
        members = len(own.embedding)
        with torch.no_grad():
            both = [path_weights(layer, here.radial, here.radial_slope) for layer in own.layers]
        harmonics = here.harmonics.expand(members, -1, -1).detach().requires_grad_()
        strengths = [strength.requires_grad_() for strength, _ in both]
        with torch.enable_grad():
            atoms = node_energies(
                self._shape, self._tables, own, harmonics, strengths, neighbours, kinds
            )
            by_harmonics, *by_strengths = torch.autograd.grad(atoms.sum(), [harmonics, *strengths])
        by_length = along_lengths(by_strengths, [slope for _, slope in both])
        by_vectors = here.pull_back(by_harmonics, by_length)
        energies = graphs.total(own.elements.index_select(1, kinds)) + graphs.total(atoms.detach())
        forces = outputs.forces(by_vectors, neighbours, len(kinds))
        if not stress:
            return energies, forces, None
        virials = outputs.virials(by_vectors, here.vectors, neighbours, graphs)
        return energies, forces, outputs.stress(virials, graphs.cells)

    def _stacks(self, here: Geometry) -> bool:
        """Return whether members in one go are faster than one after another."""
        return len(here.vectors) * self._shape.embedding.columns <= STACKED

    def _kinds(self, batch: Sequence[Any]) -> Tensor:
        """Return the index of each atom's element, shape (N,)."""
        numbers = np.concatenate([graph.atoms.numbers for graph in batch])
        return torch.from_numpy(self._indices(numbers).astype(np.int64)).to(self.device)

    def _read(self, batch: Sequence[Any], kinds: Tensor) -> tuple[Geometry, Table]:
        """Return the geometry and the neighbours of the batch's atoms."""
        starts = np.cumsum([0] + [len(graph.atoms) for graph in batch[:-1]])
        pairs = np.concatenate(
            [graph.pairs + start for graph, start in zip(batch, starts, strict=True)], axis=1
        )
        positions = self._float([graph.atoms.positions for graph in batch])
        if pairs.shape[1] == 0:
            return no_geometry(self._models[0], positions), no_table(positions, len(kinds))
        senders, receivers = torch.from_numpy(pairs.astype(np.int64)).to(self.device)
        shifts = self._float([graph.shifts for graph in batch])
        vectors = positions[receivers] - positions[senders] + shifts
        return (
            geometry(self._models[0], vectors, senders, receivers, kinds),
            table(senders, receivers, vectors, len(kinds)),
        )

    def _graphs(self, batch: Sequence[Any]) -> outputs.Graphs:
        sizes = torch.tensor([len(graph.atoms) for graph in batch])
        index = torch.repeat_interleave(torch.arange(len(batch)), sizes).to(self.device)
        cells = self._float([graph.atoms.cell.array for graph in batch]).view(-1, 3, 3)
        return outputs.Graphs(index, cells)


def _numbers(parts: Sequence[Any]) -> Array:
    """Return one output of all members, shape (M, …), from the device."""
    return torch.cat(list(parts)).double().cpu().numpy()
