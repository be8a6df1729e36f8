"""Structures and labels as graphs, and graphs in batches under the names the network reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ase
import numpy as np
import torch
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from so3krates_torch.data.neighborhood import get_neighborhood

from aimspax_core.errors import ModelError
from aimspax_core.settings.families.so3krates import far_cutoff, so3krates_architecture
from aimspax_core.settings.model import ModelSettings
from aimspax_core.structures import symbols_text

Array = NDArray[np.float64]
_DEFAULT = "Default"


@dataclass(frozen=True, eq=False)
class Edges:
    """Pairs of neighbours: index (2, E), shifts (E, 3) in Å, unit shifts (E, 3)."""

    index: NDArray[np.int64]
    shifts: Array
    units: Array


@dataclass(frozen=True, eq=False)
class Graph:
    """A structure of N atoms with its neighbours, and its labels or None.

    Attributes:
        numbers: Atomic numbers (N,).
        positions: (N, 3), Å.
        cell: (3, 3), Å.
        charge: Total charge (e).
        unpaired: Number of unpaired electrons.
        near: Neighbours within `r_max`.
        far: Neighbours within `r_max_lr`, if the model has a long range.
        weight: Weight of the structure in the loss.
        energy: eV.
        forces: (N, 3), eV/Å.
        stress: (3, 3), eV/Å³; of structures that are periodic in all directions alone.
        dipole: (3,), e·Å, about the origin; of structures that are periodic in no direction alone.
        hirshfeld_ratios: (N,), Hirshfeld volumes over those of free atoms.
    """

    numbers: NDArray[np.int64]
    positions: Array
    cell: Array
    charge: float
    unpaired: float
    near: Edges
    far: Edges | None
    weight: float = 1.0
    energy: float | None = None
    forces: Array | None = None
    stress: Array | None = None
    dipole: Array | None = None
    hirshfeld_ratios: Array | None = None


def structure_graph(atoms: ase.Atoms, r_max: float, r_far: float | None, **labels: Any) -> Graph:
    """Return a structure with all its neighbours.

    `info["charge"]` (e) and `info["spin"]` (multiplicity) are 0 and 1 where they are missing.
    """
    near, far, cell = _edges(atoms, r_max, r_far)
    return Graph(
        numbers=atoms.numbers.astype(np.int64),
        positions=atoms.positions.copy(),
        cell=cell,
        charge=float(atoms.info.get("charge") or 0.0),
        unpaired=float(atoms.info.get("spin") or 1.0) - 1.0,
        near=near,
        far=far,
        **labels,
    )


def graphs(
    structures: Sequence[ase.Atoms], elements: Sequence[int], settings: ModelSettings
) -> list[Graph]:
    """Turn structures, labelled or not, into graphs; see `family.MakeGraphs`.

    Raises:
        ModelError: A structure has an element that the models do not know.
    """
    architecture = so3krates_architecture(settings)
    known = {int(z) for z in elements}
    weights = settings.TRAINING.config_type_weights
    made = []
    for index, atoms in enumerate(structures):
        if unknown := set(atoms.numbers.tolist()) - known:
            raise ModelError(
                f"structure {index} ({atoms.get_chemical_formula()}) has {symbols_text(unknown)}, "
                f"but the models know only {symbols_text(known)}"
            )
        kind = atoms.info.get("config_type", _DEFAULT)
        made.append(
            structure_graph(
                atoms,
                architecture.r_max,
                far_cutoff(architecture),
                weight=float(weights.get(kind, 1.0)),
                energy=_energy(atoms),
                forces=atoms.arrays.get("REF_forces"),
                stress=_stress(atoms),
                **_beside(atoms, settings),
            )
        )
    return made


class Batch(dict[str, torch.Tensor]):
    """Several graphs under the names that network and losses read, as items and attributes."""

    def __getattr__(self, name: str) -> torch.Tensor:
        """Return an item."""
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def to(self, device: torch.device | str) -> Batch:
        """Return it on a device."""
        return Batch({name: value.to(device) for name, value in self.items()})


def collated(data: Sequence[Graph], dtype: torch.dtype) -> Batch:
    """Return graphs as one batch with their labels, whose weight is zero where one is missing."""
    sizes = [len(graph.numbers) for graph in data]

    def real(values: Any) -> torch.Tensor:
        return torch.as_tensor(np.asarray(values, dtype=np.float64)).to(dtype)

    def has(name: str) -> torch.Tensor:
        return real([getattr(graph, name) is not None for graph in data])

    def known(name: str, *shapes: tuple[int, ...]) -> list[Array]:
        found = (getattr(graph, name) for graph in data)
        return [np.zeros(s) if one is None else one for one, s in zip(found, shapes, strict=True)]

    per_atom, cells, vectors = [(n,) for n in sizes], [(3, 3)] * len(data), [(3,)] * len(data)
    forces = known("forces", *((n, 3) for n in sizes))
    return Batch(
        unlabelled(data, dtype)
        | {
            "weight": real([graph.weight for graph in data]),
            "energy": real([graph.energy or 0.0 for graph in data]),
            "forces": real(np.concatenate(forces)),
            "stress": real(np.stack(known("stress", *cells))),
            "dipole": real(np.stack(known("dipole", *vectors))),
            "hirshfeld_ratios": real(np.concatenate(known("hirshfeld_ratios", *per_atom))),
            "energy_weight": has("energy"),
            "forces_weight": has("forces"),
            "stress_weight": has("stress"),
            "dipole_weight": has("dipole"),
            "hirshfeld_ratios_weight": has("hirshfeld_ratios"),
            "sizes": torch.tensor(sizes),
        }
    )


def unlabelled(data: Sequence[Graph], dtype: torch.dtype) -> Batch:
    """Return graphs as one batch without their labels."""
    sizes = np.array([len(graph.numbers) for graph in data])
    starts = np.cumsum(sizes) - sizes

    def real(values: Any) -> torch.Tensor:
        return torch.as_tensor(np.asarray(values, dtype=np.float64)).to(dtype)

    numbers = torch.from_numpy(np.concatenate([graph.numbers for graph in data]))
    batch = Batch(
        positions=real(np.concatenate([graph.positions for graph in data])),
        cell=real(np.concatenate([graph.cell for graph in data])),
        atomic_numbers=numbers,
        node_attrs=torch.nn.functional.one_hot(numbers - 1, 118).to(dtype),
        batch=torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)),
        ptr=torch.from_numpy(np.concatenate([[0], np.cumsum(sizes)])),
        head=torch.zeros(len(sizes), dtype=torch.long),
        total_charge=real([graph.charge for graph in data]),
        total_spin=real([graph.unpaired / 2 for graph in data]),
    )
    _add_edges(batch, "", [graph.near for graph in data], starts, dtype)
    far = [graph.far for graph in data if graph.far is not None]
    if far:
        _add_edges(batch, "_lr", far, starts, dtype)
    return batch


def _add_edges(
    batch: Batch, ending: str, edges: Sequence[Edges], starts: NDArray[np.int64], dtype: torch.dtype
) -> None:
    index = np.concatenate([e.index + at for e, at in zip(edges, starts, strict=True)], axis=1)
    batch[f"edge_index{ending}"] = torch.from_numpy(index)
    for name, parts in (
        ("shifts", [e.shifts for e in edges]),
        ("unit_shifts", [e.units for e in edges]),
    ):
        batch[f"{name}{ending}"] = torch.from_numpy(np.concatenate(parts)).to(dtype)


def _edges(
    atoms: ase.Atoms, r_max: float, r_far: float | None
) -> tuple[Edges, Edges | None, Array]:
    """Return near and far neighbours, and the cell.

    As for MACE, the package makes up a box for structures that are not periodic, which grows with
    the atoms' distance from the origin; a tree does not mind.
    """
    if not atoms.pbc.any():
        far = None if r_far is None else _pairs(atoms.positions, r_far)
        return _pairs(atoms.positions, r_max), far, np.identity(3)
    near, shifts, units, cell, *long = get_neighborhood(
        atoms.positions, r_max, r_far, tuple(atoms.pbc), atoms.cell.array.copy()
    )
    far = None if r_far is None else _made(*long)
    return _made(near, shifts, units), far, np.asarray(cell, dtype=np.float64)


def _made(index: Any, shifts: Any, units: Any) -> Edges:
    return Edges(
        np.asarray(index, dtype=np.int64),
        np.asarray(shifts, dtype=np.float64),
        np.asarray(units, dtype=np.float64),
    )


def _pairs(positions: Array, radius: float) -> Edges:
    pairs = cKDTree(positions).query_pairs(radius, output_type="ndarray").T
    index = np.concatenate([pairs, pairs[::-1]], axis=1)
    none = np.zeros((index.shape[1], 3))
    return _made(index, none, none)


def _energy(atoms: ase.Atoms) -> float | None:
    energy = atoms.info.get("REF_energy")
    return None if energy is None else float(energy)


def _beside(atoms: ase.Atoms, settings: ModelSettings) -> dict[str, Array]:
    """Return what labels have beside energy, forces and stress, where it is looked at.

    What is only carried along may be of any shape; in another one than a label's it is none.
    """
    places = {"dipole": atoms.info, "hirshfeld_ratios": atoms.arrays}
    found = {name: places[name].get(f"REF_{name}") for name in settings.measured}
    if atoms.pbc.any():
        found.pop("dipole", None)
    shapes = {"dipole": (3,), "hirshfeld_ratios": (len(atoms),)}
    read = {name: _numbers(value, shapes[name]) for name, value in found.items()}
    return {name: value for name, value in read.items() if value is not None}


def _numbers(value: Any, shape: tuple[int, ...]) -> Array | None:
    """Return finite numbers of a shape; None of anything else."""
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return numbers if numbers.shape == shape and np.isfinite(numbers).all() else None


def _stress(atoms: ase.Atoms) -> Array | None:
    """Return the label of a structure that is periodic in all directions."""
    stress = atoms.info.get("REF_stress")
    if stress is None or not atoms.pbc.all():
        return None
    stress = np.asarray(stress, dtype=np.float64)
    return stress.reshape(3, 3) if stress.size == 9 else voigt_6_to_full_3x3_stress(stress)
