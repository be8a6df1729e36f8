"""What this process may use of the machine that it runs on, and which worker it is."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess

WORKER_ADDRESS = "AIMSPAX_WORKER_ADDRESS"
"""Environment variable of a worker's process: the worker's address."""

PATIENCE_S = 30
"""How long the driver has to answer."""

log = logging.getLogger(f"aimspax.{__name__}")


def visible_gpus() -> tuple[str, ...]:
    """Return their names as CUDA_VISIBLE_DEVICES has them: numbers or identifiers.

    Without that variable they are what `nvidia-smi` lists; torch, which would know too, takes
    seconds to import. A driver that does not answer has none.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(name.strip() for name in named.split(",") if name.strip())
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    try:
        listed = subprocess.run(
            [program, "-L"], capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("%s does not answer, so no GPU is counted: %s", program, error)
        return ()
    count = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    return tuple(str(number) for number in range(count))


def machine_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS


def worker_address() -> str:
    """Return the address of the worker that this process is; empty if it is none."""
    return os.environ.get(WORKER_ADDRESS, "")
