"""A process that compiles a form of the network while training goes on without it.

It takes the lock of the form's folder itself, and holds it as long as it lives: so one compiles
also where file systems have no locks that a child could inherit. Of two that begin at once the one
that comes too late ends without having made anything.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch

from aimspax_core import ends_with_parent
from aimspax_core.environment import changed_environment
from aimspax_core.locks import holder
from aimspax_core.model.mace.lean.compiling import LIBRARIES, LOCK, Example
from aimspax_core.model.mace.lean.private_folders import make_private

_OUTPUT = "output"
"""Beside what it makes: what it printed."""


@dataclass(frozen=True)
class Aside:
    """A process aside.

    Attributes:
        process: It ends with this one; or writes why it failed (`compiling.FAILED`). It ends with
            0 also if another has made the form, or makes it.
    """

    process: subprocess.Popen[bytes]

    @staticmethod
    def obstacle(device: torch.device) -> str | None:
        """Return why compiling cannot begin, if so."""
        compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
        if device.type == "cpu" and shutil.which(compiler) is None:
            return f"no C++ compiler: {compiler} is not on the PATH (CXX names another)"
        headers = Path(sysconfig.get_path("include"))
        if not (headers / "Python.h").is_file():
            return f"Python's headers are not in {headers} (on Debian: apt install python3-dev)"
        return None

    @classmethod
    def begin(cls, folder: Path, example: Example) -> Aside | None:
        """Begin to compile into a folder; none if another process does so.

        Raises:
            OSError: The folder cannot be written to, or others can.
        """
        make_private(folder)
        if holder(folder / LOCK) is not None:
            return None
        module = "aimspax_core.model.mace.lean.compiler_process"
        command = [sys.executable, "-m", ends_with_parent.__name__, str(os.getpid()), module]
        # The request has no name: nobody else can read it, or leave another in its place.
        with tempfile.TemporaryFile(dir=folder) as request:
            content = io.BytesIO()  # torch does not say of a disk that it is full
            torch.save(example.alone(), content)
            request.write(content.getbuffer())
            request.seek(0)
            with environment(folder), (folder / _OUTPUT).open("ab") as output:
                return cls(
                    subprocess.Popen(
                        [*command, str(folder), str(torch.get_num_threads())],
                        stdin=request,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                    )
                )


def environment(folder: Path) -> AbstractContextManager[None]:
    """Have torch's compiler keep its files in a form's folder, and start no processes."""
    return changed_environment(
        {
            "TORCHINDUCTOR_CACHE_DIR": str(folder / LIBRARIES),
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
        }
    )
