"""Slurm's programs, variables and module are named in one file of the flows, and in no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
OWN = ROOT / "flows" / "pools" / "jobs" / "slurm.py"
FILES = sorted(
    file for room in ("flows", "tasks") for file in (ROOT / room).rglob("*.py") if file != OWN
)
_PROGRAMS = r"squeue|sbatch|scancel|scontrol|sacct|sinfo|srun"
_SLURM = re.compile(rf"({_PROGRAMS}|SLURM_\w*|SBATCH_\w*|.*flows[./]pools[./]jobs[./]slurm.*)")


def _spoken(source: str) -> Iterator[str]:
    """What a file says to Slurm: texts that name a program or variable, and imports of ours."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if _SLURM.fullmatch(node.value):
                yield node.value
        elif isinstance(node, ast.ImportFrom):
            for name in (f"{node.module}.{one.name}" for one in node.names):
                if name.startswith("flows.pools.jobs.slurm"):
                    yield name
        elif isinstance(node, ast.Import):
            yield from (one.name for one in node.names if _SLURM.fullmatch(one.name))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_else_speaks_slurm(file: Path) -> None:
    assert not [*_spoken(file.read_text(encoding="utf-8"))]


def test_the_one_file_does() -> None:
    assert {"squeue", "sbatch", "scancel", "scontrol"} <= {*_spoken(OWN.read_text())}


@pytest.mark.parametrize(
    "source",
    [
        "run(['squeue', '-h'])", "os.environ['SLURM_JOB_ID']",
        "from flows.pools.jobs import slurm", "from flows.pools.jobs.slurm import left",
        "import flows.pools.jobs.slurm",
    ],
)  # fmt: skip
def test_it_would_be_found(source: str) -> None:
    assert [*_spoken(source)]
