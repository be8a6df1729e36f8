"""MACE's own interface in training, computed by the lean network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aimspax_core.errors import ModelError
from aimspax_core.model.mace.lean import outputs
from aimspax_core.model.mace.lean.applicable import why_not
from aimspax_core.model.mace.lean.geometry import Geometry, geometry, no_geometry
from aimspax_core.model.mace.lean.neighbours import Table, half, no_table, table
from aimspax_core.model.mace.lean.network import node_energies
from aimspax_core.model.mace.lean.radial import along_lengths, path_weights
from aimspax_core.model.mace.lean.shape import shape, tables
from aimspax_core.model.mace.lean.weights import weights


class Lean(torch.nn.Module):
    """A MACE model, called as MACE's `train_one_epoch` and `evaluate` call it.

    The model stays the owner of parameters, buffers and their names; each call reads their present
    values, and gradients reach them. What MACE's losses and metrics do not read is not computed.

    Args:
        model: A model of MACE.

    Raises:
        ModelError: The model has no lean form; see `why_not`.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        why = why_not(model)
        if why is not None:
            raise ModelError(f"no lean form: {why}")
        self.model: Any = model
        self._shape = shape(model)
        self._tables = tables(model)

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
        kinds = data["node_attrs"].argmax(dim=1)
        here, neighbours = self._read(data, kinds)
        graphs = outputs.Graphs(data["batch"], data["cell"].view(-1, 3, 3))
        own = weights(self._shape, [self.model])
        strained = compute_virials or compute_stress
        harmonics = here.harmonics.unsqueeze(0)
        if compute_force or strained:
            harmonics.requires_grad_()
        both = [path_weights(layer, here.radial, here.radial_slope) for layer in own.layers]
        # Also in validation, where MACE has the weights ask for no gradients.
        strengths = [strength.requires_grad_() for strength, _ in both]
        atoms = node_energies(
            self._shape, self._tables, own, harmonics, strengths, neighbours, kinds
        )
        free = own.elements.index_select(1, kinds)
        energy = (graphs.total(free) + graphs.total(atoms))[0]
        found: dict[str, Tensor | None] = dict.fromkeys(("forces", "virials", "stress"))
        if compute_force or strained:
            by_harmonics, *by_strengths = torch.autograd.grad(
                atoms.sum(), [harmonics, *strengths], retain_graph=training, create_graph=training
            )
            by_length = along_lengths(by_strengths, [slope for _, slope in both])
            by_vectors = here.pull_back(by_harmonics, by_length)
            found["forces"] = outputs.forces(by_vectors, neighbours, len(kinds))[0]
        if strained:
            virials = outputs.virials(by_vectors, here.vectors, neighbours, graphs)[0]
            stress = outputs.stress(virials, graphs.cells)
            found |= {"virials": virials, "stress": stress}
        return found | {"energy": energy if training else energy.detach()}

    def _read(self, data: dict[str, Tensor], kinds: Tensor) -> tuple[Geometry, Table]:
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
