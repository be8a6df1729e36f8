"""A committee of models, each evaluated once on batches of many structures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, compress
from typing import Any, Protocol

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from aimspax_core.prediction import Prediction

Array = NDArray[np.float64]

_FARTHEST = 1e5
"""No coordinate (Å) beyond this is meant; searches for neighbours overflow or never end there."""


@dataclass(frozen=True)
class Outputs:
    """What M models say about a batch of n structures with N atoms in all.

    Attributes:
        energies: Shape (M, n), in eV.
        forces: Shape (M, N, 3), in eV/Å; the structures one after the other.
        stresses: Shape (M, n, 3, 3), in eV/Å³, with ASE's sign; None if it was not asked for.
        dipoles: Shape (M, n, 3), in e·Å, about the origin; None if the models predict none.
        hirshfeld_ratios: Shape (M, N), likewise.
    """

    energies: Array
    forces: Array
    stresses: Array | None
    dipoles: Array | None = None
    hirshfeld_ratios: Array | None = None


class Evaluator(Protocol):
    """M models of one family, put side by side by the family; they share elements and cutoff.

    Notes:
        The evaluator takes the models over: they are moved to the device and number format,
        set to evaluation, and their parameters no longer ask for gradients. Train copies.

    Attributes:
        dtype: The number format that they compute in.
        elements: Atomic numbers that they know.
        r_max: Their cutoff radius (Å).
        max_edges: Most edges in one batch (a single structure may have more).
    """

    dtype: torch.dtype
    elements: tuple[int, ...]
    r_max: float
    max_edges: float

    def __len__(self) -> int:
        """Return the number of models M."""
        ...

    def graph(self, atoms: Atoms) -> Any:
        """Return a structure as `evaluate` reads it; positions and cell are finite."""
        ...

    def edges(self, graph: Any) -> int:
        """Return the number of a graph's edges, which evaluating it costs."""
        ...

    def evaluate(self, batch: Sequence[Any], stress: bool) -> Outputs:
        """Predict the structures of one batch.

        Args:
            batch: What `graph` returned; sizes, compositions and periodicities may be mixed.
            stress: Whether to predict stress as well; that of structures that are not periodic in
                all directions is not looked at.

        Raises:
            ModelError: A structure has an element that the models were not made for.
        """
        ...


class Committee:
    """Models evaluated side by side. A single model is a committee of one, with no spread.

    Args:
        evaluator: The models.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator

    def __len__(self) -> int:
        """Return the number of members M."""
        return len(self.evaluator)

    def evaluate(self, structures: Sequence[Atoms], stress: bool = False) -> list[Prediction]:
        """Predict energy, forces and, if asked for, stress of each structure.

        Args:
            structures: Any number of structures. One whose positions or cell are not finite, or
                beyond 1e5 Å, is left out of the batch, so that it changes nothing for the others.
            stress: Whether to predict stress as well.

        Returns:
            One prediction a structure, in order; NaN throughout for a structure left out.

        Raises:
            ModelError: A structure has an element that the models were not made for.
        """
        usable = [_is_usable(atoms) for atoms in structures]
        graphs = [(atoms, self.evaluator.graph(atoms)) for atoms in compress(structures, usable)]
        predictions = chain.from_iterable(
            self._evaluate(batch, stress) for batch in self._batches(graphs)
        )
        return [
            next(predictions) if good else self._nothing(len(atoms))
            for atoms, good in zip(structures, usable, strict=True)
        ]

    def _batches(self, graphs: Sequence[tuple[Atoms, Any]]) -> Iterator[list[tuple[Atoms, Any]]]:
        """Yield graphs, in order, in lists of at most `max_edges` edges, or of one."""
        batch: list[tuple[Atoms, Any]] = []
        edges = 0
        for atoms, graph in graphs:
            own = self.evaluator.edges(graph)
            if batch and edges + own > self.evaluator.max_edges:
                yield batch
                batch, edges = [], 0
            batch.append((atoms, graph))
            edges += own
        if batch:
            yield batch

    def _evaluate(self, batch: Sequence[tuple[Atoms, Any]], stress: bool) -> list[Prediction]:
        """Predict the structures of one batch."""
        found = self.evaluator.evaluate([graph for _, graph in batch], stress)
        stresses = None if found.stresses is None else found.stresses.mean(axis=0)
        mean_energies, mean_forces = found.energies.mean(axis=0), found.forces.mean(axis=0)
        ends = np.cumsum([len(atoms) for atoms, _ in batch])
        predictions = []
        for i, ((atoms, _), end) in enumerate(zip(batch, ends, strict=True)):
            own = slice(end - len(atoms), end)
            periodic = atoms.pbc.all()
            predictions.append(
                Prediction(
                    energy=float(mean_energies[i]),
                    forces=mean_forces[own],
                    member_energies=found.energies[:, i],
                    member_forces=found.forces[:, own],
                    stress=stresses[i] if stresses is not None and periodic else None,
                    beside=_beside(found, i, own),
                )
            )
        return predictions

    def _nothing(self, n_atoms: int) -> Prediction:
        """Return the prediction of a structure that could not be evaluated: NaN throughout."""
        members = len(self)
        return Prediction(
            energy=float("nan"),
            forces=np.full((n_atoms, 3), np.nan),
            member_energies=np.full(members, np.nan),
            member_forces=np.full((members, n_atoms, 3), np.nan),
        )


def _beside(found: Outputs, structure: int, own: slice) -> dict[str, Array]:
    """Return the means of what is predicted of a structure beside energy, forces and stress."""
    beside = {}
    if found.dipoles is not None:
        beside["dipole"] = found.dipoles[:, structure].mean(axis=0)
    if found.hirshfeld_ratios is not None:
        beside["hirshfeld_ratios"] = found.hirshfeld_ratios[:, own].mean(axis=0)
    return beside


def _is_usable(atoms: Atoms) -> bool:
    """Return whether positions and cell are in bounds; NaN is not."""
    positions, cell = np.abs(atoms.positions), np.abs(atoms.cell.array)
    return bool((positions < _FARTHEST).all() and (cell < _FARTHEST).all())
