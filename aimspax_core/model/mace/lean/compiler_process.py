"""What compiles aside: `python -m …compiler_process FOLDER PARENT THREADS < REQUEST`."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import IO

import torch

from aimspax_core.locks import held
from aimspax_core.model.mace.lean.compiling import FAILED, FORM, LOCK, compile_form
from aimspax_core.safe_files import write_text

_LEVEL = 5
"""How nice it is to others. Among workers that are busy, much more would take it half an hour."""

LOOK_S = 2.0
"""How often it looks whether the process that began it is still there."""


def end_with(parent: int) -> None:
    """End this process when the one that began it is gone."""
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    os._exit(1)


def main(request: IO[bytes], folder: Path, parent: int, threads: int) -> None:
    """Compile what is asked for into a folder, unless another process does so, or has done so."""
    os.nice(_LEVEL)
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(threads)
    with held(folder / LOCK) as lock:
        if lock is None or (folder / FORM).exists():
            return
        try:
            asked = torch.load(request, weights_only=False)
            torch.set_default_dtype(asked.inputs.harmonics.dtype)
            compile_form(asked, folder)
        # A compiler may fail in any way; the text is for the log of the worker that asked.
        except Exception as error:
            write_text(folder / FAILED, f"{type(error).__name__}: {error}"[:2000])
            raise


if __name__ == "__main__":
    with open(sys.stdin.fileno(), "rb", closefd=False) as asked_for:
        main(asked_for, Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
