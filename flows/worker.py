"""What every local worker does first; Dask runs `dask_setup` when the worker starts."""

from __future__ import annotations

import os
from typing import Any


def dask_setup(_: Any) -> None:
    """Leave the terminal's process group: Ctrl-C is for the flow, which then ends its workers."""
    os.setpgrp()
