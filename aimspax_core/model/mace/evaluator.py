"""MACE models side by side on one batched graph of many structures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase import Atoms
from mace.data.neighborhood import get_neighborhood
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from aimspax_core.errors import ModelError
from aimspax_core.model.committee import Array, Outputs

_LAYOUTS = 256
"""How many batches' element encodings are kept."""

_CPU_EDGES = 2000
"""A CPU's batches are cut here: past it, intermediate results leave the caches (7-20 % slower)."""


@dataclass(frozen=True)
class Neighbours:
    """A structure with its edges (2, E), shifts (E, 3) in Å, unit shifts (E, 3) and cell (3, 3)."""

    atoms: Atoms
    edges: NDArray[np.integer]
    shifts: NDArray[Any]
    unit_shifts: NDArray[Any]
    cell: Array


class MaceEvaluator:
    """MACE models that share elements and cutoff; see `aimspax_core.model.committee.Evaluator`.

    Args:
        models: M models with the interface of MACE's `ScaleShiftMACE`; they are taken over.
        device: Where to evaluate: `cpu`, `cuda`, `cuda:1`…
        dtype: `float32` or `float64`; None keeps the first model's.
        max_edges: Most edges in one batch (a single structure may have more); None: as many as is
            fast on a CPU, all at once elsewhere.

    Raises:
        ModelError: No model, or models that do not fit together or need inputs beyond a structure.
    """

    def __init__(
        self,
        models: Sequence[torch.nn.Module],
        device: str | torch.device = "cpu",
        dtype: str | None = None,
        max_edges: int | None = None,
    ) -> None:
        if not models:
            raise ModelError("a committee needs at least one model")
        self.device = torch.device(device)
        self.dtype = getattr(torch, dtype) if dtype else next(models[0].parameters()).dtype
        self.r_max = _shared_cutoff(models)
        self.elements = _shared_elements(models)
        self._element_index = np.full(256, -1, dtype=np.intp)
        self._element_index[list(self.elements)] = np.arange(len(self.elements))
        self._head = _head(models[0])
        self._models: list[Any] = [model.to(self.device, self.dtype).eval() for model in models]
        for model in self._models:
            model.requires_grad_(False)
        self.max_edges = max_edges or (_CPU_EDGES if self.device.type == "cpu" else math.inf)
        self._layouts: dict[tuple[bytes, ...], dict[str, torch.Tensor]] = {}

    def __len__(self) -> int:
        """Return the number of models M."""
        return len(self._models)

    def graph(self, atoms: Atoms) -> Neighbours:
        """Return a structure with all its edges up to the cutoff.

        Periodic structures are MACE's own business. For the others MACE makes up a box that grows
        with the atoms' distance from the origin, and the search through it takes seconds once a
        fragment is 100 Å away; a tree does not mind. The box matters for nothing but stress, which
        they lack.
        """
        if atoms.pbc.any():
            return Neighbours(
                atoms,
                *get_neighborhood(
                    atoms.positions, self.r_max, pbc=tuple(atoms.pbc), cell=atoms.cell.array.copy()
                ),
            )
        pairs = cKDTree(atoms.positions).query_pairs(self.r_max, output_type="ndarray").T
        edges = np.concatenate([pairs, pairs[::-1]], axis=1)
        none = np.zeros((edges.shape[1], 3))
        return Neighbours(atoms, edges, none, none, np.identity(3))

    def edges(self, graph: Neighbours) -> int:
        """Return the number of a graph's edges."""
        return graph.edges.shape[1]

    def evaluate(self, batch: Sequence[Neighbours], stress: bool) -> Outputs:
        """Predict the structures of one batch.

        Raises:
            ModelError: A structure has an element that the models were not made for.
        """
        inputs = self._inputs(batch)
        # A copy a member: with stress, the model puts strained positions in place of the given.
        outputs = [model(dict(inputs), compute_stress=stress) for model in self._models]
        return Outputs(
            energies=_gather(outputs, "energy"),
            forces=_gather(outputs, "forces"),
            stresses=_gather(outputs, "stress") if stress else None,
        )

    def inputs(self, atoms: Atoms) -> dict[str, torch.Tensor]:
        """Return one structure as `forward` of MACE's models reads it."""
        return self._inputs([MaceEvaluator.graph(self, atoms)])

    def _inputs(self, batch: Sequence[Neighbours]) -> dict[str, torch.Tensor]:
        """Return the batched graph under the names that MACE's `forward` reads."""
        starts = np.cumsum([0] + [len(graph.atoms) for graph in batch[:-1]])
        edges = [graph.edges + start for graph, start in zip(batch, starts, strict=True)]
        edge_index = np.concatenate(edges, axis=1).astype(np.int64)
        return self._layout([graph.atoms.numbers for graph in batch]) | {
            "positions": self._float([graph.atoms.positions for graph in batch]),
            "edge_index": torch.from_numpy(edge_index).to(self.device),
            "shifts": self._float([graph.shifts for graph in batch]),
            "unit_shifts": self._float([graph.unit_shifts for graph in batch]),
            "cell": self._float([graph.cell for graph in batch]),
        }

    def _layout(self, numbers: Sequence[NDArray[np.integer]]) -> dict[str, torch.Tensor]:
        """Return what depends on the atoms' kinds alone; kept, since MD asks for the same again."""
        key = tuple(structure.tobytes() for structure in numbers)
        if key not in self._layouts:
            if len(self._layouts) >= _LAYOUTS:
                self._layouts.clear()
            sizes = np.array([len(structure) for structure in numbers])
            index = self._indices(np.concatenate(numbers))
            layout = {
                "node_attrs": self._float([np.eye(len(self.elements))[index]]),
                "batch": torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)),
                "ptr": torch.from_numpy(np.concatenate([[0], np.cumsum(sizes)])),
                "head": torch.full((len(sizes),), self._head),
            }
            self._layouts[key] = {name: value.to(self.device) for name, value in layout.items()}
        return self._layouts[key]

    def _indices(self, numbers: NDArray[np.integer]) -> NDArray[np.intp]:
        """Return the models' index of each atom's element."""
        index = self._element_index[numbers]
        if (index < 0).any():
            unknown = sorted({int(z) for z in numbers[index < 0]})
            raise ModelError(f"the models do not know the elements with atomic numbers {unknown}")
        return index

    def _float(self, arrays: Sequence[NDArray[Any]]) -> torch.Tensor:
        return torch.from_numpy(np.concatenate(arrays)).to(self.device, self.dtype)


