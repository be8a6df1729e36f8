"""A form of the network beside the eager one: whether it computes the same, and faster."""

from __future__ import annotations

import time
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from aimspax_core.model.mace.lean.compiling import Example
from aimspax_core.model.mace.lean.derivatives import Derived, derived
from aimspax_core.model.mace.lean.training import Form

_TURNS = 3
"""How often either computes; the first time warms up."""


class Trial(NamedTuple):
    """How a form did.

    Attributes:
        apart: The largest difference of a gradient, by the largest gradient.
        faster: The eager form's time by its own, both the least of some.
    """

    apart: float
    faster: float


def tried(form: Form, example: Example) -> Trial | None:
    """Let a form and the eager one take turns on a batch; none if it does not take that."""
    own = example.alone().weights
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(_TURNS):
        began = time.perf_counter()
        theirs = derived(example.shape, example.tables, own, example.inputs, trained=True)
        wanted = _gradients(theirs, own)
        between = time.perf_counter()
        ours = form(own, example.inputs)
        if ours is None:
            return None
        found = _gradients(ours, own)
        times[0].append(between - began)
        times[1].append(time.perf_counter() - between)
    scale = float(wanted.abs().max())
    apart = float((wanted - found).abs().max())
    return Trial(apart / scale if scale > 0 else apart, min(times[0]) / min(times[1]))


def _gradients(found: Derived, own: object) -> Tensor:
    """Return, on the CPU, what the weights' gradients of any function of all results are."""
    weights = [one for one in pytree.tree_leaves(own) if one.requires_grad]
    parts = [one.square().sum() / (1 + one.detach().square().sum()) for one in found]
    gradients = torch.autograd.grad(torch.stack(parts).sum(), weights, allow_unused=True)
    return torch.cat([one.flatten() for one in gradients if one is not None]).cpu()
