"""Compile the network with its derivatives for one size of batches.

`torch.compile` does not see through a gradient that is taken inside, so the network and its first
derivatives are traced to one flat list of operations (`make_fx`), which torch's compiler then
compiles ahead of time, together with its derivative by the weights. What comes out is one file
that `torch.compiler.load_compiled_function` loads in about a second; the shared libraries that it
names lie beside it. To load it is to run what is in it, so that it lies in a folder that nobody
else can write to (`private_folders`).
"""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from aimspax_core.model.mace.lean.derivatives import Derived, Inputs, derived
from aimspax_core.model.mace.lean.shape import LayerTables, Shape
from aimspax_core.model.mace.lean.weights import Weights
from aimspax_core.safe_files import replacing

FORM, FAILED, LIBRARIES, LOCK = "form", "failed", "libraries", "lock"
"""In the folder of a compiled form: the form, or why there is none; its shared libraries; and who
makes or removes it."""


class Example(NamedTuple):
    """What a network is compiled for: sizes, number format and device count, numbers do not.

    Attributes:
        shape: The network's.
        weights: Which need a gradient tells which the compiled form returns one of.
        tables: Its constants.
        inputs: A padded batch.
    """

    shape: Shape
    weights: Weights
    tables: tuple[LayerTables, ...]
    inputs: Inputs

    def alone(self) -> Example:
        """Return a copy that hangs on no other tensors."""

        def copied(one: Tensor) -> Tensor:
            return one.detach().clone().requires_grad_(one.requires_grad)

        own, tables, inputs = pytree.tree_map(copied, self[1:])
        return Example(self.shape, own, tables, inputs)

    def tensors(self) -> list[Tensor]:
        """Return all tensors, in the order in which a compiled form takes them."""
        return tensors(self.weights, self.tables, self.inputs)


def tensors(own: Weights, tables: tuple[LayerTables, ...], inputs: Inputs) -> list[Tensor]:
    """Return all tensors, in the order in which a compiled form takes them."""
    flat: list[Tensor] = pytree.tree_leaves((own, tables, inputs))
    return flat


def compile_form(example: Example, folder: Path) -> None:
    """Compile, and write the form to a folder; it appears complete or not at all."""
    alone = example.alone().tensors()
    function = torch.compile(_traced(example, alone), dynamic=False, fullgraph=True)
    compiled: Any = function.aot_compile((tuple(alone), {}))  # type: ignore[attr-defined]
    with replacing(folder / FORM) as path:
        compiled.save_compiled_function(str(path))


def _traced(example: Example, alone: list[Tensor]) -> Any:
    """Return the network with its derivatives as a plain function of tensors."""
    _, spec = pytree.tree_flatten((example.weights, example.tables, example.inputs))

    def network(*flat: Tensor) -> Derived:
        own, tables, inputs = pytree.tree_unflatten(list(flat), spec)
        return derived(example.shape, tables, own, inputs, trained=True, plain=True)

    graph = make_fx(network)(*alone)
    # A function of the module's code, as a module itself cannot be saved with what is compiled.
    found = {node.target for node in graph.graph.nodes if node.op == "get_attr"}
    assert not found, f"constants in the graph: {found}"
    source = graph.code.replace("def forward(self, ", "def forward(", 1)
    scope = dict(type(graph).forward.__globals__)
    exec(compile(source, "<the lean network>", "exec"), scope)
    return types.FunctionType(scope["forward"].__code__, scope, "network")