def _gather(outputs: Sequence[dict[str, torch.Tensor]], name: str) -> Array:
    """Return one output of all members, shape (M, …), copied from the device in one piece."""
    return torch.stack([output[name].detach() for output in outputs]).double().cpu().numpy()


def _shared_cutoff(models: Sequence[Any]) -> float:
    """Return the cutoff radius (Å) of all the models."""
    cutoffs = {float(model.r_max) for model in models}
    if len(cutoffs) > 1:
        raise ModelError(f"the models of a committee differ in r_max: {sorted(cutoffs)} Å")
    return cutoffs.pop()


def _shared_elements(models: Sequence[Any]) -> tuple[int, ...]:
    """Return the atomic numbers that all the models know, in the models' order."""
    elements = {tuple(int(z) for z in model.atomic_numbers) for model in models}
    if len(elements) > 1:
        raise ModelError(f"the models of a committee differ in their elements: {sorted(elements)}")
    if any(hasattr(model, "joint_embedding") for model in models):
        raise ModelError("models that are conditioned on charge, spin or the like cannot be used")
    return elements.pop()


def _head(model: Any) -> int:
    """Return the index of the head to use: `Default`, else the last, as MACE's calculator does."""
    heads = [str(head).lower() for head in getattr(model, "heads", None) or ["default"]]
    return heads.index("default") if "default" in heads else len(heads) - 1
