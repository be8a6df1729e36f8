"""A reference that counts: GFN2-xTB beside a process of its own, each calculation noted in a file.

Used by an `aimspax` in another process: `REFERENCE: {engine: ase, calculator:
tests.soak.counted.Counted}`.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

COUNTS = "AIMSPAX_SOAK_COUNTS"
"""Environment variable: the file to which each beginning and each end of a calculation goes."""

SECONDS = "AIMSPAX_SOAK_SECONDS"
"""Environment variable: how long the process of a calculation takes."""

NAME = "aimspax-soak-engine"
"""The last word of the command line of a calculation's process."""


@dataclass(frozen=True)
class Count:
    """A beginning or an end of a calculation.

    Attributes:
        structure: See `digest`.
        what: `begins` or `ends`.
        time: Seconds since the epoch.
    """

    structure: str
    what: str
    time: float


def digest(numbers: Any, positions: Any) -> str:
    """Return what a structure is known by here."""
    content = np.asarray(positions, dtype=float).tobytes() + bytes(int(z) for z in numbers)
    return hashlib.sha256(content).hexdigest()[:16]


def counts(file: Path) -> list[Count]:
    """Read what calculations have noted."""
    if not file.exists():
        return []
    return [Count(**json.loads(line)) for line in file.read_text().splitlines()]


class Counted(Calculator):
    """GFN2-xTB, after a process that takes its time and may be killed."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Any = None,
        system_changes: Any = all_changes,
    ) -> None:
        from tblite.ase import TBLite

        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        structure = digest(self.atoms.numbers, self.atoms.positions)
        _note(structure, "begins")
        seconds = os.environ.get(SECONDS, "0")
        subprocess.run(["sh", "-c", f"sleep {seconds}; true", NAME], check=True)
        copy = self.atoms.copy()
        copy.calc = TBLite(method="GFN2-xTB", verbosity=0)
        self.results = {"energy": copy.get_potential_energy(), "forces": copy.get_forces()}
        _note(structure, "ends")


def _note(structure: str, what: str) -> None:
    line = json.dumps({"structure": structure, "what": what, "time": time.time()}) + "\n"
    file = os.open(os.environ[COUNTS], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode())
        os.fsync(file)
    finally:
        os.close(file)
