"""Files of geometries that tests write, and what is read of them or said against them."""

from __future__ import annotations

from pathlib import Path

import pytest

from aimspax_core.errors import StructureError
from aimspax_core.settings.geometries.files import Geometry, read_file


def geometry(folder: Path, name: str, content: str) -> Geometry:
    """Return what is read of a file with this content."""
    (folder / name).write_text(content, encoding="utf-8")
    return read_file(folder / name)


def refused(folder: Path, name: str, content: str) -> str:
    """Return why a file with this content is refused."""
    with pytest.raises(StructureError) as found:
        geometry(folder, name, content)
    return str(found.value)
