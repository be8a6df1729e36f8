"""Torch's default number format, changed for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def number_format(dtype: str) -> Iterator[None]:
    """Make `dtype` ("float32" or "float64") torch's default within the block.

    MACE's own `default_dtype` does not restore it after an exception, and models of So3krates set
    it for good. The default belongs to the process: threads that work at the same time must use
    the same format.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        yield
    finally:
        torch.set_default_dtype(before)
