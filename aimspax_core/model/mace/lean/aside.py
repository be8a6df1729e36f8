"""A process that compiles a form of the network while training goes on without it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from aimspax_core.locks import held
from aimspax_core.model.mace.lean.compiling import LIBRARIES, Example
from aimspax_core.safe_files import replacing

_LOCK, _REQUEST, _OUTPUT = "lock", "request", "output"
"""Beside what it makes: who makes it, what was asked for, and what it printed."""


@dataclass(frozen=True)
class Aside:
    """A process aside.

    Attributes:
        process: It ends with this one; or writes why it failed (`compiling.FAILED`).
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
            OSError: The folder cannot be written to.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The child inherits the lock, and holds it as long as it lives.
        with held(folder / _LOCK, wait_s=0.0) as lock:
            if lock is None:
                return None
            with replacing(folder / _REQUEST, private=True) as path:
                torch.save(example.alone(), path)
            threads = torch.get_num_threads()
            module = "aimspax_core.model.mace.lean.compiler_process"
            arguments = [str(folder / _REQUEST), str(os.getpid()), str(threads)]
            with environment(folder), (folder / _OUTPUT).open("wb") as output:
                return cls(
                    subprocess.Popen(
                        [sys.executable, "-m", module, *arguments],
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        pass_fds=(lock.fileno(),),
                    )
                )


@contextmanager
def environment(folder: Path) -> Iterator[None]:
    """Have torch's compiler keep its files in a form's folder, and start no processes."""
    wanted = {
        "TORCHINDUCTOR_CACHE_DIR": str(folder / LIBRARIES),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
