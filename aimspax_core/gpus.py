"""The GPUs of this machine that this process may use."""

from __future__ import annotations

import os
import shutil
import subprocess


def visible_gpus() -> tuple[str, ...]:
    """Return their names as CUDA_VISIBLE_DEVICES has them: numbers or identifiers.

    Without that variable they are what `nvidia-smi` lists; torch, which would know too, takes
    seconds to import.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(name.strip() for name in named.split(",") if name.strip())
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    listed = subprocess.run(
        [program, "-L"], capture_output=True, text=True, timeout=30, check=False
    )
    count = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    return tuple(str(number) for number in range(count))
