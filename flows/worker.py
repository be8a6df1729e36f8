"""What every local worker does first; Dask runs `dask_setup` when the worker starts."""

from __future__ import annotations

import os

from distributed import Worker

GPUS = "AIMSPAX_GPUS"
"""Environment variable that lists the GPUs of a pool, for its workers to share."""


def dask_setup(worker: Worker) -> None:
    """Leave the terminal's process group, and see one GPU only; torch is not imported yet.

    Ctrl-C is for the flow, which then ends its workers.
    """
    os.setpgrp()
    gpus = [name for name in os.environ.get(GPUS, "").split(",") if name]
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[int(worker.name) % len(gpus)]
