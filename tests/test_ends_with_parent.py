"""Processes that end with the one that began them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from aimspax_core import ends_with_parent

PROGRAM = ends_with_parent.__name__

BEGINS = f"""
import os, subprocess, sys
command = [sys.executable, "-m", {PROGRAM!r}, str(os.getpid()), "imports_for_ever"]
print(subprocess.Popen(command).pid, flush=True)
"""


def written(folder: Path, name: str, text: str) -> dict[str, str]:
    """Write a module; return the environment in which it is found."""
    (folder / f"{name}.py").write_text(text)
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}


def test_it_ends_while_it_still_imports_if_who_began_it_is_gone(tmp_path: Path) -> None:
    text = "import time\ntime.sleep(600)\n"
    environment = written(tmp_path, "imports_for_ever", text)
    # It is over once nobody holds its output any more.
    done = subprocess.run(
        [sys.executable, "-c", BEGINS], env=environment, stdout=subprocess.PIPE, timeout=300,
        check=True,
    )  # fmt: skip
    assert int(done.stdout) > 1


def test_it_is_the_module_with_its_arguments_and_its_exit_code(tmp_path: Path) -> None:
    text = "import sys\nprint(__name__, *sys.argv[1:])\nsys.exit(3)\n"
    environment = written(tmp_path, "program", text)
    command = [sys.executable, "-m", PROGRAM, str(os.getpid()), "program", "a", "b"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.stdout.split(), done.returncode) == (["__main__", "a", "b"], 3)
