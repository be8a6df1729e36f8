"""What a compiled form of the network is made for, as the name of a folder."""

from __future__ import annotations

import hashlib
import platform
import sys
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from aimspax_core.model.mace.lean.compiling import Example, tensors

_LENGTH = 20
"""Digits of a name."""


def key_of(example: Example) -> str:
    """Return the name of all that a form depends on but its size, in digits.

    That is the network, number format and device; torch, Python and our own code; the machine,
    since a form is code for its processor; and the number of threads that is built in.
    """
    inputs = example.inputs
    fixed = tensors(example.weights, example.tables, inputs)[: -len(_tensors_of(inputs))]
    parts = (
        example.shape,
        [(tuple(one.shape), one.dtype, one.requires_grad) for one in fixed],
        [(one.shape[1:], one.dtype) for one in inputs[:3]],
        torch.__version__,
        sys.version,
        torch.get_num_threads(),
        _code(),
        _processor(inputs.harmonics.device),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:_LENGTH]


def _tensors_of(inputs: object) -> list[Tensor]:
    return list(pytree.tree_leaves(inputs))


@cache
def _code() -> str:
    """Return the digits of the code that is compiled."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


@cache
def _processor(device: torch.device) -> str:
    """Return what code for this processor, or this GPU, may use."""
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        return f"{torch.cuda.get_device_name(device)} {capability}"
    found = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return f"{found} {platform.processor()}"
    told = {line for line in lines if line.startswith(("flags", "Features", "model name"))}
    return f"{found} {sorted(told)}"
