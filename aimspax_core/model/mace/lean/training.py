"""MACE's own interface in training, computed by the lean network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from aimspax_core.errors import ModelError
from aimspax_core.model.mace.lean import outputs
from aimspax_core.model.mace.lean.applicable import why_not
from aimspax_core.model.mace.lean.derivatives import Derived, Inputs, derived, energies
from aimspax_core.model.mace.lean.geometry import Geometry, geometry, no_geometry
from aimspax_core.model.mace.lean.neighbours import Table, half, no_table, table
from aimspax_core.model.mace.lean.shape import shape, tables
from aimspax_core.model.mace.lean.weights import Weights, weights

Form = Callable[[Weights, Inputs], Derived | None]
"""Another way to compute `derived` in training; none for a batch that it is not made for."""


class Lean(torch.nn.Module):
    """A MACE model, called as MACE's `train_one_epoch` and `evaluate` call it.

    The model stays the owner of parameters, buffers and their names; each call reads their present
    values, and gradients reach them. What MACE's losses and metrics do not read is not computed.

    Args:
        model: A model of MACE.

    Attributes:
        model: As given.
        shape: The network's.
        tables: Its constants.
        form: What computes batches in training where it can; none: `derived` computes all.

    Raises:
        ModelError: The model has no lean form; see `why_not`.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        why = why_not(model)
        if why is not None:
            raise ModelError(f"no lean form: {why}")
        self.model: Any = model
        self.shape = shape(model)
        self.tables = tables(model)
        self.form: Form | None = None

    def forward(
        self,
        data: dict[str, Tensor],
        training: bool = False,
        compute_force: bool = True,
        compute_virials: bool = False,
        compute_stress: bool = False,
    ) -> dict[str, Tensor | None]:
        """Predict a batch of MACE's graphs.

        Args:
            data: `Batch.to_dict()` of N atoms in G graphs; each edge comes with its way back.
            training: Keep what `backward` needs to reach the parameters from the forces.
            compute_force: Also predict forces.
            compute_virials: Also predict virials, and forces.
            compute_stress: Also predict stress, virials and forces.

        Returns:
            By MACE's names `energy` (G, in eV), `forces` (N × 3, eV/Å), `virials` (G × 3 × 3, eV)
            and `stress` (G × 3 × 3, eV/Å³); None for what was not asked for.
        """
        inputs, here = self.read(data)
        neighbours, kinds = inputs.neighbours, inputs.kinds
        graphs = outputs.Graphs(data["batch"], data["cell"].view(-1, 3, 3))
        own = weights(self.shape, [self.model])
        strained = compute_virials or compute_stress
        found: dict[str, Tensor | None] = dict.fromkeys(("forces", "virials", "stress"))
        if compute_force or strained:
            atoms, by_harmonics, by_length = self._derived(own, inputs, training)
            by_vectors = here.pull_back(by_harmonics, by_length)
            found["forces"] = outputs.forces(by_vectors, neighbours, len(kinds))[0]
        else:
            atoms = energies(self.shape, self.tables, own, inputs)
        free = own.elements.index_select(1, kinds)
        energy = (graphs.total(free) + graphs.total(atoms))[0]
        if strained:
            virials = outputs.virials(by_vectors, here.vectors, neighbours, graphs)[0]
            stress = outputs.stress(virials, graphs.cells)
            found |= {"virials": virials, "stress": stress}
        return found | {"energy": energy if training else energy.detach()}

    def read(self, data: dict[str, Tensor]) -> tuple[Inputs, Geometry]:
        """Return what the network is told of a batch, and the batch's geometry."""
        kinds = data["node_attrs"].argmax(dim=1)
        here, neighbours = self._around(data, kinds)
        return Inputs(here.harmonics, here.radial, here.radial_slope, neighbours, kinds), here

    def _derived(self, own: Weights, inputs: Inputs, training: bool) -> Derived:
        """Return energies and their derivatives, by the form that is made for the batch."""
        found = self.form(own, inputs) if training and self.form is not None else None
        if found is not None:
            return found
        return derived(self.shape, self.tables, own, inputs, trained=training)

    def _around(self, data: dict[str, Tensor], kinds: Tensor) -> tuple[Geometry, Table]:
        """Return the batch's geometry and neighbours."""
        edges, positions = data["edge_index"], data["positions"].detach()
        one = half(edges, data["unit_shifts"])
        if len(one) == 0:
            return no_geometry(self.model, positions), no_table(positions, len(kinds))
        senders, receivers = edges[:, one]
        vectors = positions[receivers] - positions[senders] + data["shifts"][one]
        return (
            geometry(self.model, vectors, senders, receivers, kinds),
            table(senders, receivers, vectors, len(kinds)),
        )
