"""Features of atoms in a MACE network that no rotation changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from aimspax_core.model.mace.evaluator import MaceEvaluator


def invariants(model: Any, structures: Sequence[Atoms]) -> list[NDArray[np.float64]]:
    """Return the scalar features of each atom after every layer, by MACE's own network.

    Args:
        model: As trained; whichever form its training and MD have, its weights are MACE's.
        structures: Any number of structures.

    Returns:
        Of each structure of N atoms, (N, layers * channels).

    Raises:
        ModelError: A structure has an element that the model does not know.
    """
    evaluator = MaceEvaluator([model], next(model.parameters()).device)
    return [_of(model, evaluator.inputs(atoms)) for atoms in structures]


def _of(model: Any, inputs: dict[str, torch.Tensor]) -> NDArray[np.float64]:
    """Return the scalars of all layers: the first of their features, as many as are embedded."""
    with _Kept(model.node_embedding, *model.products) as kept, torch.no_grad():
        model(inputs, compute_force=False)
    embedded, *layers = kept.outputs
    scalars = [layer[:, : embedded.shape[1]] for layer in layers]
    return torch.cat(scalars, dim=1).double().cpu().numpy()


class _Kept:
    """Keeps what the blocks of a network return, while it is entered."""

    def __init__(self, *blocks: torch.nn.Module) -> None:
        self._blocks = blocks
        self.outputs: list[torch.Tensor] = []

    def __enter__(self) -> _Kept:
        """Begin to keep."""
        self._hooks = [block.register_forward_hook(self._keep) for block in self._blocks]
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the network as it was."""
        for hook in self._hooks:
            hook.remove()

    def _keep(self, _: torch.nn.Module, __: Any, output: torch.Tensor) -> None:
        self.outputs.append(output.detach())
