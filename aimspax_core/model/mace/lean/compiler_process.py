"""What compiles aside: `python -m …compiler_process FOLDER THREADS < REQUEST`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO

import torch

from aimspax_core.locks import held
from aimspax_core.model.mace.lean.compiling import FAILED, FORM, LOCK, compile_form
from aimspax_core.safe_files import write_text

_LEVEL = 5
"""How nice it is to others. Among workers that are busy, much more would take it half an hour."""


def main(request: IO[bytes], folder: Path, threads: int) -> None:
    """Compile what is asked for into a folder, unless another process does so, or has done so."""
    os.nice(_LEVEL)
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
        main(asked_for, Path(sys.argv[1]), int(sys.argv[2]))
