"""Inputs that a command has read and checked, for the flow that it runs in the same process.

A deployed flow has only its parameters, and reads the run directory itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

_inputs: ContextVar[object] = ContextVar("inputs handed over", default=None)


@contextlib.contextmanager
def hand_over(inputs: object) -> Iterator[None]:
    """Let the flow that is called in the block use these inputs instead of reading them again."""
    token = _inputs.set(inputs)
    try:
        yield
    finally:
        _inputs.reset(token)


def handed_over(kind: type[T]) -> T | None:
    """Return the inputs of a class that were handed over to this flow; None if there are none."""
    inputs = _inputs.get()
    return inputs if isinstance(inputs, kind) else None
