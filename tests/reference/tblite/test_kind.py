"""What is said before a GFN-xTB engine is made."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import tblite

ASK = """
from pathlib import Path
from aimspax_core.errors import SettingsError
from aimspax_core.reference.interface import Use
from aimspax_core.reference.tblite.kind import TBLITE
from aimspax_core.reference.tblite.section import TbliteReference

here, section = Path("."), TbliteReference(engine="tblite")
print(*(f"{found.key}: {found.text}" for found in TBLITE.check(section, Use(here))))
try:
    TBLITE.make(section, here)
except SettingsError as error:
    print(error)
"""


def asked(*folders: Path) -> list[str]:
    """What a fresh process says that finds packages in these folders first."""
    path = os.pathsep.join(map(str, (*folders, Path(__file__).parents[3])))
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [line for line in done.stdout.splitlines() if line]


def test_a_library_that_does_not_load_is_a_mistake_with_its_remedy(tmp_path: Path) -> None:
    """As on a bare Linux, which has not the OpenMP library that tblite is linked to."""
    shutil.copytree(Path(tblite.__file__).parent, tmp_path / "tblite")
    (library,) = (tmp_path / "tblite").glob("_libtblite*")
    library.write_bytes(b"")
    for said in asked(tmp_path):
        assert said.startswith("engine: tblite cannot be loaded (")
        assert library.name in said
        assert "apt install libgomp1" in said


def test_nothing_is_said_of_one_that_loads() -> None:
    assert asked() == []
