"""Folders of geometries: which of their files are geometries by their names."""

from __future__ import annotations

import re
from pathlib import Path

from ase.io.formats import ioformats

from aimspax_core.errors import StructureError
from aimspax_core.text import and_list

_OTHERS = re.compile(
    r"[^.].*(~|\.(swp|md|rst|pdf|png|jpe?g|svg|ya?ml|toml|py|sh|ipynb|csv))"
    r"|#.*#|(readme|license|notes|control\.in|aimspax\.ya?ml|thumbs\.db|desktop\.ini)(\.txt)?",
    re.IGNORECASE,
)
"""Names in a folder of geometries that are no geometries'."""

_COPIES = re.compile(r".+\.(bak|orig|tmp)", re.IGNORECASE)
"""Copies; `POSCAR.orig` is a geometry by its name all the same."""


def geometry_files(path: Path) -> list[Path]:
    """Return the geometry files of a path: the file itself, or those of a folder by name.

    Files of a folder whose names say that they are something else are left out: `other_files`.

    Raises:
        StructureError: Nothing there.
    """
    if not path.exists():
        raise StructureError(f"{path}: no such file or folder")
    if not path.is_dir():
        return [path]
    others = other_files(path)
    files = sorted(
        p for p in path.iterdir() if p.is_file() and not p.name.startswith(".") and p not in others
    )
    if not files:
        passed = f"; none by their names: {and_list(p.name for p in others)}" if others else ""
        raise StructureError(f"{path}: the folder holds no geometry files{passed}")
    return files


def other_files(path: Path) -> list[Path]:
    """Return the files of a folder of geometries that are none by their names.

    Such are editors' backups, what explains the folder, and inputs of other kinds.
    """
    if not path.is_dir():
        return []
    return sorted(p for p in path.iterdir() if p.is_file() and _is_other(p.name))


def _is_other(name: str) -> bool:
    if _OTHERS.fullmatch(name):
        return True
    return _COPIES.fullmatch(name) is not None and not _is_geometry_name(name)


def _is_geometry_name(name: str) -> bool:
    """Whether a file's name, not its suffix, says that it is a geometry."""
    return any(kind.can_read and kind.match_name(name) for kind in ioformats.values())
