"""All loggers are one tree, whose root has the handlers of a run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [
    file for room in ("aimspax_core", "tasks", "flows") for file in (ROOT / room).rglob("*.py")
]
OTHERS = ("distributed", "prefect")
"""Loggers of others that we silence or filter."""


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_logger_is_a_child_of_aimspax(file: Path) -> None:
    named = re.findall(r"getLogger\(f?\"?([^\")]*)", file.read_text(encoding="utf-8"))
    ours = [name for name in named if not name.startswith(OTHERS) and name != "chatty"]
    assert [name for name in ours if name.partition(".")[0] != "aimspax"] == []
