"""So3krates and SO3LR models side by side on one batched graph of many structures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms

from aimspax_core.errors import ModelError
from aimspax_core.model.committee import Array, Outputs
from aimspax_core.model.number_format import number_format
from aimspax_core.model.so3krates.graphs import Graph, structure_graph, unlabelled
from aimspax_core.model.so3krates.heads import for_us, heads_of
from aimspax_core.model.so3krates.network import call, elements_of
from aimspax_core.settings.families.so3krates import USUAL_FAR
from aimspax_core.structures import symbols_text

_CPU_EDGES = 4000
"""A CPU's batches are cut here."""


class So3kratesEvaluator:
    """Models that share elements and cutoffs; see `aimspax_core.model.committee.Evaluator`.

    Args:
        models: M models; they are taken over.
        device: Where to evaluate.
        dtype: `float32` or `float64`; None keeps the first model's.
        kernel: `MISC.kernel`; there is one way to compute.

    Raises:
        ModelError: No model, or models that do not fit together.
    """

    def __init__(
        self,
        models: Sequence[torch.nn.Module],
        device: str | torch.device = "cpu",
        dtype: str | None = None,
        kernel: str = "auto",
    ) -> None:
        if not models:
            raise ModelError("a committee needs at least one model")
        own = next(models[0].parameters()).dtype
        self.dtype = getattr(torch, dtype) if dtype else own
        self._format = str(self.dtype).removeprefix("torch.")
        self._device = torch.device(device)
        self.elements = _shared("elements", [elements_of(model) for model in models])
        self.r_max, self._r_far = _shared("cutoff radii", [_cutoffs(model) for model in models])
        self.max_edges = _CPU_EDGES if self._device.type == "cpu" else math.inf
        self._models = [
            for_us(model).to(self._device, self.dtype).eval().requires_grad_(False)
            for model in models
        ]
        self._heads = [heads_of(model) for model in self._models]

    def __len__(self) -> int:
        """Return the number M of models, or of the heads of those that have several."""
        return sum(self._heads)

    def graph(self, atoms: Atoms) -> Graph:
        """Return a structure with all its neighbours.

        Raises:
            ModelError: It has an element that the models were not made for.
        """
        if unknown := set(atoms.numbers.tolist()) - set(self.elements):
            raise ModelError(f"the models do not know {symbols_text(unknown)}")
        return structure_graph(atoms, self.r_max, self._r_far)

    def edges(self, graph: Graph) -> int:
        """Return the number of pairs of near neighbours, which cost the most."""
        return graph.near.index.shape[1]

    def evaluate(self, batch: Sequence[Graph], stress: bool) -> Outputs:
        """Predict the structures of one batch."""
        inputs = unlabelled(batch, self.dtype).to(self._device)
        with number_format(self._format):
            outputs = [
                call(
                    model,
                    inputs | {"positions": inputs.positions.clone()},
                    compute_stress=stress,
                )
                for model in self._models
            ]
        structures, atoms = len(batch), len(inputs.positions)
        return Outputs(
            energies=self._gathered(outputs, "energy", structures),
            forces=self._gathered(outputs, "forces", atoms, 3),
            stresses=self._gathered(outputs, "stress", structures, 3, 3) if stress else None,
            dipoles=self._gathered_if_any(outputs, "dipole", structures, 3),
            hirshfeld_ratios=self._gathered_if_any(outputs, "hirshfeld_ratios", atoms),
        )

    def _gathered(self, outputs: Sequence[dict[str, Any]], name: str, *shape: int) -> Array:
        """Return one output of all members, (M, …), copied from the device in one piece.

        What a model with several heads predicts once is that of each of them.
        """
        each = [
            output[name].detach().reshape(-1, *shape).expand(heads, *shape)
            for output, heads in zip(outputs, self._heads, strict=True)
        ]
        found: Any = torch.cat(each).double().cpu().numpy()
        return np.asarray(found)

    def _gathered_if_any(
        self, outputs: Sequence[dict[str, Any]], name: str, *shape: int
    ) -> Array | None:
        """Return the same, or None if the models do not predict it."""
        if any(output.get(name) is None for output in outputs):
            return None
        return self._gathered(outputs, name, *shape)


def _shared(what: str, found: Sequence[Any]) -> Any:
    """Return what all the models have in common."""
    if any(one != found[0] for one in found):
        raise ModelError(f"the models of a committee differ in their {what}: {_each(found)}")
    return found[0]


def _each(found: Sequence[Any]) -> str:
    """Return what there is, each once."""
    return ", ".join(dict.fromkeys(str(one) for one in found))


def _cutoffs(model: Any) -> tuple[float, float | None]:
    """Return near and far cutoff radius (Å); a model that leaves its long range open is given it.

    The SO3LR of the package does, since its calculator is told.
    """
    if not getattr(model, "use_lr", False):
        return float(model.r_max), None
    for key, usual in USUAL_FAR.items():
        if getattr(model, key, None) is None:
            setattr(model, key, usual)
    return float(model.r_max), float(model.r_max_lr)
